"""The steps that other workers handed out and this one carries out, each under a job of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import define, field

from pyworkflow.clock import pauses
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import DamagedHistory, LeaseLost, RunEnded, RunNotFound, StorageError
from pyworkflow.events import Event, Failed, Retrying
from pyworkflow.events import RunBlocked as BlockedEvent
from pyworkflow.model import RUN_OP, Job, Run, Status
from pyworkflow.replay.decision import after_loss

if TYPE_CHECKING:
    from pyworkflow.clock import Clock
    from pyworkflow.engine.step_runner import Carrier
    from pyworkflow.ports import Storage

logger = logging.getLogger(__name__)

_NOT_OURS = (LeaseLost, RunEnded, RunNotFound)

LAST = 1 << 62
"""More events than any history has: loading after it gives the run alone."""

Key = tuple[str, int]


@define(eq=False)
class StepJobs:
    """The jobs of a worker that are steps.

    What comes of a step is a fact, written under the lease of its job; the same append wakes the run.

    Args:
        freed: Called when a step is over and there is room for another one.
        woke: Called with the job of a run that has something to look at now.
        observe: Called with events that are now part of a history.
    """

    storage: Storage
    carrier: Carrier
    clock: Clock
    freed: Callable[[], None]
    woke: Callable[[Job], None]
    observe: Callable[[Run, Sequence[Event]], None] | None = None
    _tasks: dict[Key, asyncio.Task[None]] = field(factory=dict, init=False)
    _held: dict[Key, Job] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that carry steps out."""
        return set(self._tasks.values())

    @property
    def workers(self) -> set[str | None]:
        """The names under which the jobs are held."""
        return {job.worker for job in self._held.values()}

    def once(self) -> list[Job]:
        """Return the jobs whose steps must not begin again."""
        steps = self.carrier.registry.steps
        names = {key: job.data[0] for key, job in self._held.items() if isinstance(job.data, list)}
        return [self._held[key] for key, name in names.items() if name in steps and steps[name].options.at_most_once]

    async def interrupt(self, jobs: Sequence[Job]) -> bool:
        """Record that steps were cut short which must not begin again; return whether that is done."""
        try:
            for job in jobs:
                name = job.data[0]  # type: ignore[index]
                run = Job(job.run_id, RUN_OP, self.clock.now(), job.workflow)
                fact = after_loss(job.op, name, 1, self.carrier.registry.steps, self.clock.now())
                with suppress(*_NOT_OURS):
                    await self.storage.append(job.run_id, [fact], [run], lease=job, finish=True)
        except StorageError as error:  # then their lease has to lapse, which says the same
            logger.warning("steps cannot be handed back: %s", error)
            return False
        return True

    def take(self, job: Job) -> None:
        """Carry out the step of a claimed *job*."""
        self.drop((job.run_id, job.op))  # our own lease had lapsed and nobody else came
        self._held[job.run_id, job.op] = job
        self._tasks[job.run_id, job.op] = asyncio.create_task(self._carry_out(job))

    def drop(self, key: Key) -> None:
        """Stop a step that nobody waits for any more."""
        task = self._tasks.pop(key, None)
        self._held.pop(key, None)
        if task is not None:
            task.cancel()

    @property
    def runs(self) -> list[str]:
        """The runs that the steps are of."""
        return list(dict.fromkeys(run_id for run_id, _ in self._tasks))

    def drop_run(self, run_id: str) -> None:
        """Stop the steps of a run."""
        for key in [key for key in self._tasks if key[0] == run_id]:
            self.drop(key)

    async def _carry_out(self, job: Job) -> None:
        key, task = (job.run_id, job.op), asyncio.current_task()
        try:
            await self._step(job)
        except _NOT_OURS as error:
            logger.info("step %s of run %s is not ours any more: %s", job.op, job.run_id, error)
        except Exception as error:  # noqa: BLE001 -- whatever keeps a step from going on blocks its run, not the worker
            await self._give_up(job, error)
        finally:
            if self._tasks.get(key) is task:
                del self._tasks[key], self._held[key]
            self.freed()

    async def _step(self, job: Job) -> None:
        if not isinstance(job.data, list):
            msg = f"the job of operation {job.op} is damaged: it does not say what step it is"
            raise DamagedHistory(msg)
        name, args, kwargs, first = job.data
        number = first + job.recoveries
        if job.lapsed:  # recorded before it runs: a step that kills its worker must run out of attempts
            fact = after_loss(job.op, name, number - 1, self.carrier.registry.steps, self.clock.now())
            if isinstance(fact, Failed):
                await self._answer(job, fact)
                return
            await self._append(job, [fact])
        event = await self.carrier.attempt(job.run_id, job.op, name, args, kwargs, number)
        if isinstance(event, Retrying):
            again = [name, args, kwargs, number + 1 - job.recoveries]
            await self._append(job, [event], [Job(job.run_id, job.op, event.due, job.workflow, job.queue, again)])
        else:
            await self._answer(job, event)

    async def _answer(self, job: Job, event: Event) -> None:
        run = Job(job.run_id, RUN_OP, self.clock.now(), job.workflow)
        await self._append(job, [event], [run], finish=True)
        self.woke(run)

    async def _append(
        self, job: Job, events: Sequence[Event], jobs: Sequence[Job] = (), *, finish: bool = False
    ) -> None:
        waits = pauses()
        while True:
            try:
                await self.storage.append(job.run_id, events, jobs, lease=job, finish=finish)
                break
            except StorageError as error:  # what was done is not thrown away because the disk is full
                logger.warning("run %s cannot be written, trying again: %s", job.run_id, error)
                await asyncio.sleep(next(waits))
        if self.observe is not None:
            run, _ = await self.storage.load(job.run_id, LAST)
            self.observe(run, events)

    async def _give_up(self, job: Job, error: Exception) -> None:
        logger.error("run %s is blocked: %s", job.run_id, error, extra={"run_id": job.run_id})
        now = self.clock.now()
        try:
            await self.storage.append(
                job.run_id, [BlockedEvent(now, record_of(error))], lease=job, status=Status.BLOCKED, now=now
            )
        except (StorageError, *_NOT_OURS) as failure:
            logger.warning("run %s could not be marked as blocked: %s", job.run_id, failure)
