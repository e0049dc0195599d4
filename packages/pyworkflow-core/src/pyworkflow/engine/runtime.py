"""A runtime whose runs are kept in a storage: everything durable is done here, whoever carries the jobs."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrs import evolve

from pyworkflow.codec.exceptions import rebuild
from pyworkflow.engine.child_runs import create_once
from pyworkflow.engine.control import StoredRuns
from pyworkflow.engine.heartbeat import Heartbeat
from pyworkflow.engine.options import WorkerOptions
from pyworkflow.engine.remote_steps import LAST
from pyworkflow.engine.worker import Worker
from pyworkflow.errors import (
    RunBlocked,
    RunCancelled,
    RunExists,
    RunNotFound,
    RunTerminated,
    StorageError,
)
from pyworkflow.events import Event, Plain, RunCompleted, RunContinued, RunFailed, RunStarted
from pyworkflow.events import RunBlocked as BlockedEvent
from pyworkflow.events import RunCancelled as CancelledEvent
from pyworkflow.events import RunTerminated as TerminatedEvent
from pyworkflow.ids import new_run_id, new_seed
from pyworkflow.model import RUN_OP, Job, Run, Status
from pyworkflow.ports import StartRequest

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Workflow
    from pyworkflow.engine.host import Host
    from pyworkflow.ports import Storage

__all__ = ["StoredRuntime", "WorkerOptions"]

logger = logging.getLogger(__name__)


class StoredRuntime(StoredRuns):
    """Runs that live in a storage, advanced by workers that share it.

    A worker is one per process and event loop. It takes jobs that are due, or whose worker is dead, looks for them
    every *sweep*, and shows that it lives by its lease.
    """

    begins = True
    """Whether a process that starts a run begins to carry it out, and needs a worker for that."""

    heartbeat: Callable[..., Heartbeat] = Heartbeat
    """What shows that the worker lives; a simulation puts one without a thread in its place."""

    def __init__(self, app: Host, options: WorkerOptions | None = None) -> None:
        self.app = app
        self.options = options or WorkerOptions()
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heartbeat: Heartbeat | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()
        self._next: datetime | None = None
        self._unheard = False  # a beat failed, whose answer may have said who was woken
        self._doubtful = False  # a call failed that may have been carried out, so more may be held than is known
        self._turns: list[asyncio.Future[None]] = []
        self._waiting: defaultdict[str, set[asyncio.Future[Event | None]]] = defaultdict(set)

    # -- for those who start and watch runs ---------------------------------------------

    async def start(self, request: StartRequest) -> str:
        """Create the run; the worker of this process begins at once, unless that is left to others."""
        workflow, now = request.workflow, self.clock.now()
        run = Run(request.run_id or new_run_id(), workflow.name, now, idempotency_key=request.idempotency_key)
        started = RunStarted(
            now, workflow.name, request.args, request.kwargs, new_seed(), fingerprint=workflow.fingerprint
        )
        try:
            existing = await self._begin(run, started, workflow)
        except StorageError:
            self._doubtful = True
            raise
        if existing is None:
            return run.id
        if existing.workflow != workflow.name:
            key = request.idempotency_key if existing.idempotency_key == request.idempotency_key else None
            what = f"the run id {run.id!r}" if key is None else f"the idempotency key {key!r}"
            msg = f"{what} belongs to a run of workflow {existing.workflow!r} already, not of {workflow.name!r}"
            raise RunExists(msg)
        if request.idempotency_key is None or existing.idempotency_key != request.idempotency_key:
            msg = (
                f"there is a run {existing.id!r} already ({existing.status.value}); to get the existing run instead of "
                f"an error, start with an idempotency_key"
            )
            raise RunExists(msg)
        return existing.id

    async def _begin(self, run: Run, started: RunStarted, workflow: Workflow[..., Any]) -> Run | None:
        if self.begins:
            return await (await self.ensure_worker()).begin(run, started, workflow)
        job = Job(run.id, RUN_OP, started.at, workflow.name)
        existing = await create_once(await self.storage(), evolve(run, length=1), [started], [job])
        if existing is None:
            await self.notify([job])
        return existing

    async def call(self, request: StartRequest) -> Plain:
        """Start a run and wait for its end."""
        return await self.result(await self.start(request))

    async def result(self, run_id: str) -> Plain:
        """Wait for the end of the run, wherever it goes on."""
        while isinstance(end := await self._end(run_id), RunContinued):
            run_id = end.run_id
        return _outcome(run_id, end)

    async def _end(self, run_id: str) -> Event:
        """Wait for the end of a run and return the event that is it."""
        storage, pause = await self.storage(), 0.0
        end: Event | None = None
        while end is None:
            future: asyncio.Future[Event | None] = asyncio.get_running_loop().create_future()
            self._waiting[run_id].add(future)
            try:
                held = self._worker is not None and run_id in self._worker.executions
                if not held:
                    run, _ = await storage.load(run_id, LAST)
                    if run.status is not Status.RUNNING:
                        end = await self._last(run)
                        continue
                    crowd = len(self._waiting) / 1000  # so many of them ask as often as one does
                    pause = min(max(1.3 * pause, 0.003, crowd), max(1.0, crowd))
                if held:
                    end = await future
                    continue
                await asyncio.wait([future], timeout=pause)
                end = future.result() if future.done() else None
            finally:
                self._waiting[run_id].discard(future)
                if not self._waiting[run_id]:
                    del self._waiting[run_id]
        return end

    def look(self, run_id: str) -> None:
        """Have the worker of this process notice that a run was told something."""
        if self._worker is not None:
            self._worker.woken(run_id)
            self.wake_at(self.clock.now())

    async def notify(self, jobs: Sequence[Job]) -> None:  # noqa: ARG002 -- for runtimes that send them on
        """Have somebody look for *jobs*, which became due just now.

        A hint: the jobs are in the storage, and every worker's sweep finds them if it is lost. Must not raise.
        """
        self.wake_at(self.clock.now())

    # -- the worker of this process --------------------------------------------------------

    def workflows(self) -> Collection[str]:
        """Return the names of the workflows whose runs the worker takes."""
        return self.app.workflows_of(self)

    async def work(self) -> None:
        """Look for work from now on, until `close`."""
        await self.ensure_worker()

    async def ensure_worker(self) -> Worker:
        """Return the worker of this process and event loop; start it if there is none."""
        loop, storage = asyncio.get_running_loop(), await self.storage()
        if self._worker is not None and self._loop is loop:  # nothing is awaited from here on: there is one at most
            return self._worker
        if (
            self._loop is not None
            and self._loop is not loop
            and not self._loop.is_closed()
            and self._worker is not None
        ):
            msg = "this App is in use on another event loop of this process; make an App(...) for each loop"
            raise RuntimeError(msg)
        self._stop_heartbeat()
        self._loop, self._nudge, self._next = loop, asyncio.Event(), None
        worker = Worker(
            name=_new_name(),
            storage=storage,
            registry=self.app.registry,
            clock=self.clock,
            options=self.options,
            settle=self._settle,
            policy=self.app.retry_policy,
            observe=self.app.observer(),
            ended=self.app.historian(),
            wake_at=self.wake_at,
            notify=self.notify,
            app=self.app,
        )
        lease = self.options.lease
        storage.renew(worker.name, self.clock.now(), lease)  # may fail, and then there is no worker
        self._worker, self._doubtful = worker, False
        self._heartbeat = type(self).heartbeat(
            lambda: self._beat(storage, worker, loop),
            lambda: self._hand_back(storage, worker),
            self.options.beat.total_seconds(),
        )
        self._heartbeat.start()
        self._sweeper = loop.create_task(self._sweep(storage, worker))
        return worker

    async def close(self, grace: float = 0.0) -> None:
        """Begin nothing more, give running steps *grace* seconds, hand back what is held."""
        worker, sweeper, self._worker, self._sweeper = self._worker, self._sweeper, None, None
        if worker is not None and self._loop is asyncio.get_running_loop():
            worker.draining = True
            await worker.drain(grace)
        if sweeper is not None and self._loop is asyncio.get_running_loop():
            sweeper.cancel()
            await asyncio.gather(sweeper, return_exceptions=True)
        self._stop_heartbeat()

    @property
    def worker_here(self) -> Worker | None:
        """The worker of this process, if there is one."""
        return self._worker

    async def vanish(self) -> str | None:
        """Leave as a killed process does: nothing is written or handed back; return the worker's name. For tests."""
        worker, sweeper, self._worker, self._sweeper = self._worker, self._sweeper, None, None
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None:
            heartbeat.stop(hand_back=False)
        if sweeper is not None:
            sweeper.cancel()
            await asyncio.gather(sweeper, return_exceptions=True)
        if worker is None:
            return None
        await worker.vanish()
        return worker.name

    async def turn(self) -> None:
        """Look for work now; return once there is less in hand than there are turns.

        For messages that stand for a share of a process, such as a task in a pool: as many last as there is work.
        """
        await self.ensure_worker()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        self.wake_at(self.clock.now())
        await turn

    def _end_turns(self, turns: Sequence[asyncio.Future[None]]) -> None:
        for turn in turns:
            self._turns.remove(turn)
            if not turn.done():
                turn.set_result(None)

    def wake_at(self, when: datetime) -> None:
        """Look for work at *when*, if not before."""
        if self._next is None or when < self._next:
            self._next = when
            self._nudge.set()

    async def _sweep(self, storage: Storage, worker: Worker) -> None:
        try:
            while True:
                self._next, turns = None, list(self._turns)
                latest = self.clock.now() + self.options.sweep
                try:
                    wake = await self._look_for_work(storage, worker)
                    self._end_turns(turns[: max(0, len(turns) - worker.held)])
                except Exception as error:  # noqa: BLE001 -- a storage may fail in any way, and may recover
                    logger.warning("looking for work failed, trying again: %s", error)
                    wake = None
                if wake is not None:
                    self.wake_at(wake)
                while (pause := (min(latest, self._next or latest) - self.clock.now()).total_seconds()) > 0:
                    self._nudge.clear()
                    await self.clock.wait(self._nudge, pause)
                await asyncio.sleep(0)
        finally:  # also when the event loop is being closed under us: nobody else must have to wait for the lease
            worker.draining = True
            self._end_turns(list(self._turns))
            self._stop_heartbeat()
            if self._worker is worker:
                self._worker = None

    async def _look_for_work(self, storage: Storage, worker: Worker) -> datetime | None:
        options, workflows = self.options, self.workflows()
        queues = ("",) if options.queues is None else options.queues
        free = None
        self._settle_doubts(storage, worker)
        while not worker.draining:
            now, room = self.clock.now(), worker.room()
            limit = options.batch if room is None else min(room, options.batch)
            if not limit:
                break
            try:
                jobs = await storage.claim(worker.name, now, options.lease, limit, workflows=workflows, queues=queues)
            except StorageError:
                self._doubtful = True
                raise
            await worker.take(jobs)
            if len(jobs) < limit:
                free = await storage.due()
                if free is not None and free <= now:
                    free = None  # it is not for us
                break
            await worker.caught_up()
        await worker.look()
        held = worker.tick(self.clock.now())
        return held if free is None else free if held is None else min(held, free)

    def _settle_doubts(self, storage: Storage, worker: Worker) -> None:
        """Let the lease lapse, sooner or later, of what may be held and nobody here knows of."""
        now = self.clock.now()
        if self._doubtful:
            name = _new_name()
            storage.renew(name, now, self.options.lease)
            worker.doubt(name)
            self._doubtful = False
        worker.forget_former()

    def _hand_back(self, storage: Storage, worker: Worker) -> None:
        """Have others take what is held here at once, and not when the lease lapses."""
        if worker.may_hand_back:
            for name in (*worker.former, worker.name):
                storage.renew(name, self.clock.now(), timedelta(0))

    def _beat(self, storage: Storage, worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
        woken: list[tuple[str, int]] = []
        unheard, self._unheard = self._unheard, True
        for name in (worker.name, *worker.former):
            woken += storage.renew(name, self.clock.now(), self.options.lease)
        self._unheard = False
        if (woken or unheard) and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken, woken, unheard)

    def _woken(self, keys: Sequence[tuple[str, int]], unheard: bool) -> None:  # noqa: FBT001 -- for `call_soon`
        if self._worker is not None:
            # Whoever was woken by a beat that failed was told so in an answer that was lost.
            runs = [*self._worker.executions, *self._worker.reading] if unheard else []
            for run_id, op in dict.fromkeys([*keys, *((run_id, RUN_OP) for run_id in runs)]):
                self._worker.woken(run_id, op)

    def _stop_heartbeat(self) -> None:
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None:
            heartbeat.stop()

    def _settle(self, run_id: str, end: Event | None) -> None:
        for future in self._waiting.get(run_id, ()):
            if not future.done():
                future.set_result(end)


def _new_name() -> str:
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(6)}"


def _outcome(run_id: str, end: Event) -> Plain:
    match end:
        case RunCompleted(value=value):
            return value
        case RunFailed(error=record):
            raise rebuild(record)
        case CancelledEvent():
            msg = f"run {run_id!r} was cancelled"
            raise RunCancelled(msg)
        case TerminatedEvent(reason=reason):
            msg = f"run {run_id!r} was terminated{': ' + reason if reason else ''}"
            raise RunTerminated(msg)
        case BlockedEvent(error=record):
            msg = f"run {run_id!r} is blocked: {record.message}"
            raise RunBlocked(msg)
        case _:
            raise RunNotFound(run_id)
