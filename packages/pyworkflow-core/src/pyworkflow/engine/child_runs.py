"""The runs that a run starts: its children."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from pyworkflow.codec.exceptions import record_of
from pyworkflow.engine.held_run import Execution
from pyworkflow.engine.remote_steps import LAST
from pyworkflow.errors import (
    RunEnded,
    RunExists,
    RunNotFound,
)
from pyworkflow.events import Completed, Event, Failed, Parent, RunStarted, StartChild
from pyworkflow.ids import child_id, new_seed
from pyworkflow.model import RUN_OP, Hook, Job, Message, Run, Status
from pyworkflow.replay.effects import to_child
from pyworkflow.replay.history import effective, goes_on_as, open_children
from pyworkflow.replay.operations import Pending

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry
    from pyworkflow.clock import Clock
    from pyworkflow.ports import Storage

T = TypeVar("T")


async def create_once(
    storage: Storage, run: Run, events: Sequence[Event], jobs: Sequence[Job], hooks: Sequence[Hook] = ()
) -> Run | None:
    """Create a run as `Storage.create` does; one that is there already but is this very one counts as created.

    A storage that tries again by itself, as its first answer was lost, finds what it has created.
    """
    existing = await storage.create(run, events, jobs, hooks)
    if existing is not None and existing.id == run.id:
        _, (first, *_) = await storage.load(run.id)
        if first == events[0]:  # with its seed, so it is nobody else's
            return None
    return existing


class Family(ABC):
    """What a worker does for the runs that its runs start. Their ids follow, so doing it again does no harm."""

    storage: Storage
    registry: Registry
    clock: Clock

    @abstractmethod
    async def _create(self, run: Run, started: RunStarted) -> Run | None:
        """Create *run* for whoever takes it up; return the run that has its id or key already, if there is one."""

    @abstractmethod
    async def _insist(self, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something with the storage, again and again until it does not fail."""

    @abstractmethod
    async def _continue(self, execution: Execution, facts: Sequence[Event], *, all_steps: bool = False) -> None:
        """Write *facts* and what the workflow makes of them, and go on."""

    @abstractmethod
    async def _give_up(self, execution: Execution, error: Exception) -> None:
        """Block the run."""

    @abstractmethod
    def _told(self, messages: Sequence[Message]) -> None:
        """Have a look at runs that were told something."""

    async def _start_child(self, execution: Execution, pending: Pending) -> None:
        """Create the run of a child. Its id follows from the operation, so doing it again does no harm."""
        command, op, now = pending.command, pending.op, self.clock.now()
        assert isinstance(command, StartChild)  # noqa: S101 -- tells the type checker
        run_id = command.run_id or child_id(execution.run_id, op)
        run = Run(run_id, command.name, now, length=1, idempotency_key=command.key, parent=execution.run_id)
        parent = None if command.detached else Parent(execution.run_id, op)
        workflow = self.registry.workflows.get(command.name)
        fingerprint = "" if workflow is None else workflow.fingerprint
        started = RunStarted(
            now, run.workflow, command.args, command.kwargs, new_seed(), parent, fingerprint=fingerprint
        )
        facts: list[Event] = []
        try:
            existing = await self._insist(lambda: self._create(run, started))
        except Exception as error:  # noqa: BLE001 -- whatever keeps a run from going on blocks that run, not the worker
            await self._give_up(execution, error)
            return
        execution.running.pop(op, None)
        pending.begun = True
        if existing is not None and existing.parent != execution.run_id and command.key is None:
            msg = f"there is a run {existing.id!r} already, of workflow {existing.workflow!r}"
            facts = [Failed(self.clock.now(), op, record_of(RunExists(msg), retryable=False))]
        elif command.detached:
            facts = [Completed(self.clock.now(), op, run.id if existing is None else existing.id)]
        elif execution.gone or op not in execution.machine.pending:  # perhaps nobody waits for it any more
            await self._insist(lambda: self._stop_unwanted(execution.run_id, command))
        await self._continue(execution, facts)

    async def _stop_unwanted(self, parent: str, command: StartChild) -> None:
        """Stop a child that was created after its parent had stopped to wait for it, as is recorded."""
        with suppress(RunEnded, RunNotFound):
            run, events = await self.storage.load(parent)
            if not run.status.is_final and command in open_children(effective(events)):
                return  # what is not written yet may come to nothing, or another worker goes on with the parent
            message = to_child(parent, command, goes_on_as(events).get(command.op, ""), self.clock.now())
            run, _ = await self.storage.load(message.run_id, LAST)
            job = Job(run.id, RUN_OP, self.clock.now(), run.workflow)
            await self.storage.append(run.id, message.events, [job] if run.status is Status.RUNNING else ())
            self._told([message])
