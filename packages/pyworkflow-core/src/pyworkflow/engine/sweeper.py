"""Keeps the worker of a process at work: starts it, renews its lease, and sweeps for due jobs."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from asyncio import _get_running_loop as running_loop
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from attrs import define, field

from pyworkflow.errors import StorageError
from pyworkflow.model import RUN_OP

if TYPE_CHECKING:
    from pyworkflow.clock import Clock
    from pyworkflow.engine.heartbeat import Heartbeat
    from pyworkflow.engine.options import WorkerOptions
    from pyworkflow.engine.worker import Worker
    from pyworkflow.ports import Storage

logger = logging.getLogger(__name__)


def new_worker_name() -> str:
    """Return an id for a worker that nobody had before."""
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(6)}"


@define(eq=False)
class Sweeper:
    """The worker of one process and event loop, and the task and the thread that keep it going.

    A sweep claims what is due, until nothing is left or the worker is full; the next one follows at the earliest due
    time that is known, when something is signalled, and after `WorkerOptions.sweep` at the latest.

    Args:
        workflows: Returns the names of the workflows whose runs are claimed.
        ask_to_wake: Called with a time at which to sweep; that is `Sweeper.wake_at`, unless somebody stands before it.
        heartbeat: Makes what renews the lease.
    """

    clock: Clock
    options: WorkerOptions
    workflows: Callable[[], Collection[str]]
    ask_to_wake: Callable[[datetime], None]
    heartbeat: Callable[..., Heartbeat]
    worker: Worker | None = field(default=None, init=False)
    doubtful: bool = field(default=False, init=False)
    """A call failed that may have succeeded, so more may be held than is known."""
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _beating: Heartbeat | None = field(default=None, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)
    _nudge: asyncio.Event = field(factory=asyncio.Event, init=False)
    _next: datetime | None = field(default=None, init=False)
    _unheard: bool = field(default=False, init=False)  # a beat failed, whose answer may have listed signals
    _turns: list[asyncio.Future[None]] = field(factory=list, init=False)

    # -- starting and stopping -------------------------------------------------------------

    def start(self, storage: Storage, make: Callable[[str], Worker]) -> Worker:
        """Return the worker of this process and event loop; make and start it if there is none.

        Awaits nothing, so there is one at most.

        Raises:
            RuntimeError: The worker belongs to another event loop, which is still open.
            StorageError: The lease cannot be written; then there is no worker.
        """
        loop = asyncio.get_running_loop()
        if self.worker is not None and self._loop is loop:
            return self.worker
        if self.worker is not None and self._loop is not None and not self._loop.is_closed():
            msg = "this App is in use on another event loop of this process; make an App(...) for each loop"
            raise RuntimeError(msg)
        self._stop_heartbeat()
        self._loop, self._nudge, self._next = loop, asyncio.Event(), None
        worker = make(new_worker_name())
        storage.renew(worker.name, self.clock.now(), self.options.lease)
        self.worker, self.doubtful = worker, False
        self._beating = self.heartbeat(
            lambda: self._beat(storage, worker, loop),
            lambda: self._release(storage, worker),
            self.options.beat.total_seconds(),
        )
        self._beating.start()
        self._task = loop.create_task(self._sweep_until_closed(storage, worker))
        return worker

    async def close(self, grace: float) -> None:
        """Begin nothing more, give running steps *grace* seconds, release what is held."""
        worker, task, self.worker, self._task = self.worker, self._task, None, None
        here = self._loop is asyncio.get_running_loop()
        if worker is not None and here:
            worker.advancer.draining = True
            await worker.drain(grace)
        if task is not None and here:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._stop_heartbeat()

    async def crash(self) -> str | None:
        """Leave as a killed process does: nothing is written or released; return the worker's name. For tests."""
        worker, task, self.worker, self._task = self.worker, self._task, None, None
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.stop(release=False)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if worker is None:
            return None
        await worker.crash()
        return worker.name

    def _stop_heartbeat(self) -> None:
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.stop()

    # -- sweeping --------------------------------------------------------------------------

    def wake_at(self, when: datetime) -> None:
        """Sweep at *when*, if not before; from any loop."""
        loop = self._loop
        if loop is not None and loop is not running_loop():
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.wake_at, when)
            return
        if self._next is None or when < self._next:
            self._next = when
            self._nudge.set()

    async def turn(self) -> None:
        """Sweep now; return once less is held than there are turns."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        self.ask_to_wake(self.clock.now())
        await turn

    def _end_turns(self, turns: Sequence[asyncio.Future[None]]) -> None:
        for turn in turns:
            self._turns.remove(turn)
            if not turn.done():
                turn.set_result(None)

    async def _sweep_until_closed(self, storage: Storage, worker: Worker) -> None:
        try:
            while True:
                self._next, turns = None, list(self._turns)
                latest = self.clock.now() + self.options.sweep
                try:
                    wake = await self._sweep(storage, worker)
                    self._end_turns(turns[: max(0, len(turns) - worker.advancer.capacity.held)])
                except Exception as error:  # noqa: BLE001 -- a storage may fail in any way, and may recover
                    logger.warning("sweeping for due jobs failed, trying again: %s", error)
                    wake = None
                if wake is not None:
                    self.ask_to_wake(wake)
                while (pause := (min(latest, self._next or latest) - self.clock.now()).total_seconds()) > 0:
                    self._nudge.clear()
                    await self.clock.wait(self._nudge, pause)
                await asyncio.sleep(0)
        except asyncio.CancelledError:  # with everything else, at the end of `asyncio.run`; or by `close`, which drains
            if self.worker is worker:
                self.worker = None
                await worker.drain(0.0)
            raise
        finally:  # also when the event loop is being closed under us: nobody else must have to wait for the lease
            worker.advancer.draining = True
            self._end_turns(list(self._turns))
            self._stop_heartbeat()
            if self.worker is worker:
                self.worker = None

    async def _sweep(self, storage: Storage, worker: Worker) -> datetime | None:
        """Claim what is due and resume it; return when something will be due next, as far as is known."""
        options, workflows = self.options, self.workflows()
        queues = ("",) if options.queues is None else options.queues
        free = None
        self._settle_doubts(storage, worker)
        while not worker.advancer.draining:
            now, room = self.clock.now(), worker.advancer.capacity.room()
            limit = options.batch if room is None else min(room, options.batch)
            if not limit:
                break
            try:
                leases = await storage.claim(worker.name, now, options.lease, limit, workflows=workflows, queues=queues)
            except StorageError:
                self.doubtful = True
                raise
            await worker.take(leases, now)
            if len(leases) < limit:
                free = await storage.due()
                if free is not None and free <= now:
                    free = None  # it is not for us
                break
            await worker.caught_up()
        await worker.poll_ended()
        held = worker.tick(self.clock.now())
        return held if free is None else free if held is None else min(held, free)

    def _settle_doubts(self, storage: Storage, worker: Worker) -> None:
        """Let the lease lapse, sooner or later, of what may be held and nobody here knows of."""
        now = self.clock.now()
        if self.doubtful:
            name = new_worker_name()
            storage.renew(name, now, self.options.lease)
            worker.doubt(name)
            self.doubtful = False
        worker.forget_former()

    # -- the lease ---------------------------------------------------------------------------

    def _release(self, storage: Storage, worker: Worker) -> None:
        """Have others claim what is held here at once, and not when the lease lapses."""
        if worker.may_release:
            for name in (*worker.former, worker.name):
                storage.renew(name, self.clock.now(), timedelta(0))

    def _beat(self, storage: Storage, worker: Worker, loop: asyncio.AbstractEventLoop) -> None:
        """Renew the lease, on the thread of the heartbeat, and hand the signals that come with it to the loop."""
        woken: list[tuple[str, int]] = []
        unheard, self._unheard = self._unheard, True
        for name in (worker.name, *worker.former):
            woken += storage.renew(name, self.clock.now(), self.options.lease)
        self._unheard = False
        if (woken or unheard) and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken, woken, unheard)

    def _woken(self, keys: Sequence[tuple[str, int]], unheard: bool) -> None:  # noqa: FBT001 -- for `call_soon`
        if self.worker is not None:
            advancer = self.worker.advancer
            # Whoever was signalled at a beat that failed was listed in an answer that was lost.
            runs = [*advancer.runs, *advancer.reading] if unheard else []
            for run_id, op in dict.fromkeys([*keys, *((run_id, RUN_OP) for run_id in runs)]):
                advancer.woken(run_id, op)
