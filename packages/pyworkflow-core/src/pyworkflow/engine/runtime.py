"""A runtime whose runs are kept in a storage: everything durable is done here, whoever brings the messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pyworkflow.engine.child_runs import create_once
from pyworkflow.engine.control import RunControl
from pyworkflow.engine.heartbeat import Heartbeat
from pyworkflow.engine.options import WorkerOptions
from pyworkflow.engine.signals import Signals
from pyworkflow.engine.step_runner import StepThreads
from pyworkflow.engine.sweeper import Sweeper
from pyworkflow.engine.waiters import EndWaiters
from pyworkflow.engine.worker import Worker
from pyworkflow.errors import RunExists, StorageError
from pyworkflow.events import RULES, Plain, RunStarted
from pyworkflow.ids import new_run_id, new_seed
from pyworkflow.model import RUN_OP, History, Hook, Job, Page, Run, RunQuery, Status
from pyworkflow.ports import DurableRuntime, StartRequest

if TYPE_CHECKING:
    from pyworkflow.clock import Clock
    from pyworkflow.engine.host import Host
    from pyworkflow.ports import Storage


class StoredRuntime(DurableRuntime):
    """Runs that live in a storage, executed by workers that share it.

    There is one worker per process and event loop. A runtime with a queue of its own overrides `notify`, and has its
    workers call `work` or `turn`; that is all.

    Attributes:
        control: Reads runs, and writes to them what comes from outside.
    """

    begins = True
    """Whether a process that starts a run begins to execute it, and needs a worker for that."""

    heartbeat: Callable[..., Heartbeat] = Heartbeat
    """What shows that the worker lives; a simulation puts one without a thread in its place."""

    def __init__(self, app: Host, options: WorkerOptions | None = None) -> None:
        self.app = app
        self.options = options or WorkerOptions()
        self.control = RunControl(self)
        self.threads = StepThreads(self.options.threads)
        self._waiters = EndWaiters(self._holds)
        self._sweeper: Sweeper | None = None
        self._beginning: set[asyncio.Task[Run | None]] = set()

    @property
    def clock(self) -> Clock:
        """The clock of the application."""
        return self.app.clock

    async def storage(self) -> Storage:
        """Return the storage, open."""
        return await self.app.open_storage()

    # -- starting runs and waiting for them ----------------------------------------------

    async def start(self, request: StartRequest) -> str:
        """Create the run; the worker of this process begins at once, unless that is left to others."""
        workflow, now = request.workflow, self.clock.now()
        run = Run(request.run_id or new_run_id(), workflow.name, now, idempotency_key=request.idempotency_key)
        started = RunStarted(
            now, workflow.name, request.args, request.kwargs, new_seed(), fingerprint=workflow.fingerprint, rules=RULES
        )
        # In a task of its own: a caller that is cancelled meanwhile would leave a run that this worker holds by its
        # lease and does not know of (`Callers` in the kit cancels at each await).
        beginning = asyncio.create_task(self._begin(run, started, request))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)
        existing = await asyncio.shield(beginning)
        return run.id if existing is None else _same(run, existing, request)

    async def _begin(self, run: Run, started: RunStarted, request: StartRequest) -> Run | None:
        try:
            workflow = request.workflow
            if self.begins and request.begin:
                return await (await self.ensure_worker()).begin(run, started, workflow)
            job = Job(run.id, RUN_OP, started.at, workflow.name)
            existing = await create_once(await self.storage(), evolve(run, length=1), [started], [job])
        except StorageError:
            if self._sweeper is not None:
                self._sweeper.doubtful = True
            raise
        if existing is None:
            await self.notify([job])
        return existing

    async def call(self, request: StartRequest) -> Plain:
        """Start a run and wait for its end."""
        return await self.result(await self.start(request))

    async def result(self, run_id: str) -> Plain:
        """Wait for the end of the run, wherever it goes on."""
        return await self._waiters.result(run_id, await self.storage())

    def _holds(self, run_id: str) -> bool:
        worker = self.worker_here
        return worker is not None and run_id in worker.advancer.runs

    # -- hints, which queue-backed runtimes override ---------------------------------------

    def nudge(self, run_id: str) -> None:
        """Have the worker of this process see what was written to a run."""
        if (worker := self.worker_here) is not None:
            worker.advancer.woken(run_id)
            self.wake_at(self.clock.now())

    async def notify(self, jobs: Sequence[Job]) -> None:  # noqa: ARG002 -- for runtimes that send them on
        """Have somebody claim *jobs*, which became due just now.

        A hint: the jobs are in the storage, and every worker's sweep finds them if it is lost. Must not raise.
        """
        self.wake_at(self.clock.now())

    def wake_at(self, when: datetime) -> None:
        """Sweep for due jobs at *when*, if not before."""
        if self._sweeper is not None:
            self._sweeper.wake_at(when)

    # -- the worker of this process --------------------------------------------------------

    def workflows(self) -> Collection[str]:
        """Return the names of the workflows whose runs the worker claims."""
        return self.app.workflows_of(self)

    async def work(self) -> None:
        """Sweep for work from now on, until `close`."""
        await self.ensure_worker()

    async def ensure_worker(self) -> Worker:
        """Return the worker of this process and event loop; start it if there is none."""
        storage = await self.storage()
        if self._sweeper is None:
            heartbeat = type(self).heartbeat
            self._sweeper = Sweeper(self.clock, self.options, self.workflows, self.wake_at, heartbeat)
        return self._sweeper.start(storage, lambda name: self._worker(name, storage))

    def _worker(self, name: str, storage: Storage) -> Worker:
        app = self.app
        signals = Signals(self._waiters.settle, self.wake_at, self.notify, app.observer(), app.historian())
        return Worker(
            name=name,
            storage=storage,
            app=app,
            options=self.options,
            signals=signals,
            threads=self.threads,
            policy=app.retry_policy,
        )

    @property
    def is_idle(self) -> bool:
        """Whether no run is held here."""
        worker = self.worker_here
        return not self._beginning and (worker is None or (worker.is_idle and not worker.advancer.runs))

    @property
    def worker_here(self) -> Worker | None:
        """The worker of this process, if there is one."""
        return None if self._sweeper is None else self._sweeper.worker

    async def turn(self) -> None:
        """Sweep now; return once less is held than there are turns.

        For messages that stand for a share of a process, such as a task in a pool: as many last as there is work.
        """
        await self.ensure_worker()
        assert self._sweeper is not None  # noqa: S101 -- there is one with a worker
        await self._sweeper.turn()

    async def close(self, grace: float = 0.0) -> None:
        """Begin nothing more, give running steps *grace* seconds, release what is held."""
        here = asyncio.get_running_loop()
        await asyncio.gather(*(task for task in self._beginning if task.get_loop() is here), return_exceptions=True)
        if self._sweeper is not None:
            await self._sweeper.close(grace)

    async def crash(self) -> str | None:
        """Leave as a killed process does: nothing is written or released; return the worker's name. For tests."""
        return None if self._sweeper is None else await self._sweeper.crash()

    # -- what `control` does, as the contract of runtimes names it ---------------------------

    async def run(self, run_id: str) -> Run:
        """Return what is known of a run."""
        return await self.control.run(run_id)

    async def history(self, run_id: str) -> History:
        """Return a run and all its events."""
        return await self.control.history(run_id)

    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first."""
        return await self.control.runs(query)

    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        """Delete ended runs; return how many."""
        return await self.control.purge(before, statuses)

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:
        """Ask a run to stop, and terminate it if it has not ended after *grace*."""
        await self.control.cancel(run_id, reason, grace)

    async def terminate(self, run_id: str, reason: str = "") -> None:
        """End a run now; its children are asked to stop."""
        await self.control.terminate(run_id, reason)

    async def retry(self, run_id: str) -> None:
        """Let a blocked run go on, or a failed one do once more what failed."""
        await self.control.retry(run_id)

    async def resume_hook(self, token: str, payload: Any) -> str:
        """Send *payload* to the hook with this token; return the id of its run."""
        return await self.control.resume_hook(token, payload)

    async def hooks(self, run_id: str | None = None) -> list[Hook]:
        """Return open hooks, of one run or of all."""
        return await self.control.hooks(run_id)


def _same(run: Run, existing: Run, request: StartRequest) -> str:
    """Return the id of a run that was started under the same idempotency key before.

    Raises:
        RunExists: It has only the id in common, or is a run of another workflow.
    """
    key = request.idempotency_key if existing.idempotency_key == request.idempotency_key else None
    if existing.workflow != run.workflow:
        what = f"the run id {run.id!r}" if key is None else f"the idempotency key {key!r}"
        msg = f"{what} belongs to a run of workflow {existing.workflow!r} already, not of {run.workflow!r}"
        raise RunExists(msg)
    if key is None:
        msg = (
            f"there is a run {existing.id!r} already ({existing.status.value}); to get the existing run instead of "
            f"an error, start with an idempotency_key"
        )
        raise RunExists(msg)
    return existing.id
