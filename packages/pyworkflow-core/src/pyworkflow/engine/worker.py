"""Holds runs: begins them, takes up those that wait, tells when the next one is due, and hands all back at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from pyworkflow.engine.advancer import NOT_OURS, Advancing, free_job
from pyworkflow.engine.child_runs import create_once
from pyworkflow.engine.held_run import Execution
from pyworkflow.engine.remote_steps import LAST
from pyworkflow.errors import (
    Conflict,
    HookTaken,
    RunBlocked,
    RunEnded,
    RunNotFound,
    StorageError,
)
from pyworkflow.events import RunStarted
from pyworkflow.model import RUN_OP, History, Job, Run, Status
from pyworkflow.replay.decision import MAX_RECOVERIES, after_loss, decide, facts_after_loss, facts_on_time
from pyworkflow.replay.effects import doubled
from pyworkflow.replay.machine import Machine
from pyworkflow.replay.operations import Pending

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Workflow

logger = logging.getLogger(__name__)

SHORT = 100
"""Histories of no more events are read many at a time."""


@define(eq=False, kw_only=True)
class Worker(Advancing):
    """Advances runs of one storage on one event loop.

    Args:
        name: Its id in the storage; see `doubt`.
    """

    name: str
    former: list[str] = field(factory=list, init=False)
    _beginning: list[str] = field(factory=list, init=False)
    _clean: bool = field(default=True, init=False)
    _looked: datetime | None = field(default=None, init=False)
    _taking: int = field(default=0, init=False)
    _fewer: asyncio.Event = field(factory=asyncio.Event, init=False)

    # -- under what name ---------------------------------------------------------------

    def doubt(self, name: str) -> None:
        """Take the *name* from now on: under the old one something may be held of which nobody here knows.

        That happens where a call of the storage was carried out and its answer was lost. What is known to be held
        under the old name stays so until it is over; then its lease may lapse.
        """
        self.former.append(self.name)
        self.name = name

    def forget_former(self) -> None:
        """Forget the former names under which nothing is under way any more, as far as is known."""
        used = {execution.lease.worker for execution in self.executions.values()}
        used |= {*self._beginning, *self._jobs.workers}
        self.former = [name for name in self.former if name in used]

    @property
    def may_hand_back(self) -> bool:
        """Whether who comes next may begin once more what is under way here, as if it had not begun."""
        under_way = any(execution.once for execution in self.executions.values()) or self._jobs.once()
        return self._clean and not under_way

    # -- taking runs -----------------------------------------------------------------

    async def begin(self, run: Run, started: RunStarted, workflow: Workflow[..., Any]) -> Run | None:
        """Create *run* and work on it at once; return the run that has its id or key already, if there is one."""
        lease = Job(run.id, RUN_OP, None, workflow.name, worker=self.name, epoch=1)
        execution = Execution(run.id, workflow, Machine(workflow.body, run.id), lease)
        now = started.at
        decision = decide(execution, [started], now)
        hooks = () if decision.also is None or decision.status else decision.also.hooks
        if decision.status is Status.CONTINUED or doubled(
            hooks
        ):  # it takes more than one write: so it is taken up later
            execution.machine.close()
            return await self._create(run, started)
        decision = self._share(execution, decision, now)
        status = decision.status or Status.RUNNING
        ended = now if status.is_final else None
        said = {} if decision.also is None else decision.also.attributes
        length = len(decision.events)
        run = evolve(run, status=status, length=length, ended_at=ended, attributes=said)
        own = free_job(lease, decision.wake) if decision.parked else lease
        jobs: Sequence[Job] = () if decision.status else (own, *decision.jobs)
        existing: Run | None = run
        self._beginning.append(self.name)
        try:
            existing = await create_once(self.storage, run, decision.events, jobs, hooks)
        except HookTaken:  # the workflow has to be told, so it begins like any run that is taken up later
            return await self._create(run, started)
        finally:
            self._beginning.remove(lease.worker)  # type: ignore[arg-type]  # it has one
            if existing is not None:
                execution.machine.close()
        if existing is not None:
            return existing
        if run.id in self.executions or run.id in self.reading:  # it took so long that it has been claimed anew
            self._tell_plugins(execution, decision, length)
            execution.machine.close()
            return None
        self.executions[run.id] = execution
        todo = self._written(execution, decision, length)
        execution.starting = 0
        if todo and self.clock.now() - now > self.options.beat:  # maybe others had it meanwhile: that is asked first
            execution.unsure = True
            self._spawn(self._continue(execution, [], all_steps=True))
        else:
            self._dispatch(execution, todo)
        return None

    async def _create(self, run: Run, started: RunStarted) -> Run | None:
        """Create *run* for whoever takes it up; return the run that has its id or key already, if there is one."""
        new = evolve(run, status=Status.RUNNING, length=1, ended_at=None)
        job = Job(run.id, RUN_OP, started.at, run.workflow)
        existing = await create_once(self.storage, new, [started], [job])
        self.wake_at(started.at)
        self._tell_others([job])
        return existing

    async def take(self, jobs: Sequence[Job]) -> None:
        """Go on with the runs of claimed *jobs*, and carry out the steps that they are."""
        runs = [job for job in jobs if job.op == RUN_OP]
        for job in runs:
            if job.run_id in self.executions:  # our own lease had lapsed, and others may have had it meanwhile
                self._drop(self.executions[job.run_id])
        histories = await self._read(runs)
        for job in jobs:
            if job.op == RUN_OP:
                self._take_run(job, histories.get(job.run_id))
            else:
                self._jobs.take(job)

    async def _read(self, runs: Sequence[Job]) -> Mapping[str, History]:
        """Return what the storage reads together of claimed *runs*, but for those told something since."""
        short = [job.run_id for job in runs if job.length <= SHORT and job.run_id not in self._kept]
        if not short:
            return {}
        self.reading = dict.fromkeys([job.run_id for job in runs], True)
        try:
            found = await self.storage.load_many(short)
            return {run_id: history for run_id, history in found.items() if self.reading.get(run_id)}
        except Exception as error:  # noqa: BLE001 -- they are ours by now: each is read by itself, until that works
            logger.warning("%s runs cannot be read together: %s", len(short), error)
            return {}
        finally:
            self.reading = {}

    def _take_run(self, job: Job, history: History | None) -> None:
        workflow = self.registry.workflows[job.workflow]
        execution = Execution(job.run_id, workflow, Machine(workflow.body, job.run_id), job, job.length, busy=True)
        self.executions[job.run_id] = execution
        self._taking += 1
        self._tasks.add(asyncio.create_task(self._take_up(execution, history)))

    async def caught_up(self) -> None:
        """Wait until most of the runs that were taken are under way: many half-way at once are slow to collect."""
        while self._taking > self.options.batch // 2:
            self._fewer.clear()
            await self._fewer.wait()

    async def _take_up(self, execution: Execution, history: History | None) -> None:
        try:
            try:
                first = await self._resume(execution, history)
            finally:
                self._taking -= 1
                self._fewer.set()
            if first is not None and not self.draining and not execution.gone:
                await self._carry(execution, first)
        finally:
            self._tasks.discard(asyncio.current_task())  # this costs less than a callback

    def tick(self, now: datetime) -> datetime | None:
        """See to the runs held here whose timers or retries are due; return when the next one will be."""
        earliest: datetime | None = None
        for execution in list(self.executions.values()):
            wake = execution.machine.next_wake() if execution.running and not execution.busy else None
            if wake is not None and wake <= now:
                self._spawn(self._continue(execution, facts_on_time(execution.machine, now), all_steps=True))
            elif wake is not None and (earliest is None or wake < earliest):
                earliest = wake
        return earliest

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way here."""
        return not self._tasks

    @property
    def only_waits_for_steps(self) -> bool:
        """Whether nothing is under way here but steps."""
        steps = {task for execution in self.executions.values() for task in execution.running.values()}
        return self._tasks <= steps and not any(execution.busy for execution in self.executions.values())

    async def vanish(self) -> None:
        """Stop at once and write nothing more, as a killed process does; for tests."""
        self.draining = True
        for execution in self.executions.values():
            execution.gone = True
        tasks = [*self._tasks, *self._jobs.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for execution in list(self.executions.values()):
            self._drop(execution)

    async def drain(self, grace: float) -> None:
        """Begin no more steps; wait up to *grace* seconds for those that run, then cancel them."""
        self.draining = True
        running = {task for execution in self.executions.values() for task in execution.running.values()}
        running |= self._jobs.tasks
        if running and grace > 0:
            await asyncio.wait(running | self._tasks, timeout=grace)
        left = [task for task in running | self._tasks if not task.done()]
        jobs = self._jobs.once()
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._clean = self._clean and await self._jobs.interrupt(jobs)
        for execution in list(self.executions.values()):
            if execution.once:
                await self._interrupt(execution)
            self._drop(execution)
        for machine, _ in self._kept.values():
            machine.close()
        self._kept.clear()
        self._carrier.close()
        await asyncio.gather(*self._ending)

    async def look(self) -> None:
        """Let go of steps whose run has ended, or stopped, meanwhile: its jobs are gone, and storages do not tell.

        Only a worker with a capacity looks, every sweep: it has few of them, and needs the room.
        """
        now = self.clock.now()
        if self.options.capacity is None or (self._looked is not None and now < self._looked + self.options.sweep):
            return
        self._looked = now
        held = [run_id for run_id, execution in self.executions.items() if execution.running]
        for run_id in dict.fromkeys([*held, *self._jobs.runs]):
            try:
                run, _ = await self.storage.load(run_id, LAST)
                is_over = run.status is not Status.RUNNING
            except RunNotFound:
                is_over = True
            if is_over:
                self._jobs.drop_run(run_id)
                self.woken(run_id)

    async def _interrupt(self, execution: Execution) -> None:
        """Record that steps were cut short which must not begin again, and hand their run back."""
        now = self.clock.now()
        facts = [after_loss(op, name, 1, self.registry.steps, now) for op, name in execution.once.items()]
        try:
            await self.storage.append(
                execution.run_id,
                facts,
                [free_job(execution.lease, now)],
                expected=execution.length,
                lease=execution.lease,
            )
        except NOT_OURS:
            return
        except (StorageError, Conflict) as error:  # then their lease has to lapse, which says the same
            logger.warning("run %s cannot be handed back: %s", execution.run_id, error)
            self._clean = False

    async def _resume(self, execution: Execution, history: History | None) -> Pending | None:
        job, now = execution.lease, self.clock.now()
        if execution.gone:  # let go of before its turn came
            return None
        try:
            _check_recoveries(job)
            kept = self._kept.pop(job.run_id, None)
            if kept is None:
                await self._rebuild(execution, history)
            else:
                execution.machine, execution.length = kept
                if execution.length != job.length:
                    await self._catch_up(execution)
        except RunEnded:  # it ended, or is blocked, and yet had a job: somebody told it something meanwhile
            await self._forget(execution)
            return None
        except Exception as error:  # noqa: BLE001 -- whatever keeps a run from going on blocks that run, not the worker
            if not execution.gone:
                await self._give_up(execution, error)
            return None
        execution.busy = False
        if execution.gone:
            return None
        facts = facts_on_time(execution.machine, now)
        if job.lapsed:
            facts += facts_after_loss(execution.machine, self.registry.steps, now)
        return await self._advance(execution, facts, all_steps=True)


def _check_recoveries(job: Job) -> None:
    if job.recoveries > MAX_RECOVERIES:
        msg = f"its worker was lost {job.recoveries} times: the run may be what kills them"
        raise RunBlocked(msg)
