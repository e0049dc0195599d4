"""Holds runs: begins them, resumes those that are claimed, and releases all at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from pyworkflow.engine.advancer import Advancer
from pyworkflow.engine.appending import NOT_OURS
from pyworkflow.engine.child_runs import create_free, create_once
from pyworkflow.engine.held_run import HeldRun, Phase
from pyworkflow.engine.step_runner import StepRunner, StepThreads
from pyworkflow.errors import Conflict, HookTaken, RunBlocked, RunEnded, RunNotFound, StorageError
from pyworkflow.events import RunStarted
from pyworkflow.model import RUN_OP, Append, History, Lease, Run, Status
from pyworkflow.replay.decision import MAX_RECOVERIES, Decision, after_loss, decide, facts_after_loss, facts_on_time
from pyworkflow.replay.effects import doubled

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Step, Workflow
    from pyworkflow.engine.host import Host
    from pyworkflow.engine.options import WorkerOptions
    from pyworkflow.engine.signals import Signals
    from pyworkflow.ports import RetryPolicy, Storage
    from pyworkflow.replay.operations import Pending

logger = logging.getLogger(__name__)

TURNS = 6
"""Of the event loop, in which who started a run may return to `asyncio.run`, before the run's first steps begin."""

SHORT = 100
"""Histories of no more events are read many at a time."""


@define(eq=False, kw_only=True)
class Worker:
    """Advances runs of one storage on one event loop.

    Args:
        name: Its id in the storage; see `doubt`.
        app: The application: its registry, its clock, and what the functions of the package stand for in a step.
        policy: Returns the retry policy and the number of retries of a step.
        threads: Where sync steps run.

    Attributes:
        former: Earlier names under which jobs may be held.
        advancer: What advances the runs that it holds.
    """

    name: str
    storage: Storage
    app: Host
    options: WorkerOptions
    signals: Signals
    threads: StepThreads
    policy: Callable[[Step[..., Any]], tuple[RetryPolicy, int]]
    former: list[str] = field(factory=list, init=False)
    advancer: Advancer = field(init=False)
    _beginning: list[str] = field(factory=list, init=False)
    _clean: bool = field(default=True, init=False)
    _polled: datetime | None = field(default=None, init=False)
    _resuming: int = field(default=0, init=False)
    _fewer: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        registry, clock = self.app.registry, self.app.clock
        self.advancer = Advancer(
            storage=self.storage,
            registry=registry,
            codec=self.app.codec,
            clock=clock,
            options=self.options,
            signals=self.signals,
            runner=StepRunner(registry, self.app.codec, clock, self.policy, self.threads, self.app),
        )

    # -- under what name ---------------------------------------------------------------

    def doubt(self, name: str) -> None:
        """Take the *name* from now on: under the old one something may be held of which nobody here knows.

        That happens where a call of the storage succeeded and its answer was lost. What is known to be held under the
        old name stays so until it is over; then its lease may lapse.
        """
        self.former.append(self.name)
        self.name = name

    def forget_former(self) -> None:
        """Forget the former names under which nothing is held any more, as far as is known."""
        used = {held.lease.worker for held in self.advancer.runs.values()}
        used |= {*self._beginning, *self.advancer.remote.workers}
        self.former = [name for name in self.former if name in used]

    @property
    def may_release(self) -> bool:
        """Whether who comes next may begin once more what is in progress here, as if it had not begun."""
        advancer = self.advancer
        in_progress = any(held.once for held in advancer.runs.values()) or advancer.remote.once()
        return self._clean and not in_progress

    # -- beginning a run ---------------------------------------------------------------

    async def begin(self, run: Run, started: RunStarted, workflow: Workflow[..., Any]) -> Run | None:
        """Create *run* and work on it at once; return the run that has its id or key already, if there is one."""
        lease = Lease(run.id, RUN_OP, self.name, 1, workflow.name)
        held = HeldRun(run.id, workflow, self.advancer.machine_of(workflow, run.id), lease, proven=started.at)
        now = started.at
        try:
            decision = decide(held, [started], now)
        except RunBlocked:  # by who claims it, as its creation and its end here would be two writes
            held.machine.close()
            return await self._create(run, started)
        hooks = () if decision.effects is None or decision.status else decision.effects.hooks
        if decision.status is Status.CONTINUED or doubled(hooks):  # more than one write: it is claimed later
            held.machine.close()
            return await self._create(run, started)
        advancer = self.advancer
        decision = advancer.dispatched(held, decision, now)
        try:
            existing = await self._create_held(held, run, decision, now)
        except HookTaken:  # the workflow has to see that, so it begins like any run that is claimed later
            return await self._create(run, started)
        if existing is not None:
            return existing
        held.length = len(decision.events)
        if run.id in advancer.runs or run.id in advancer.reading:  # it took so long that it has been claimed again
            advancer.observed(held, decision)
            held.machine.close()
            return None
        advancer.runs[run.id] = held
        todo = advancer.written(held, decision)
        held.starting = 0
        if todo and self.app.clock.now() - now > self.options.beat:  # others may have had it meanwhile: that is asked
            held.unproven = True
            advancer.spawn(advancer.advance(held, [], all_steps=True))
        else:
            advancer.begin(held, todo, self._run_soon)
        return None

    async def _run_soon(self, held: HeldRun, pending: Pending) -> None:
        """Run a step, unless the event loop is closed first: nothing begins that ``asyncio.run(start(…))`` cuts off."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if not self.advancer.draining and held.running.get(pending.op) is asyncio.current_task():
            await self.advancer.run_steps(held, pending)

    async def _create_held(self, held: HeldRun, run: Run, decision: Decision, now: datetime) -> Run | None:
        """Create *run* as *decision* leaves it, under the lease of *held* unless it is parked or over."""
        status, effects = decision.status or Status.RUNNING, decision.effects
        attributes = {} if effects is None else effects.attributes
        ended = now if status.is_final else None
        run = evolve(run, status=status, length=len(decision.events), ended_at=ended, attributes=attributes)
        hooks = () if effects is None or decision.status else effects.hooks
        jobs = [] if decision.status else [*decision.jobs]
        lease = None if decision.status or decision.parked else held.lease
        if decision.parked and not decision.status:
            jobs.append(held.lease.released(decision.wake))
        existing: Run | None = run
        self._beginning.append(held.lease.worker)
        try:
            existing = await create_once(self.storage, run, decision.events, jobs, hooks, lease=lease)
        finally:
            self._beginning.remove(held.lease.worker)
            if existing is not None:
                held.machine.close()
        return existing

    async def _create(self, run: Run, started: RunStarted) -> Run | None:
        """Create *run* for whoever claims it; return the run that has its id or key already, if there is one."""
        existing, job = await create_free(self.storage, run, started)
        self.signals.wake_at(started.at)
        self.advancer.notify([job])
        return existing

    # -- resuming claimed runs -----------------------------------------------------------

    async def take(self, leases: Sequence[Lease], claimed: datetime) -> None:
        """Resume the runs, and run the steps, whose jobs were claimed at *claimed* or later."""
        advancer = self.advancer
        runs = [lease for lease in leases if lease.op == RUN_OP]
        for lease in runs:
            if lease.run_id in advancer.runs:  # our own lease had lapsed, and others may have had it meanwhile
                advancer.drop(advancer.runs[lease.run_id])
        histories = await self._read(runs)
        for lease in leases:
            if lease.op == RUN_OP:
                self._hold(lease, histories.get(lease.run_id), claimed)
            else:
                advancer.remote.begin(lease, claimed)

    async def _read(self, runs: Sequence[Lease]) -> Mapping[str, History]:
        """Return what the storage reads together of claimed *runs*, but for those that were signalled since."""
        advancer = self.advancer
        short = [lease.run_id for lease in runs if lease.length <= SHORT and lease.run_id not in advancer.kept]
        if not short:
            return {}
        advancer.reading = dict.fromkeys([lease.run_id for lease in runs], True)
        try:
            found = await self.storage.load_many(short)
            return {run_id: history for run_id, history in found.items() if advancer.reading.get(run_id)}
        except Exception as error:  # noqa: BLE001 -- they are ours by now: each is read by itself, until that works
            logger.warning("%s runs cannot be read together: %s", len(short), error)
            return {}
        finally:
            advancer.reading = {}

    def _hold(self, lease: Lease, history: History | None, claimed: datetime) -> None:
        workflow = self.app.registry.workflows[lease.workflow]
        machine = self.advancer.machine_of(workflow, lease.run_id)
        held = HeldRun(lease.run_id, workflow, machine, lease, lease.length, Phase.RESUMING, proven=claimed)
        self.advancer.runs[lease.run_id] = held
        self._resuming += 1
        self.advancer.tasks.add(asyncio.create_task(self._resume(held, history)))

    async def caught_up(self) -> None:
        """Wait until most of the runs that were claimed have resumed: many half-way at once are slow to collect."""
        while self._resuming > self.options.batch // 2:
            self._fewer.clear()
            await self._fewer.wait()

    async def _resume(self, held: HeldRun, history: History | None) -> None:
        try:
            try:
                first = await self._resumed(held, history)
            finally:
                self._resuming -= 1
                self._fewer.set()
            if first is not None and not self.advancer.draining and not held.is_released:
                await self.advancer.run_steps(held, first)
        finally:
            self.advancer.tasks.discard(asyncio.current_task())  # this costs less than a callback

    async def _resumed(self, held: HeldRun, history: History | None) -> Pending | None:
        """Bring the machine of a claimed run up to date and advance it; return a step for the caller to go on with."""
        advancer, lease, now = self.advancer, held.lease, self.app.clock.now()
        if held.is_released:  # before its turn came
            return None
        try:
            _check_recoveries(lease)
            kept = advancer.kept.pop(lease.run_id)
            if kept is None:
                await advancer.rebuild(held, history)
            else:
                held.machine, held.length = kept
                if held.length != lease.length:
                    await advancer.catch_up(held)
        except RunEnded:  # it ended, or is blocked, and yet had a job: somebody signalled it meanwhile
            await advancer.forget(held)
            return None
        except Exception as error:  # noqa: BLE001 -- whatever keeps a run from going on blocks that run, not the worker
            if not held.is_released:
                await advancer.block(held, error)
            return None
        held.resumed()
        if held.is_released:
            return None
        facts = facts_on_time(held.machine, now)
        if lease.lapsed:
            facts += facts_after_loss(held.machine, self.app.registry.steps, now)
        return await advancer.decide_and_write(held, facts, all_steps=True)

    def tick(self, now: datetime) -> datetime | None:
        """Advance the held runs whose timers or retries are due; return when the next one will be."""
        earliest: datetime | None = None
        advancer = self.advancer
        for held in list(advancer.runs.values()):
            wake = held.machine.next_wake() if held.running and held.phase is Phase.IDLE else None
            if wake is not None and wake <= now:
                advancer.spawn(advancer.advance(held, facts_on_time(held.machine, now), all_steps=True))
            elif wake is not None and (earliest is None or wake < earliest):
                earliest = wake
        return earliest

    async def poll_ended(self) -> None:
        """Stop steps whose run has ended, or stopped, meanwhile: its jobs are gone, and storages do not signal that.

        Only a worker with a capacity polls, every sweep: it has few runs, and needs the room.
        """
        now, advancer = self.app.clock.now(), self.advancer
        if self.options.capacity is None or (self._polled is not None and now < self._polled + self.options.sweep):
            return
        self._polled = now
        running = [run_id for run_id, held in advancer.runs.items() if held.running]
        for run_id in dict.fromkeys([*running, *advancer.remote.runs]):
            try:
                is_over = (await self.storage.run(run_id)).status is not Status.RUNNING
            except RunNotFound:
                is_over = True
            if is_over:
                advancer.remote.drop_run(run_id)
                advancer.woken(run_id)

    # -- how it stands -------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in progress here."""
        return not self.advancer.tasks

    @property
    def only_waits_for_steps(self) -> bool:
        """Whether nothing is in progress here but steps."""
        runs = self.advancer.runs.values()
        steps = {task for held in runs for task in held.running.values()}
        busy = any(held.phase in {Phase.RESUMING, Phase.ADVANCING} for held in runs)
        return self.advancer.tasks <= steps and not busy

    # -- closing -------------------------------------------------------------------------

    async def crash(self) -> None:
        """Stop at once and write nothing more, as a killed process does; for tests."""
        advancer = self.advancer
        advancer.draining = True
        for held in advancer.runs.values():
            held.park()
        tasks = [*advancer.tasks, *advancer.remote.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for held in list(advancer.runs.values()):
            advancer.drop(held)

    async def drain(self, grace: float) -> None:
        """Begin no more steps; wait up to *grace* seconds for those that run, then cancel them."""
        advancer = self.advancer
        advancer.draining = True
        running = {task for held in advancer.runs.values() for task in held.running.values()}
        running |= advancer.remote.tasks
        if running and grace > 0:
            await asyncio.wait(running | advancer.tasks, timeout=grace)
        left = [task for task in running | advancer.tasks if not task.done()]
        remote = advancer.remote.once()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._clean = self._clean and await advancer.remote.interrupt(remote)
        for held in list(advancer.runs.values()):
            if held.once:
                await self._interrupt(held)
            advancer.drop(held)
        advancer.kept.clear()
        self.threads.close()
        await asyncio.gather(*advancer.ending)

    async def _interrupt(self, held: HeldRun) -> None:
        """Record that steps at most once were interrupted, and release their run."""
        now = self.app.clock.now()
        facts = [after_loss(op, name, 1, self.app.registry.steps, now) for op, name in held.once.items()]
        released = [held.lease.released(now)]
        try:
            await self.storage.append(Append(held.run_id, facts, released, expected=held.length, lease=held.lease))
        except NOT_OURS:
            return
        except (StorageError, Conflict) as error:  # then their lease has to lapse, which says the same
            logger.warning("run %s cannot be released: %s", held.run_id, error)
            self._clean = False


def _check_recoveries(lease: Lease) -> None:
    if lease.recoveries > MAX_RECOVERIES:
        msg = f"its worker was lost {lease.recoveries} times: the run may be what kills them"
        raise RunBlocked(msg)
