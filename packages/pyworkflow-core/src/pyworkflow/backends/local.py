"""The runtime for one process: the worker that begins a run executes it, on the caller's event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pyworkflow.authoring.context import token_digest
from pyworkflow.authoring.inbox import Inbox
from pyworkflow.engine.by_mode import RuntimeByMode, TransientRuntime
from pyworkflow.engine.options import WorkerOptions
from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.engine.step_runner import StepThreads
from pyworkflow.engine.transient import TransientRun
from pyworkflow.errors import ConfigError, HookClosed, RunExists, RunNotFound
from pyworkflow.events import Plain
from pyworkflow.ids import new_run_id
from pyworkflow.ports import StartRequest

if TYPE_CHECKING:
    from pyworkflow.engine.host import Host

REMEMBERED = 1000
"""Of so many transient runs that ended last the results are kept, for who asks late."""


class LocalRuntime(RuntimeByMode):
    """Runs in this process; durable ones are recovered by another process that opens the storage, should this one die.

    Args:
        app: The application.
        lease: For how long this process is believed to live after its last sign of life.
        sweep: How often it polls for runs that others left.
        threads: How many sync steps run at once.
        kept: How many sleeping workflows stay in memory.
        replay: Rebuild workflows from history before each decision, for tests of replay.
    """

    def __init__(
        self,
        app: Host,
        *,
        lease: timedelta = timedelta(seconds=10),
        sweep: timedelta = timedelta(seconds=1),
        threads: int = 32,
        kept: int = 1000,
        replay: bool = False,
    ) -> None:
        if sweep <= timedelta(0) or lease < 2 * sweep:
            msg = f"the lease ({lease}) of the local runtime has to be at least twice its sweep ({sweep})"
            raise ConfigError(msg)
        durable = StoredRuntime(app, WorkerOptions(lease, sweep, threads=threads, kept=kept, replay=replay))
        super().__init__(durable, LocalTransient(app, durable.threads))


class LocalTransient(TransientRuntime):
    """Transient runs as tasks of the caller's event loop."""

    def __init__(self, app: Host, threads: StepThreads) -> None:
        self.app = app
        self._threads = threads
        self._tasks: dict[str, asyncio.Task[Plain]] = {}
        self._ended: OrderedDict[str, asyncio.Task[Plain]] = OrderedDict()
        self._hooks: dict[str, Inbox] = {}

    async def start(self, request: StartRequest) -> str:
        """Start a run as a task."""
        run_id = request.run_id or request.idempotency_key or new_run_id()
        if self.knows(run_id):
            if request.idempotency_key is None:
                msg = f"there is a run {run_id!r} already"
                raise RunExists(msg)
            return run_id
        task = self._tasks[run_id] = asyncio.create_task(self._run(request, run_id))
        task.add_done_callback(lambda _: self._remember(run_id))
        return run_id

    def _remember(self, run_id: str) -> None:
        """Keep the result of a run that ended, and forget the oldest one if there are too many."""
        if (task := self._tasks.pop(run_id, None)) is not None:
            self._ended[run_id] = task
            if len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)

    async def call(self, request: StartRequest) -> Plain:
        """Execute a run in the caller's own task."""
        return await self._run(request, request.run_id or new_run_id())

    async def _run(self, request: StartRequest, run_id: str) -> Plain:
        run = TransientRun(run_id, self.app, self._threads, self._hooks)
        return await run.run(request.workflow, request.args, request.kwargs)

    @property
    def is_idle(self) -> bool:
        """Whether no run is in progress that was started."""
        return not self._tasks

    def knows(self, run_id: str) -> bool:
        """Whether it started this run, unless that was forgotten."""
        return run_id in self._tasks or run_id in self._ended

    async def result(self, run_id: str) -> Plain:
        """Wait for the end of a run."""
        return await asyncio.shield(self._task(run_id))

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:  # noqa: ARG002
        """Ask a run to stop; it is not terminated after *grace*."""
        self._task(run_id).cancel(reason or None)

    def _task(self, run_id: str) -> asyncio.Task[Plain]:
        task = self._tasks.get(run_id) or self._ended.get(run_id)
        if task is None:
            msg = f"there is no transient run {run_id!r} in this process"
            raise RunNotFound(msg)
        return task

    def has_hook(self, token: str) -> bool:
        """Whether one of the runs takes payloads for this token."""
        return token_digest(token) in self._hooks

    async def resume_hook(self, token: str, payload: Any) -> str:
        """Send a payload to a hook of one of the runs; no id is returned, as others cannot ask for the run."""
        digest = token_digest(token)
        inbox = self._hooks.get(digest)
        if inbox is None:
            msg = "no hook of a transient run in this process takes payloads for this token"
            raise HookClosed(msg)
        plain = inbox.encode(payload)
        if not inbox.many:
            del self._hooks[digest]
        inbox.put(plain)
        return ""

    async def close(self, grace: float = 0.0) -> None:  # noqa: ARG002 -- transient runs are cancelled at once
        """Cancel the runs."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._ended.clear()
        self._threads.close()
