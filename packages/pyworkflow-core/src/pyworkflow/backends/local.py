"""The runtime for one process: the worker that begins a run carries it out, on the caller's event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pyworkflow.authoring.context import token_digest
from pyworkflow.authoring.inbox import Inbox
from pyworkflow.engine.options import WorkerOptions
from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.engine.transient import Transient
from pyworkflow.errors import ConfigError, RunExists
from pyworkflow.events import Plain
from pyworkflow.ids import new_run_id
from pyworkflow.ports import Mode, StartRequest

if TYPE_CHECKING:
    from pyworkflow.engine.host import Host


class LocalRuntime(StoredRuntime):
    """Runs in this process; durable ones are taken over by another process that opens the storage, should this one die.

    Args:
        app: The application.
        lease: For how long this process is believed to live after its last sign of life.
        sweep: How often it looks for runs that others left.
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
        super().__init__(app, WorkerOptions(lease, sweep, threads=threads, kept=kept, replay=replay))
        self._transient: dict[str, asyncio.Task[Plain]] = {}
        self._hooks: dict[str, Inbox] = {}
        self._threads: ThreadPoolExecutor | None = None

    async def start(self, request: StartRequest) -> str:
        """Start a run of either mode."""
        if request.mode is Mode.DURABLE:
            return await super().start(request)
        run_id = request.run_id or request.idempotency_key or new_run_id()
        if run_id in self._transient:
            if request.idempotency_key is None:
                msg = f"there is a run {run_id!r} already"
                raise RunExists(msg)
            return run_id
        self._transient[run_id] = asyncio.create_task(self._transient_run(request, run_id))
        return run_id

    async def call(self, request: StartRequest) -> Plain:
        """Carry a run out; a transient one in the caller's own task."""
        if request.mode is Mode.DURABLE:
            return await super().call(request)
        return await self._transient_run(request, request.run_id or new_run_id())

    async def _transient_run(self, request: StartRequest, run_id: str) -> Plain:
        transient = Transient(run_id, self.app, self._pool(), self._hooks)
        return await transient.run(request.workflow, request.args, request.kwargs)

    async def result(self, run_id: str) -> Plain:
        """Wait for the end of a run of either mode."""
        task = self._transient.get(run_id)
        return await (super().result(run_id) if task is None else asyncio.shield(task))

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:
        """Ask a run of either mode to stop; a transient one is not terminated after *grace*."""
        task = self._transient.get(run_id)
        if task is None:
            await super().cancel(run_id, reason, grace)
        else:
            task.cancel(reason or None)

    async def resume_hook(self, token: str, payload: Any) -> str:
        """Send a payload to a hook of a run of either mode."""
        inbox = self._hooks.get(token_digest(token))
        if inbox is None:
            return await super().resume_hook(token, payload)
        plain = inbox.encode(payload)
        if not inbox.many:
            del self._hooks[token_digest(token)]
        inbox.put(plain)
        return ""

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.options.threads, "pyworkflow-step")
        return self._threads

    async def close(self, grace: float = 0.0) -> None:
        """Close as in `StoredRuntime`; transient runs end with it."""
        await super().close(grace)
        for task in self._transient.values():
            task.cancel()
        await asyncio.gather(*self._transient.values(), return_exceptions=True)
        self._transient.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
