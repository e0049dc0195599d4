"""The command line, ``pyworkflow``; it needs the extra ``cli``, which brings click and rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; the entry point of the script ``pyworkflow``.

    Args:
        args: By default those of the process.
    """
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"pyworkflow: the command line needs {' and '.join(missing)}: install pyworkflow-core with its extra "
            "'cli', e.g. pip install --find-links dist 'pyworkflow-core[cli]', after python3 dev.py nox -s dist in "
            "a clone\n"
        )
        return 2
    from pyworkflow.cli.root import cli

    try:
        cli.main(None if args is None else list(args), prog_name="pyworkflow")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    return 0
