"""What this package offers to pyworkflow; light to import."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from pyworkflow.ports import Mode, Runtime, RuntimeOffer, hookimpl

if TYPE_CHECKING:
    from pyworkflow.app import App


def threads(
    app: App,
    *,
    threads: int = 4,
    capacity: int = 8,
    lease: timedelta = timedelta(seconds=10),
    sweep: timedelta = timedelta(seconds=1),
) -> Runtime:
    """Make the runtime of ``threads?threads=4``."""
    from pyworkflow_threads.runtime import ThreadsRuntime

    return ThreadsRuntime(app, threads=threads, capacity=capacity, lease=lease, sweep=sweep)


@hookimpl
def pyworkflow_runtimes() -> Mapping[str, RuntimeOffer]:
    """Offer ``threads``."""
    refusals = {Mode.TRANSIENT: "Threads runtime is always durable. Use 'local' for transient workflows."}
    return {"threads": RuntimeOffer(threads, frozenset({Mode.DURABLE}), Mode.DURABLE, refusals)}
