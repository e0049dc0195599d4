"""What this package offers to pyworkflow; light to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from pyworkflow.errors import ConfigError
from pyworkflow.ports import Storage, hookimpl

if TYPE_CHECKING:
    from pyworkflow_sqlite.storage import SQLiteStorage


def sqlite(
    place: str,
    *,
    synchronous: Literal["full", "normal"] = "full",
    busy_timeout: timedelta = timedelta(seconds=30),
    silent_limit: timedelta = timedelta(seconds=60),
) -> SQLiteStorage:
    """Make the storage of ``sqlite:///relative.db`` or ``sqlite:////absolute.db``."""
    path = place.removeprefix("/")
    if not path or not place.startswith("/"):
        msg = "it needs the path of a file: sqlite:///workflows.db (relative) or sqlite:////var/workflows.db (absolute)"
        raise ConfigError(msg)
    from pyworkflow_sqlite.storage import SQLiteStorage

    return SQLiteStorage(path, synchronous=synchronous, busy_timeout=busy_timeout, silent_limit=silent_limit)


@hookimpl
def pyworkflow_storages() -> Mapping[str, Callable[..., Storage]]:
    """Offer ``sqlite``."""
    return {"sqlite": sqlite}
