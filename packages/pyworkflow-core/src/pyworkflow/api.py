"""The functions of the package, on the default `App`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pyworkflow.authoring.context import outside_workflow, step_context, workflow_context
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.config.durations import Duration, delta
from pyworkflow.errors import WorkflowError

if TYPE_CHECKING:
    from pyworkflow.app import App
    from pyworkflow.events import Event
    from pyworkflow.handle import RunHandle
    from pyworkflow.model import Hook, Page, Status
    from pyworkflow.ports import DurableRuntime

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _app(what: str) -> App:
    outside_workflow(f"pyworkflow.{what}()")
    from pyworkflow.app import (
        default_app,  # importing the package is cheap; what runs workflows comes with the first one
    )

    return default_app()


async def _recorded(what: str, question: Callable[[DurableRuntime], Coroutine[Any, Any, T]]) -> T:
    app = _app(what)
    from pyworkflow.handle import recorded

    return await app.ask(lambda runtime: question(recorded(runtime)))


def configure(**settings: Any) -> None:
    """Set how workflows run. What is not set here comes from ``PYWORKFLOW_…`` variables, then ``[tool.pyworkflow]``.

    Args:
        settings: ``storage``: where durable runs are kept, a config string such as ``"sqlite:///workflows.db"`` or a
            storage; ``default_runtime``: ``"local"``; ``default_durable``; ``default_retries``: 3; ``default_retry``:
            the policy of steps that name none; ``plugins``: names of plugins to load at once; ``allow_nan``: whether
            NaN and infinity may be stored, True; ``begin``: whether this process executes the durable runs that it
            starts, True; and the settings of plugins, which begin with the plugin's prefix.

    Raises:
        ConfigError: A setting is unknown, or its value makes no sense; the message names it and what is known.
    """
    _app("configure").configure(**settings)


async def start(
    workflow: Workflow[P, R],
    *args: Any,
    run_id: str | None = None,
    idempotency_key: str | None = None,
    begin: bool | None = None,
    **kwargs: Any,
) -> RunHandle[R]:
    """Start a run and return its handle; a durable one survives this process from then on.

    In a workflow this starts a run that goes on by itself, whatever becomes of the workflow; to wait for a run there,
    await the call of its workflow.

    Args:
        workflow: The workflow.
        args: Its arguments.
        run_id: The run's id, 1 to 200 letters, digits and ``. _ : ~ -``; by default a new UUID of version 7.
        idempotency_key: Start at most one run with this key; the handle is that of the run that has it.
        begin: Whether this process executes a durable run; False leaves it to workers. By default as configured.
        kwargs: Its keyword arguments.

    Raises:
        RunExists: The run id is taken, or the key belongs to a run of another workflow.
        Unstorable: An argument cannot be stored.
        TypeError: The arguments do not fit the workflow.
    """
    context = workflow_context.get()
    if context is not None and step_context.get() is None:
        child = await context.start_child(workflow, args, kwargs, run_id, idempotency_key)
        from pyworkflow.handle import RunHandle

        return RunHandle(child, None, workflow)  # type: ignore[arg-type]  # a workflow can ask it for its id alone
    return await _app("start").start(
        workflow, args, kwargs, run_id=run_id, idempotency_key=idempotency_key, begin=begin
    )


def run(workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Start a run from sync code, wait for its end, and return its result.

    Raises:
        WorkflowError: An event loop runs in this thread already; await the workflow there.
        Exception: What the workflow raised.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        app = _app("run")
        return app.engine_loop.run_sync(app.call(workflow, args, kwargs))
    msg = f"pyworkflow.run() was called while an event loop runs in this thread; there: await {workflow.name}(…)"
    raise WorkflowError(msg)


async def get_run(run_id: str, *, runtime: str | None = None) -> RunHandle[Any]:
    """Return the handle of a durable run.

    Raises:
        RunNotFound: There is no such run.
    """
    from pyworkflow.handle import RunHandle, recorded

    app = _app("get_run")
    run = await app.ask(lambda runtime: recorded(runtime).run(run_id), runtime)
    keeper, workflow = app.recorded(runtime), app.registry.workflows.get(run.workflow)
    return RunHandle(run_id, keeper, workflow, app.codec, app.engine_loop)


async def list_runs(
    *,
    status: Status | str | None = None,
    workflow: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Page:
    """Return durable runs, the newest first, in pages: ``runs``, and the ``cursor`` for the next page.

    Of *attributes*, which workflows set by `set_attributes`, each has to be as given.
    """
    from pyworkflow.model import RunQuery, Status

    wanted = Status(status) if isinstance(status, str) else status
    return await _app("list_runs").runs(
        RunQuery(wanted, workflow, created_after, created_before, limit, cursor, attributes or {})
    )


async def history(run_id: str) -> Sequence[Event]:
    """Return the events of a durable run.

    Raises:
        RunNotFound: There is no such run.
    """
    return (await _recorded("history", lambda runtime: runtime.history(run_id)))[1]


async def cancel(run_id: str, reason: str = "", *, grace: Duration | None = None) -> None:
    """Ask a run to stop: its workflow sees `asyncio.CancelledError` at its next await, and may clean up with steps.

    Asking again does not disturb the cleaning up. What the run waits for stops too: its children are cancelled, and a
    sync step that runs sees ``current_step().cancelled``.

    Args:
        run_id: The run.
        reason: For its history.
        grace: Terminate it if it has not ended after that time.

    Raises:
        RunNotFound: There is no such run.
        RunEnded: It has ended already.
    """
    limit = None if grace is None else delta(grace)
    await _app("cancel").ask(lambda runtime: runtime.cancel(run_id, reason, limit))


async def resume_hook(token: str, payload: Any = None) -> str:
    """Send *payload* to the hook with this token, from anywhere; return the id of its run, once that is recorded.

    Args:
        token: The hook's token.
        payload: A value of the type that the workflow gave the hook, or JSON values that make one.

    Raises:
        HookClosed: No hook takes payloads for the token: it had its payload, has expired, or never was.
        Unstorable: The payload does not fit the hook's type, or cannot be stored; the hook stays open.
    """
    return await _app("resume_hook").resume_hook(token, payload)


async def list_hooks(run_id: str | None = None) -> Sequence[Hook]:
    """Return open hooks, of one run or of all; their tokens only as SHA-256."""
    return await _recorded("list_hooks", lambda runtime: runtime.hooks(run_id))


async def terminate(run_id: str, reason: str = "") -> None:
    """End a run now; no code of it runs any more.

    Raises:
        RunNotFound: There is no such run.
        RunEnded: It has ended already.
    """
    await _recorded("terminate", lambda runtime: runtime.terminate(run_id, reason))


async def retry_run(run_id: str) -> None:
    """Let a blocked run go on, or a failed one do once more what failed; what was completed stays completed.

    Raises:
        RunNotFound: There is no such run.
        RunEnded: It is neither blocked nor failed.
    """
    await _recorded("retry_run", lambda runtime: runtime.retry(run_id))


def worker(*, runtime: str | None = None, grace: float = 10.0) -> AbstractAsyncContextManager[None]:
    """Return an async context in which this process takes over work: due runs, and runs whose process is dead.

    Args:
        runtime: Of which runtime; by default the default one.
        grace: Seconds that running steps get to end in when the context is left.
    """
    return _app("worker").worker(runtime=runtime, grace=grace)
