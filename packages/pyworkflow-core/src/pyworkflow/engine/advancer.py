"""Advances one run after another: has its machine decide, writes that, and carries out the steps which follow."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, evolve, field

from pyworkflow.clock import pauses
from pyworkflow.codec.exceptions import record_of
from pyworkflow.engine.child_runs import Family
from pyworkflow.engine.dispatch import hand_out
from pyworkflow.engine.held_run import Execution, forget_answered
from pyworkflow.engine.remote_steps import StepJobs
from pyworkflow.engine.step_runner import Carrier
from pyworkflow.errors import (
    Conflict,
    DamagedHistory,
    HookTaken,
    LeaseLost,
    NonDeterminism,
    RunEnded,
    RunNotFound,
    StorageError,
)
from pyworkflow.events import CallStep, Completed, Event, Failed, Retrying, RunRetried, StartChild
from pyworkflow.events import RunBlocked as BlockedEvent
from pyworkflow.model import RUN_OP, Effects, History, Hook, Job, Message, Run, Status
from pyworkflow.replay.decision import Decision, decide, still_news
from pyworkflow.replay.effects import doubled
from pyworkflow.replay.history import effective
from pyworkflow.replay.machine import MAX_EVENTS, Machine
from pyworkflow.replay.operations import Pending

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry, Step
    from pyworkflow.clock import Clock
    from pyworkflow.engine.host import Host
    from pyworkflow.engine.options import WorkerOptions
    from pyworkflow.ports import RetryPolicy, Storage

logger = logging.getLogger(__name__)

NOT_OURS = (LeaseLost, RunEnded, RunNotFound)

T = TypeVar("T")

WARN_EVENTS = 10_000
"""A run whose history gets so long is warned of, once."""


@define(eq=False, kw_only=True)
class Advancing(Family):
    """The half of a worker that knows how a run goes on, wherever it came from.

    A run that it holds costs one transaction for each step of a sequence: the result of a step and the request of the
    next one go into one append, and the same task goes on with it. What is parked costs no task and no timer.

    Args:
        settle: Called with a run's id when it is let go of and, if it ended here, the event that ended it.
        policy: Returns the retry policy and the number of retries of a step.
        observe: Called with events that are now part of a history.
        ended: Called with the whole history of a run that ended here.
        wake_at: Called with a time at which to look for work.
        notify: Called with jobs that became due for others.
        app: The application that the functions of the package stand for in a step.
    """

    storage: Storage
    registry: Registry
    clock: Clock
    options: WorkerOptions
    settle: Callable[[str, Event | None], None]
    policy: Callable[[Step[..., Any]], tuple[RetryPolicy, int]]
    observe: Callable[[Run, Sequence[Event]], None] | None = None
    ended: Callable[[Run, Sequence[Event]], None] | None = None
    wake_at: Callable[[datetime], None] = lambda _: None
    notify: Callable[[Sequence[Job]], Coroutine[Any, Any, None]] | None = None
    app: Host | None = None
    draining: bool = False
    executions: dict[str, Execution] = field(factory=dict, init=False)
    reading: dict[str, bool] = field(factory=dict, init=False)  # claimed, not in hand yet: is that read all?
    _kept: OrderedDict[str, tuple[Machine, int]] = field(factory=OrderedDict, init=False)
    _carrier: Carrier = field(init=False)
    _jobs: StepJobs = field(init=False)
    _tasks: set[asyncio.Task[None]] = field(factory=set, init=False)
    _ending: set[asyncio.Task[None]] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._carrier = Carrier(self.registry, self.clock, self.policy, self.options.threads, self.app)
        self._jobs = StepJobs(
            self.storage, self._carrier, self.clock, freed=self._freed, woke=self._woke, observe=self.observe
        )

    # -- how much there is room for ----------------------------------------------------

    def room(self, inside: Execution | None = None) -> int | None:
        """Return how many steps more can be begun, by the run *inside* or a new one; None: any number."""
        if self.options.capacity is None:
            return None
        held = [len(execution.running) + execution.starting for execution in self.executions.values()]
        used = len(self._jobs) + sum(max(1, steps) for steps in held)
        if inside is not None:
            used -= max(1, len(inside.running) + inside.starting) - len(inside.running)
        return max(0, self.options.capacity - used)

    @property
    def held(self) -> int:
        """How many runs, and steps of others' runs, are in hand."""
        return len(self.executions) + len(self._jobs)

    def _freed(self) -> None:
        if self.options.capacity is not None and not self.draining:
            self.wake_at(self.clock.now())

    def _woke(self, job: Job) -> None:
        if job.run_id in self.executions or job.run_id in self.reading:
            self.woken(job.run_id)
        elif self.draining or (self.options.queues is not None and "" not in self.options.queues):
            self._tell_others([job])  # else it is ours to take next

    def _tell_others(self, jobs: Sequence[Job]) -> None:
        if jobs and self.notify is not None:
            self._spawn(self.notify(jobs))

    def woken(self, run_id: str, op: int = RUN_OP) -> None:
        """Have a look at what others wrote into the history of a run, or stop a step that they dropped."""
        execution = self.executions.get(run_id)
        if run_id in self.reading:
            self.reading[run_id] = False
        if op != RUN_OP:
            self._jobs.drop((run_id, op))
        elif execution is not None:
            execution.stale = True
            self._spawn(self._continue(execution, []))

    # -- holding a run -----------------------------------------------------------------

    async def _rebuild(self, execution: Execution, history: History | None = None) -> None:
        execution.stale = False
        if not execution.machine.is_new:
            execution.machine.close()
        run, events = history or await self._load(execution.run_id, 0)
        if run.status is not Status.RUNNING:
            raise RunEnded(run.id)
        if not execution.machine.is_new:
            execution.machine = Machine(execution.workflow.body, run.id)
        self._grown(execution, run.length)
        execution.machine.replay(effective(events))
        for op in list(execution.running):
            if op in execution.machine.pending:
                execution.machine.begin(op)
            else:
                execution.running.pop(op).cancel()
        for op in [op for op in execution.once if op not in execution.machine.pending]:
            del execution.once[op]

    async def _catch_up(self, execution: Execution) -> None:
        execution.stale = False
        run, news = await self._load(execution.run_id, execution.length)
        if run.status is not Status.RUNNING:
            raise RunEnded(run.id)
        if any(isinstance(event, RunRetried) for event in news):
            await self._rebuild(execution)
            return
        execution.machine.replay(news)
        self._grown(execution, run.length)

    def _grown(self, execution: Execution, length: int) -> None:
        """Note how long the history is; what has come to it may be of somebody who holds the run by now."""
        execution.unsure = execution.unsure or length > max(execution.length, execution.lease.length)
        execution.length = length

    async def _load(self, run_id: str, after: int) -> History:
        return await self._insist(lambda: self.storage.load(run_id, after))

    # -- deciding and writing ----------------------------------------------------------

    async def _continue(self, execution: Execution, facts: Sequence[Event], *, all_steps: bool = False) -> None:
        first = await self._advance(execution, facts, all_steps=all_steps)
        if first is not None and not self.draining and not execution.gone:
            await self._carry(execution, first)

    async def _advance(
        self, execution: Execution, facts: Sequence[Event], *, all_steps: bool = False
    ) -> Pending | None:
        """Write *facts* and what the workflow makes of them; return a step for the caller to go on with."""
        if execution.busy or execution.gone:
            execution.inbox.extend(facts)
            execution.again = True
            return None
        execution.busy = True
        try:
            while True:
                if self.options.replay:
                    await self._rebuild(execution)
                elif execution.stale or execution.machine.away:  # likely there is something: saves a conflict
                    await self._catch_up(execution)
                    all_steps = True
                if execution.inbox:
                    facts, execution.inbox = [*facts, *execution.inbox], []
                execution.again = False
                now = self.clock.now()
                every = all_steps or self.draining  # then steps are not begun, and must not be taken for under way
                decision = self._share(execution, decide(execution, facts, now, all_steps=every), now)
                try:
                    length: int | None = await self._write(execution, decision, now)
                except Conflict:
                    length = None
                # Not within an except: the conflict would become the context of errors that the workflow raises.
                if length is None:  # told something meanwhile: take it in, and decide again
                    await self._rebuild(execution)
                    facts = still_news(execution.machine, facts)
                    all_steps = True
                    continue
                todo = self._written(execution, decision, length)
                if execution.gone or self.draining:
                    return None
                if not execution.inbox and not execution.stale and not execution.again:
                    return self._first_of(execution, todo)
                self._dispatch(execution, todo)
                facts, all_steps = (), False
        except NOT_OURS:
            self._drop(execution)
        except Exception as error:  # noqa: BLE001 -- whatever keeps a run from going on blocks that run, not the worker
            await self._give_up(execution, error)
        finally:
            execution.busy, execution.starting = False, 0
        return None

    def _first_of(self, execution: Execution, todo: Sequence[Pending]) -> Pending | None:
        """Return a step for the caller to go on with, and see to the others."""
        if len(todo) == 1 and todo[0].kind is CallStep:
            return todo[0]
        first = next((pending for pending in todo if pending.kind is CallStep), None)
        self._dispatch(execution, [pending for pending in todo if pending is not first])
        return first

    def _share(self, execution: Execution, decision: Decision, now: datetime) -> Decision:
        options = self.options
        if options.capacity is None and options.queues is None:
            return decision
        room = self.room(execution)
        shared = hand_out(execution, decision, self.registry.steps, now, queues=options.queues, room=room)
        execution.starting = len(shared.todo)
        return shared

    async def _write(self, execution: Execution, decision: Decision, now: datetime) -> int:
        if not decision.events and not decision.parked and not (execution.unsure and decision.todo):
            return execution.length
        jobs, also, waits = decision.jobs, decision.also, None
        if decision.parked:
            jobs = [*jobs, free_job(execution.lease, decision.wake)]
        if also is not None and (twice := doubled(also.hooks)):
            taken = HookTaken("the token of the hook is in use by another hook of this run", twice[0].token)
            also, jobs = _refused(execution, also, twice, taken, now), decision.jobs
        while True:
            try:
                length = await self.storage.append(
                    execution.run_id,
                    decision.events,
                    jobs,
                    expected=execution.length,
                    lease=execution.lease,
                    finish=decision.status is not None,
                    status=decision.status,
                    now=now,
                    also=also,
                )
            except HookTaken as taken:
                assert also is not None  # noqa: S101 -- it has the hook
                refused = [hook for hook in also.hooks if hook.token == taken.token]
                also, jobs = _refused(execution, also, refused, taken, now), decision.jobs
            except StorageError as error:  # what was done is not thrown away because the disk is full
                logger.warning("run %s cannot be written, trying again: %s", execution.run_id, error)
                waits = waits or pauses()
                await asyncio.sleep(next(waits))
            else:
                execution.unsure = False
                return length
            now = self.clock.now()

    def _written(self, execution: Execution, decision: Decision, length: int) -> Sequence[Pending]:
        """Do what a decision entails once it is durable; return the steps to carry out."""
        execution.length = length
        self._tell_others(decision.jobs)
        if execution.once:
            forget_answered(execution, decision)
        for pending in decision.abandoned:
            if (task := execution.running.pop(pending.op, None)) is not None:
                task.cancel()
        self._tell_plugins(execution, decision, length)
        if decision.also is not None and (decision.also.tell or decision.also.begin):
            self._told([*decision.also.tell, *(Message(new.run.id, new.events) for new in decision.also.begin)])
        if length >= WARN_EVENTS > length - len(decision.events):
            _warn_of_length(execution.run_id, length)
        if decision.status is not None:
            self._drop(execution, decision.events[-1])
        elif execution.gone:  # it was given back, and claimed anew, before the answer came
            pass
        elif decision.parked and not execution.inbox:
            self._park(execution, decision.wake)
        elif (wake := execution.machine.next_wake()) is not None:
            self.wake_at(wake)
        return decision.todo

    def _tell_plugins(self, execution: Execution, decision: Decision, length: int) -> None:
        if self.observe is not None and decision.events:
            status, created = decision.status or Status.RUNNING, execution.machine.started
            self.observe(Run(execution.run_id, execution.workflow.name, created, status, length), decision.events)
        if self.ended is not None and decision.status is not None and decision.status.is_final:
            self._ending.add(asyncio.create_task(self._tell_end(execution.run_id, self.ended)))

    async def _tell_end(self, run_id: str, tell: Callable[[Run, Sequence[Event]], None]) -> None:
        with suppress(StorageError, RunNotFound):
            tell(*await self.storage.load(run_id))
        self._ending.discard(asyncio.current_task())

    def _told(self, messages: Sequence[Message]) -> None:
        """Have a look at runs that were told something: those held here at once, the others by a sweep."""
        self.wake_at(self.clock.now())
        for message in messages:
            self.woken(message.run_id)
        self._tell_others([Job(message.run_id) for message in messages if message.run_id not in self.executions])

    async def _forget(self, execution: Execution) -> None:
        """Delete the job of a run that has nothing to do."""
        with suppress(StorageError, *NOT_OURS):
            await self.storage.append(execution.run_id, [], lease=execution.lease, finish=True)
        self._drop(execution)

    async def _give_up(self, execution: Execution, error: Exception) -> None:
        """Block the run, so that somebody looks at it and nothing of it is lost."""
        if isinstance(error, NOT_OURS):
            self._drop(execution)
            return
        if isinstance(error, NonDeterminism) and execution.machine.fingerprint not in {
            "",
            execution.workflow.fingerprint,
        }:
            error = NonDeterminism(f"{error} (the code of the workflow is not the one that the run was started with)")
        logger.error("run %s is blocked: %s", execution.run_id, error, extra={"run_id": execution.run_id})
        now = self.clock.now()
        event = BlockedEvent(now, record_of(error))
        try:
            await self.storage.append(
                execution.run_id, [event], lease=execution.lease, finish=True, status=Status.BLOCKED, now=now
            )
        except (StorageError, *NOT_OURS) as failure:
            logger.warning("run %s could not be marked as blocked: %s", execution.run_id, failure)
        self._drop(execution, event)

    def _drop(self, execution: Execution, end: Event | None = None) -> None:
        """Let go of a run: it has ended, or somebody else has it now."""
        execution.gone = True
        for task in execution.running.values():
            if task is not asyncio.current_task():
                task.cancel()
        execution.running.clear()
        execution.machine.close()
        if self.executions.get(execution.run_id) is execution:
            del self.executions[execution.run_id]
        self.settle(execution.run_id, end)
        self._freed()

    def _park(self, execution: Execution, wake: datetime | None) -> None:
        execution.gone = True
        self.executions.pop(execution.run_id, None)
        self._kept[execution.run_id] = execution.machine, execution.length
        if len(self._kept) > self.options.kept:
            _, (machine, _) = self._kept.popitem(last=False)
            machine.close()
        self.settle(execution.run_id, None)  # who waits for its end must look for it: it may go on elsewhere
        if wake is not None:
            self.wake_at(wake)
        self._freed()

    # -- carrying steps out --------------------------------------------------------------

    def _dispatch(self, execution: Execution, steps: Sequence[Pending]) -> None:
        if self.draining or execution.gone:
            return
        for pending in steps:
            carry = self._start_child if pending.kind is StartChild else self._carry
            task = asyncio.create_task(carry(execution, pending))
            execution.running[pending.op] = task
            self._keep(task)

    async def _carry(self, execution: Execution, pending: Pending | None) -> None:
        task = asyncio.current_task()
        while pending is not None:
            op = pending.op
            execution.running[op] = task  # type: ignore[assignment]
            execution.machine.begin(op)
            try:
                event = await self._attempt(execution, pending)
            except Exception as error:  # noqa: BLE001 -- the step's own are events: this is a step or policy not to be had
                await self._give_up(execution, error)
                return
            pending = None  # so that what is over does not live on while what came of it is written
            if execution.running.pop(op, None) is not task:
                return  # nobody waits for it any more
            pending = await self._advance(execution, (event,))

    async def _insist(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        waits = pauses()
        while True:
            try:
                return await act()
            except DamagedHistory:
                raise
            except StorageError as error:
                logger.warning("the storage failed, trying again: %s", error)
                await asyncio.sleep(next(waits))

    def _attempt(self, execution: Execution, pending: Pending) -> Coroutine[Any, Any, Completed | Failed | Retrying]:
        command = pending.command
        assert isinstance(command, CallStep)  # noqa: S101 -- tells the type checker
        step = self.registry.steps.get(command.name)
        if step is not None and step.options.at_most_once:
            execution.once[pending.op] = command.name
        return self._carrier.attempt(
            execution.run_id, pending.op, command.name, command.args, command.kwargs, pending.attempt
        )

    def _spawn(self, coroutine: Any) -> None:
        self._keep(asyncio.create_task(coroutine))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refused(execution: Execution, also: Effects, hooks: Sequence[Hook], taken: HookTaken, now: datetime) -> Effects:
    """Have the workflow told that *hooks* cannot be opened, so that it is not parked; return what else to write."""
    execution.inbox += [Failed(now, hook.op, record_of(taken, retryable=False)) for hook in hooks]
    return evolve(also, hooks=[hook for hook in also.hooks if hook not in hooks])


def _warn_of_length(run_id: str, length: int) -> None:
    logger.warning(
        "the history of run %s has %d events; a workflow that goes on for ever should call "
        "pyworkflow.continue_as_new() from time to time (no more than %d are taken)",
        run_id,
        length,
        MAX_EVENTS,
        extra={"run_id": run_id},
    )


def free_job(lease: Job, due: datetime | None) -> Job:
    """Return the job of a run that is given up until *due*."""
    return Job(lease.run_id, lease.op, due, lease.workflow, lease.queue)
