"""Executes held runs: asks the machine for decisions, appends them to the history, and runs the resulting steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from pyworkflow.codec.exceptions import record_of
from pyworkflow.engine.appending import NOT_OURS, Appender, Attempt
from pyworkflow.engine.capacity import Capacity
from pyworkflow.engine.child_runs import ChildRuns
from pyworkflow.engine.dispatch import dispatch
from pyworkflow.engine.held_run import HeldRun, Phase, warn_of_length
from pyworkflow.engine.machine_cache import MachineCache
from pyworkflow.engine.remote_steps import RemoteSteps
from pyworkflow.errors import HookTaken, NonDeterminism, RunEnded, RunNotFound, StorageError
from pyworkflow.events import CallStep, Completed, Event, Failed, Retrying, RunRetried, StartChild
from pyworkflow.model import RUN_OP, Append, Effects, History, Hook, Job, Message, Run, Status
from pyworkflow.replay.decision import Decision, decide, still_news, still_open
from pyworkflow.replay.effects import doubled
from pyworkflow.replay.history import effective
from pyworkflow.replay.machine import Machine

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry, Workflow
    from pyworkflow.clock import Clock
    from pyworkflow.codec import Codec
    from pyworkflow.engine.host import Listener
    from pyworkflow.engine.options import WorkerOptions
    from pyworkflow.engine.signals import Signals
    from pyworkflow.engine.step_runner import StepRunner
    from pyworkflow.ports import Storage
    from pyworkflow.replay.operations import Pending

logger = logging.getLogger(__name__)


@define(eq=False, kw_only=True)
class Advancer:
    """The runs that a worker holds, and how they go on.

    A step of a sequence costs one transaction: its result and the request of the next step go into one append, and
    the same task goes on with that step. A parked run costs no task and no timer.

    Attributes:
        draining: No step begins any more.
        runs: The runs that are held, by id.
        reading: The runs that are claimed and whose histories are being read together; False: one was signalled since.
    """

    storage: Storage
    registry: Registry
    codec: Codec
    clock: Clock
    options: WorkerOptions
    signals: Signals
    runner: StepRunner
    draining: bool = False
    runs: dict[str, HeldRun] = field(factory=dict, init=False)
    reading: dict[str, bool] = field(factory=dict, init=False)
    tasks: set[asyncio.Task[None]] = field(factory=set, init=False)
    ending: set[asyncio.Task[None]] = field(factory=set, init=False)
    appender: Appender = field(init=False)
    kept: MachineCache = field(init=False)
    remote: RemoteSteps = field(init=False)
    capacity: Capacity = field(init=False)
    _children: ChildRuns = field(init=False)
    _dispatches: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        signals, options = self.signals, self.options
        self._dispatches = options.capacity is not None or options.queues is not None
        self.appender = Appender(self.storage, self.clock, options.beat)
        self.kept = MachineCache(options.kept)
        self.remote = RemoteSteps(
            self.appender, self.runner, self.clock, freed=self._freed, woke=self._woke, observe=signals.observe
        )
        self.capacity = Capacity(options.capacity, self.runs, self.remote)
        self._children = ChildRuns(
            self.appender,
            self.registry,
            self.clock,
            signals,
            notify=self.notify,
            advance=self.advance,
            block=self.block,
            signalled=self._signalled,
        )

    # -- signals -----------------------------------------------------------------------

    def notify(self, jobs: Sequence[Job]) -> None:
        """Notify others of *jobs*, which became due."""
        if jobs and self.signals.notify is not None:
            self.spawn(self.signals.notify(jobs))

    def woken(self, run_id: str, op: int = RUN_OP) -> None:
        """See what others wrote into the history of a run, or stop a step that they dropped."""
        held = self.runs.get(run_id)
        if run_id in self.reading:
            self.reading[run_id] = False
        if op != RUN_OP:
            self.remote.drop((run_id, op))
        elif held is not None:
            held.stale = True
            self.spawn(self.advance(held, []))

    def _freed(self) -> None:
        if self.options.capacity is not None and not self.draining:
            self.signals.wake_at(self.clock.now())

    def _woke(self, job: Job) -> None:
        if job.run_id in self.runs or job.run_id in self.reading:
            self.woken(job.run_id)
        elif self.draining or (self.options.queues is not None and "" not in self.options.queues):
            self.notify([job])  # else it is ours to claim next

    def _signalled(self, messages: Sequence[Message]) -> None:
        """Have runs that got messages seen to: those held here at once, the others by a sweep."""
        self.signals.wake_at(self.clock.now())
        for message in messages:
            self.woken(message.run_id)
        self.notify([Job(message.run_id) for message in messages if message.run_id not in self.runs])

    # -- machines and histories ---------------------------------------------------------------------

    def machine_of(self, workflow: Workflow[..., Any], run_id: str) -> Machine:
        """Return a new machine for a run."""
        return Machine(workflow.body, run_id, codec=self.codec)

    async def rebuild(self, held: HeldRun, history: History | None = None) -> None:
        """Replay the whole history of a run on a new machine.

        Raises:
            RunEnded: The run does not go on.
        """
        held.stale = held.is_ahead = False
        if not held.machine.is_new:
            held.machine.close()
        run, events = history or await self._load(held.run_id, 0)
        if run.status is not Status.RUNNING:
            raise RunEnded(run.id)
        if not held.machine.is_new:
            held.machine = self.machine_of(held.workflow, run.id)
        held.grown(run.length)
        held.machine.replay(effective(events))
        for op in list(held.running):
            if op in held.machine.pending:
                held.machine.operations.begin(op)
            else:
                held.running.pop(op).cancel()
        held.forget_answered([op for op in held.once if op not in held.machine.pending])

    async def catch_up(self, held: HeldRun) -> None:
        """Replay what was added to the history of a run from outside.

        Raises:
            RunEnded: The run does not go on.
        """
        held.stale = False
        run, news = await self._load(held.run_id, held.length)
        if run.status is not Status.RUNNING:
            raise RunEnded(run.id)
        if any(isinstance(event, RunRetried) for event in news):
            await self.rebuild(held)
            return
        held.machine.replay(news)
        held.grown(run.length)

    async def _load(self, run_id: str, after: int) -> History:
        return await self.appender.insist(lambda: self.storage.load(run_id, after))

    # -- deciding and writing ----------------------------------------------------------

    async def advance(self, held: HeldRun, facts: Sequence[Event], *, all_steps: bool = False) -> None:
        """Write *facts* and what the workflow decides on them, and run the steps which follow."""
        first = await self.decide_and_write(held, facts, all_steps=all_steps)
        if first is not None and not self.draining and not held.is_released:
            await self.run_steps(held, first)

    async def decide_and_write(
        self, held: HeldRun, facts: Sequence[Event], *, all_steps: bool = False
    ) -> Pending | None:
        """Write *facts* and what the workflow decides on them; return a step for the caller to go on with."""
        if not held.acquire(facts):
            return None
        try:
            while True:
                if held.stale or self.options.replay or held.machine.operations.dispatched:
                    all_steps = await self._refresh(held) or all_steps
                    facts = still_open(held.machine, facts)
                if held.waiting:
                    facts = held.take_waiting(facts)
                now = self.clock.now()
                every = all_steps or self.draining  # then no step begins, and none may count as running
                decision = decide(held, facts, now, all_steps=every)
                if self._dispatches:
                    decision = self.dispatched(held, decision, now)
                if decision.events or decision.parked or (held.unproven and decision.todo):
                    length = await self.appender.append(self._append_of(held, decision, now))
                    if length is None:  # the history is not the one that was decided on: read it, and decide again
                        await self.rebuild(held)
                        facts, all_steps = still_news(held.machine, facts), True
                        continue
                    held.length, held.unproven, held.proven = length, False, now
                todo = self.written(held, decision)
                if self.draining or held.phase is Phase.RELEASED:
                    return None
                if held.yield_turn():
                    return todo[0] if len(todo) == 1 and todo[0].kind is CallStep else self._first_of(held, todo)
                self.begin(held, todo)
                facts, all_steps = (), False
        except NOT_OURS:
            self.drop(held)
        except Exception as error:  # noqa: BLE001 -- whatever keeps a run from going on blocks that run, not the worker
            await self.block(held, error)
        finally:
            held.abort_turn()
        return None

    async def _refresh(self, held: HeldRun) -> bool:
        """Read what was probably added to the history, which saves a conflict; return whether that was done."""
        was_ahead, rebuilds = held.is_ahead, self.options.replay or held.is_ahead
        await (self.rebuild(held) if rebuilds else self.catch_up(held))
        return was_ahead or not rebuilds

    def _append_of(self, held: HeldRun, decision: Decision, now: datetime) -> Attempt:
        """Return what to write for *decision*, and what to write instead if a hook's token is in use."""
        jobs, effects, status = decision.jobs, decision.effects, decision.status
        if decision.parked:
            jobs = [*jobs, held.lease.released(decision.wake)]
        append = Append(
            held.run_id, decision.events, jobs, held.length, held.lease, status is not None, status, now, effects
        )
        if effects is None:
            return append, None

        def without(append: Append, taken: HookTaken) -> Append:
            hooks = [hook for hook in effects.hooks if hook.token == taken.token]
            return self._without_hooks(held, append, hooks, taken)

        if twice := doubled(effects.hooks):
            taken = HookTaken("the token of the hook is in use by another hook of this run", twice[0].token)
            append = self._without_hooks(held, append, twice, taken)
        return append, without

    def _without_hooks(self, held: HeldRun, append: Append, hooks: Sequence[Hook], taken: HookTaken) -> Append:
        """Fail *hooks*, which cannot be opened, so that the workflow sees it; return what else to write."""
        now = self.clock.now()
        held.waiting += [Failed(now, hook.op, record_of(taken, retryable=False)) for hook in hooks]
        effects = append.effects or Effects()
        kept = evolve(effects, hooks=[hook for hook in effects.hooks if hook not in hooks])
        return evolve(append, jobs=[job for job in append.jobs if job.op != RUN_OP], effects=kept)

    def dispatched(self, held: HeldRun, decision: Decision, now: datetime) -> Decision:
        """Return *decision* with every step dispatched that this worker has no room for, or does not serve."""
        if not self._dispatches:
            return decision
        room = self.capacity.room(held)
        shared = dispatch(held, decision, self.registry.steps, now, queues=self.options.queues, room=room)
        held.starting = len(shared.todo)
        return shared

    def written(self, held: HeldRun, decision: Decision) -> Sequence[Pending]:
        """Do what a decision entails once it is durable; return the steps to run."""
        if decision.jobs:
            self.notify(decision.jobs)
        if held.once:
            ended = [event.op for event in decision.events if isinstance(event, Completed | Failed | Retrying)]
            held.forget_answered([*ended, *(pending.op for pending in decision.abandoned)])
        for pending in decision.abandoned:
            if (task := held.running.pop(pending.op, None)) is not None:
                task.cancel()
        if self.signals.observe is not None or decision.status is not None:
            self.observed(held, decision)
        if decision.effects is not None and (decision.effects.messages or decision.effects.new_runs):
            new_runs = [Message(new.run.id, new.events) for new in decision.effects.new_runs]
            self._signalled([*decision.effects.messages, *new_runs])
        if held.length >= self.options.warn_events > held.length - len(decision.events):
            warn_of_length(held.run_id, held.length)
        if decision.status is not None:
            self.drop(held, decision.events[-1])
        elif held.phase is Phase.RELEASED:  # it was released, and claimed again, before the answer came
            pass
        elif decision.parked and not held.waiting:
            self._park(held, decision.wake)
        elif (wake := held.next_wake()) is not None:
            self.signals.wake_at(wake)
        return decision.todo

    def observed(self, held: HeldRun, decision: Decision) -> None:
        """Show plugins the events of a decision that is durable and, if the run ended, its whole history."""
        observe, ended, status = self.signals.observe, self.signals.ended, decision.status
        if observe is not None and decision.events:
            about = held.workflow.name, held.machine.started, status or Status.RUNNING, held.length
            observe(Run(held.run_id, *about), decision.events)
        if ended is not None and status is not None and status.is_final:
            self.ending.add(asyncio.create_task(self._show_end(held.run_id, ended)))

    async def _show_end(self, run_id: str, ended: Listener) -> None:
        with suppress(StorageError, RunNotFound):
            ended(*await self.storage.load(run_id))
        self.ending.discard(asyncio.current_task())

    # -- releasing a run -----------------------------------------------------------------

    async def forget(self, held: HeldRun) -> None:
        """Delete the job of a run that has nothing to do."""
        with suppress(StorageError, *NOT_OURS):
            await self.storage.append(Append(held.run_id, lease=held.lease, finish=True))
        self.drop(held)

    async def block(self, held: HeldRun, error: Exception) -> None:
        """Block the run, so that somebody looks at it and nothing of it is lost."""
        if isinstance(error, NOT_OURS):
            self.drop(held)
            return
        known = {"", held.workflow.fingerprint}
        if isinstance(error, NonDeterminism) and held.machine.fingerprint not in known:
            error = NonDeterminism(f"{error} (the code of the workflow is not the one that the run was started with)")
        self.drop(held, await self.appender.block(held.lease, error, finish=True))

    def drop(self, held: HeldRun, end: Event | None = None) -> None:
        """Release a run: it has ended, or somebody else has it now."""
        held.release()
        if self.runs.get(held.run_id) is held:
            del self.runs[held.run_id]
        self.signals.settle(held.run_id, end)
        self._freed()

    def _park(self, held: HeldRun, wake: datetime | None) -> None:
        """Release a run that waits; its machine is kept for a while."""
        held.park()
        self.runs.pop(held.run_id, None)
        self.kept.put(held.run_id, held.machine, held.length)
        self.signals.settle(held.run_id, None)  # who waits for its end must poll: it may go on elsewhere
        if wake is not None:
            self.signals.wake_at(wake)
        self._freed()

    # -- running steps -------------------------------------------------------------------

    def _first_of(self, held: HeldRun, todo: Sequence[Pending]) -> Pending | None:
        """Return a step for the caller to go on with, and begin the others."""
        first = next((pending for pending in todo if pending.kind is CallStep), None)
        self.begin(held, [pending for pending in todo if pending is not first])
        return first

    def begin(self, held: HeldRun, todo: Sequence[Pending], run_steps: Any = None) -> None:
        """Run steps, by *run_steps* if given, and start children, each in a task of its own."""
        if self.draining or held.phase is Phase.RELEASED:
            return
        for pending in todo:
            run = self._children.start if pending.kind is StartChild else run_steps or self.run_steps
            task = asyncio.create_task(run(held, pending))
            held.running[pending.op] = task
            self._keep(task)

    async def run_steps(self, held: HeldRun, pending: Pending | None) -> None:
        """Run a step, and those that follow it one by one, in the current task."""
        task = asyncio.current_task()
        while pending is not None:
            op, command = pending.op, pending.command
            assert isinstance(command, CallStep)  # noqa: S101 -- tells the type checker
            held.running[op] = task  # type: ignore[assignment]  # there is one
            if pending.due is not None:
                held.machine.operations.begin(op)
            try:
                if self.clock.now() - held.proven > self.appender.beat:  # others may have had the run: ask
                    held.proven = await self.appender.prove(held.lease, held.proven)
                    if self.draining or held.running.get(op) is not task:
                        return
                step = self.registry.steps.get(command.name)
                if step is not None and step.options.at_most_once:
                    held.once[op] = command.name
                event = await self.runner.run(held.run_id, op, command, pending.attempt)
            except Exception as error:  # noqa: BLE001 -- the step's own are events: this is a step or policy not to be had
                await self.block(held, error)
                return
            pending = command = None  # so that what is over does not live on while what came of it is written
            if held.running.pop(op, None) is not task:
                return  # nobody waits for it any more
            pending = await self.decide_and_write(held, (event,))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run *coroutine* in a task that is waited for at the end."""
        self._keep(asyncio.create_task(coroutine))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
