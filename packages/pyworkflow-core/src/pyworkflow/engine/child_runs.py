"""The runs that a run starts: its children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from attrs import define, evolve

from pyworkflow.codec.exceptions import record_of
from pyworkflow.engine.held_run import Phase
from pyworkflow.errors import RunEnded, RunExists, RunNotFound
from pyworkflow.events import RULES, Completed, Event, Failed, Parent, RunStarted, StartChild
from pyworkflow.ids import child_id, new_seed
from pyworkflow.model import RUN_OP, Append, Hook, Job, Lease, Message, Run, Status
from pyworkflow.replay.effects import to_child
from pyworkflow.replay.history import continued_as, effective, open_children

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry
    from pyworkflow.clock import Clock
    from pyworkflow.engine.appending import Appender
    from pyworkflow.engine.held_run import HeldRun
    from pyworkflow.engine.signals import Signals
    from pyworkflow.ports import Storage
    from pyworkflow.replay.operations import Pending


async def create_once(
    storage: Storage,
    run: Run,
    events: Sequence[Event],
    jobs: Sequence[Job],
    hooks: Sequence[Hook] = (),
    *,
    lease: Lease | None = None,
) -> Run | None:
    """Create a run as `Storage.create` does; one that is there already but is this very one counts as created.

    A storage that tries again by itself, as its first answer was lost, finds what it has created.
    """
    existing = await storage.create(run, events, jobs, hooks, lease=lease)
    if existing is not None and existing.id == run.id:
        _, (first, *_) = await storage.load(run.id)
        if first == events[0]:  # with its seed, so it is nobody else's
            return None
    return existing


async def create_free(storage: Storage, run: Run, started: RunStarted) -> tuple[Run | None, Job]:
    """Create *run* for whoever claims it; return the run that has its id or key already, if any, and its job."""
    job = Job(run.id, RUN_OP, started.at, run.workflow)
    new = evolve(run, status=Status.RUNNING, length=1, ended_at=None)
    return await create_once(storage, new, [started], [job]), job


@define(eq=False)
class ChildRuns:
    """Starts and stops children. Their ids follow from the operation, so doing it again does no harm.

    Args:
        notify: Called with jobs that became due for others.
        advance: Writes facts and what the workflow decides on them, and goes on.
        block: Blocks a run.
        signalled: Called with what other runs got, so that they are seen to.
    """

    appender: Appender
    registry: Registry
    clock: Clock
    signals: Signals
    notify: Callable[[Sequence[Job]], None]
    advance: Callable[[HeldRun, Sequence[Event]], Awaitable[None]]
    block: Callable[[HeldRun, Exception], Awaitable[None]]
    signalled: Callable[[Sequence[Message]], None]

    async def start(self, held: HeldRun, pending: Pending) -> None:
        """Create the run of a child."""
        command, op, now = pending.command, pending.op, self.clock.now()
        assert isinstance(command, StartChild)  # noqa: S101 -- tells the type checker
        run_id = command.run_id or child_id(held.run_id, op)
        run = Run(run_id, command.name, now, length=1, idempotency_key=command.key, parent=held.run_id)
        started = self._started(held, command, now)  # once, as its seed tells whether the run is this one
        try:
            existing = await self.appender.insist(lambda: self._create(run, started))
        except Exception as error:  # noqa: BLE001 -- whatever keeps a run from going on blocks that run, not the worker
            await self.block(held, error)
            return
        held.running.pop(op, None)
        pending.begun = True
        facts: list[Event] = []
        if existing is not None and existing.parent != held.run_id and command.key is None:
            msg = f"there is a run {existing.id!r} already, of workflow {existing.workflow!r}"
            facts = [Failed(self.clock.now(), op, record_of(RunExists(msg), retryable=False))]
        elif command.detached:
            facts = [Completed(self.clock.now(), op, run.id if existing is None else existing.id)]
        elif held.phase is Phase.RELEASED or op not in held.machine.pending:  # perhaps nobody waits for it any more
            await self.appender.insist(lambda: self._stop_unwanted(held.run_id, command))
        await self.advance(held, facts)

    def _started(self, held: HeldRun, command: StartChild, now: datetime) -> RunStarted:
        parent = None if command.detached else Parent(held.run_id, command.op)
        workflow = self.registry.workflows.get(command.name)
        fingerprint = "" if workflow is None else workflow.fingerprint
        return RunStarted(
            now, command.name, command.args, command.kwargs, new_seed(), parent, fingerprint=fingerprint, rules=RULES
        )

    async def _create(self, run: Run, started: RunStarted) -> Run | None:
        existing, job = await create_free(self.appender.storage, run, started)
        self.signals.wake_at(started.at)
        self.notify([job])
        return existing

    async def _stop_unwanted(self, parent: str, command: StartChild) -> None:
        """Stop a child that was created after its parent had stopped to wait for it, as is recorded."""
        storage = self.appender.storage
        with suppress(RunEnded, RunNotFound):
            run, events = await storage.load(parent)
            if not run.status.is_final and command in open_children(effective(events)):
                return  # what is not written yet may come to nothing, or another worker goes on with the parent
            message = to_child(parent, command, continued_as(events).get(command.op, ""), self.clock.now())
            run = await storage.run(message.run_id)
            job = Job(run.id, RUN_OP, self.clock.now(), run.workflow)
            jobs = [job] if run.status is Status.RUNNING else []
            await storage.append(Append(run.id, message.events, jobs))
            self.signalled([message])
