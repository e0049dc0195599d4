"""The functions of the package, on the default `App`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pyworkflow.definitions import Workflow
from pyworkflow.errors import WorkflowError

if TYPE_CHECKING:
    from pyworkflow.app import App
    from pyworkflow.handle import RunHandle
    from pyworkflow.model import Event, Page, Status

P = ParamSpec("P")
R = TypeVar("R")


def _app() -> App:
    from pyworkflow.app import (
        default_app,  # importing the package is cheap; what runs workflows comes with the first one
    )

    return default_app()


def configure(**settings: Any) -> None:
    """Set how workflows run. What is not set here comes from ``PYWORKFLOW_…`` variables, then ``[tool.pyworkflow]``.

    Args:
        settings: ``storage``: where durable runs are kept, a config string such as ``"sqlite:///workflows.db"`` or a
            storage; ``default_runtime``: ``"local"``; ``default_durable``; ``default_retries``: 3; ``default_retry``:
            the policy of steps that name none; ``plugins``: names of plugins to load at once; ``allow_nan``: whether
            NaN and infinity may be stored, True; and the settings of plugins, which begin with the plugin's prefix.

    Raises:
        ConfigError: A setting is unknown, or its value makes no sense; the message names it and what is known.
    """
    _app().configure(**settings)


async def start(
    workflow: Workflow[P, R],
    *args: Any,
    run_id: str | None = None,
    idempotency_key: str | None = None,
    **kwargs: Any,
) -> RunHandle[R]:
    """Start a run and return its handle; a durable one survives this process from then on.

    Args:
        workflow: The workflow.
        args: Its arguments.
        run_id: The run's id, 1 to 200 letters, digits and ``. _ : ~ -``; by default a new UUID of version 7.
        idempotency_key: Start at most one run with this key; the handle is that of the run that has it.
        kwargs: Its keyword arguments.

    Raises:
        RunExists: The run id is taken, or the key belongs to a run of another workflow.
        Unstorable: An argument cannot be stored.
        TypeError: The arguments do not fit the workflow.
    """
    return await _app().start(workflow, args, kwargs, run_id=run_id, idempotency_key=idempotency_key)


def run(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Start a run from sync code, wait for its end, and return its result.

    Raises:
        WorkflowError: An event loop runs in this thread already; await the workflow there.
        Exception: What the workflow raised.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_run(workflow, args, kwargs))
    msg = f"pyworkflow.run() was called while an event loop runs in this thread; there: await {workflow.name}(…)"
    raise WorkflowError(msg)


async def _run(workflow: Workflow[..., R], args: Sequence[Any], kwargs: dict[str, Any]) -> R:
    app = _app()
    try:
        return await app.call(workflow, args, kwargs)
    finally:
        await app.close()


async def get_run(run_id: str, *, runtime: str | None = None) -> RunHandle[Any]:
    """Return the handle of a durable run.

    Raises:
        RunNotFound: There is no such run.
    """
    from pyworkflow.handle import RunHandle

    app = _app()
    keeper = app.recorded(runtime)
    run = await keeper.run(run_id)
    return RunHandle(run_id, keeper, app.registry.workflows.get(run.workflow))


async def list_runs(
    *,
    status: Status | str | None = None,
    workflow: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page:
    """Return durable runs, the newest first, in pages: ``runs``, and the ``cursor`` for the next page."""
    from pyworkflow.model import RunQuery, Status

    wanted = Status(status) if isinstance(status, str) else status
    return await _app().runs(RunQuery(wanted, workflow, created_after, created_before, limit, cursor))


async def history(run_id: str) -> Sequence[Event]:
    """Return the events of a durable run.

    Raises:
        RunNotFound: There is no such run.
    """
    return (await _app().recorded().history(run_id))[1]


async def cancel(run_id: str, reason: str = "") -> None:
    """Ask a run to stop: its workflow sees `asyncio.CancelledError` at its next await, and may clean up with steps.

    Raises:
        RunNotFound: There is no such run.
        RunEnded: It has ended already.
    """
    await _app().runtime().cancel(run_id, reason)


async def terminate(run_id: str, reason: str = "") -> None:
    """End a run now; no code of it runs any more.

    Raises:
        RunNotFound: There is no such run.
        RunEnded: It has ended already.
    """
    await _app().recorded().terminate(run_id, reason)


async def retry_run(run_id: str) -> None:
    """Let a blocked run go on, or a failed one do once more what failed; what was completed stays completed.

    Raises:
        RunNotFound: There is no such run.
        RunEnded: It is neither blocked nor failed.
    """
    await _app().recorded().retry(run_id)


def worker(*, runtime: str | None = None, grace: float = 10.0) -> AbstractAsyncContextManager[None]:
    """Return an async context in which this process takes over work: due runs, and runs whose process is dead.

    Args:
        runtime: Of which runtime; by default the default one.
        grace: Seconds that running steps get to end in when the context is left.
    """
    return _app().worker(runtime=runtime, grace=grace)
