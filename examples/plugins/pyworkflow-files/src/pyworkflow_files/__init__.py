"""A storage for pyworkflow on plain files: one journal, one lock."""

from pyworkflow_files.storage import FileStorage

__all__ = ["FileStorage"]
