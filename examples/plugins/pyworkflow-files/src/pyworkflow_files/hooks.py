"""What this package offers to pyworkflow; light to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pyworkflow.errors import ConfigError
from pyworkflow.ports import Storage, hookimpl

if TYPE_CHECKING:
    from pyworkflow_files.storage import FileStorage


def files(place: str, *, compact: int = 16 * 1024 * 1024) -> FileStorage:
    """Make the storage of ``files:///relative`` or ``files:////absolute``."""
    path = place.removeprefix("/")
    if not path or not place.startswith("/"):
        msg = "it needs the path of a folder: files:///runs (relative) or files:////var/lib/runs (absolute)"
        raise ConfigError(msg)
    from pyworkflow_files.storage import FileStorage

    return FileStorage(path, compact=compact)


@hookimpl
def pyworkflow_storages() -> Mapping[str, Callable[..., Storage]]:
    """Offer ``files``."""
    return {"files": files}
