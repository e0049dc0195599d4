"""The dispatched steps that this worker runs, each under a lease of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from pyworkflow.engine.appending import NOT_OURS, Appender
from pyworkflow.errors import DamagedHistory, RunNotFound, StorageError
from pyworkflow.events import Event, Failed, Retrying
from pyworkflow.model import RUN_OP, Append, Job, Lease
from pyworkflow.replay.decision import after_loss

if TYPE_CHECKING:
    from pyworkflow.clock import Clock
    from pyworkflow.engine.host import Listener
    from pyworkflow.engine.step_runner import StepRunner

logger = logging.getLogger(__name__)

Key = tuple[str, int]


@define(eq=False)
class RemoteSteps:
    """The claimed jobs of a worker that are steps.

    The end of a step is a fact, written under the lease of its job; the same append makes the job of the run due.

    Args:
        freed: Called when a step is over and there is room for another one.
        woke: Called with the job of a run that has something to see now.
        observe: Called with events that are now part of a history.
    """

    appender: Appender
    runner: StepRunner
    clock: Clock
    freed: Callable[[], None]
    woke: Callable[[Job], None]
    observe: Listener | None = None
    _tasks: dict[Key, asyncio.Task[None]] = field(factory=dict, init=False)
    _leases: dict[Key, Lease] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that run steps."""
        return set(self._tasks.values())

    @property
    def workers(self) -> set[str]:
        """The names under which the jobs are held."""
        return {lease.worker for lease in self._leases.values()}

    @property
    def runs(self) -> list[str]:
        """The runs that the steps are of."""
        return list(dict.fromkeys(run_id for run_id, _ in self._tasks))

    def begin(self, lease: Lease, claimed: datetime) -> None:
        """Run the step of a job that was claimed at *claimed*, or later."""
        key = lease.run_id, lease.op
        self.drop(key)  # our own lease had lapsed and nobody else came
        self._leases[key] = lease
        self._tasks[key] = asyncio.create_task(self._run(lease, claimed))

    def drop(self, key: Key) -> None:
        """Stop a step that nobody waits for any more."""
        task = self._tasks.pop(key, None)
        self._leases.pop(key, None)
        if task is not None:
            task.cancel()

    def drop_run(self, run_id: str) -> None:
        """Stop the steps of a run."""
        for key in [key for key in self._tasks if key[0] == run_id]:
            self.drop(key)

    # -- closing -------------------------------------------------------------------------

    def once(self) -> list[Lease]:
        """Return the leases of steps at most once."""
        steps = self.runner.registry.steps
        calls = [(lease, lease.call) for lease in self._leases.values() if lease.call is not None]
        return [lease for lease, call in calls if call.name in steps and steps[call.name].options.at_most_once]

    async def interrupt(self, leases: Sequence[Lease]) -> bool:
        """Record that steps at most once were interrupted; return whether that is done."""
        try:
            for lease in leases:
                assert lease.call is not None  # noqa: S101 -- as `once` returned it
                now = self.clock.now()
                fact = after_loss(lease.op, lease.call.name, 1, self.runner.registry.steps, now)
                run = Job(lease.run_id, RUN_OP, now, lease.workflow)
                with suppress(*NOT_OURS):
                    await self.appender.storage.append(Append(lease.run_id, [fact], [run], lease=lease, finish=True))
        except StorageError as error:  # then their lease has to lapse, which says the same
            logger.warning("steps cannot be released: %s", error)
            return False
        return True

    # -- one step --------------------------------------------------------------------------

    async def _run(self, lease: Lease, claimed: datetime) -> None:
        key, task = (lease.run_id, lease.op), asyncio.current_task()
        try:
            await self._attempt(lease, claimed)
        except NOT_OURS as error:
            logger.info("step %s of run %s is not ours any more: %s", lease.op, lease.run_id, error)
        except Exception as error:  # noqa: BLE001 -- whatever keeps a step from going on blocks its run, not the worker
            await self.appender.block(lease, error, finish=False)
        finally:
            if self._tasks.get(key) is task:
                del self._tasks[key], self._leases[key]
            self.freed()

    async def _attempt(self, lease: Lease, claimed: datetime) -> None:
        call = lease.call
        if call is None:
            msg = f"the job of operation {lease.op} is damaged: its stored data do not name a step"
            raise DamagedHistory(msg)
        number = call.attempt + lease.recoveries
        if lease.lapsed:  # recorded before it runs: a step that kills its worker must run out of attempts
            fact = after_loss(lease.op, call.name, number - 1, self.runner.registry.steps, self.clock.now())
            if isinstance(fact, Failed):
                await self._answer(lease, fact)
                return
            await self._append(Append(lease.run_id, [fact], lease=lease))
        await self.appender.prove(lease, claimed)
        event = await self.runner.run(lease.run_id, lease.op, call, number)
        if isinstance(event, Retrying):
            again = evolve(call, attempt=number + 1 - lease.recoveries)
            await self._append(
                Append(lease.run_id, [event], [evolve(lease.released(event.due), call=again)], lease=lease)
            )
        else:
            await self._answer(lease, event)

    async def _answer(self, lease: Lease, event: Event) -> None:
        run = Job(lease.run_id, RUN_OP, self.clock.now(), lease.workflow)
        await self._append(Append(lease.run_id, [event], [run], lease=lease, finish=True))
        self.woke(run)

    async def _append(self, append: Append) -> None:
        await self.appender.append((append, None))
        if self.observe is not None:
            with suppress(StorageError, RunNotFound):  # what is written is written, whoever is shown it
                self.observe(await self.appender.storage.run(append.run_id), append.events)
