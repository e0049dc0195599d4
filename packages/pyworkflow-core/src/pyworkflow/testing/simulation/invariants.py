"""What must hold in every simulation: looked at on the way into the storage, and once more when all is over."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

from pyworkflow.authoring.context import StepContext
from pyworkflow.events import (
    Attempted,
    CallStep,
    Completed,
    Event,
    Failed,
    Fired,
    OpenHook,
    Requested,
    Retrying,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunStarted,
    RunTerminated,
    StartTimer,
)
from pyworkflow.model import RUN_OP, Append, Effects, History, Hook, Job, Lease, Page, Run, RunQuery, Status
from pyworkflow.ports import Storage
from pyworkflow.replay.history import effective
from pyworkflow.replay.machine import Machine
from pyworkflow.replay.state import State, first_difference, state_of

END = RunCompleted | RunFailed | RunCancelled | RunTerminated | RunContinued


class Ledger(Storage):
    """Stands before a storage, keeps a record of its own of what was written, and says what ought not to have been.

    Attributes:
        problems: What is wrong.
        histories: The events of each run, as they were written.
        states: Of the machine that decided on a run, once the decision was written; by the length of the history.
        note: Called with each thing that happens, for the trace.
        opened: Called with each hook that opens.
        changed: Called when a run is created or ends.
    """

    def __init__(self, inner: Storage, note: Callable[[str], None], opened: Callable[[Hook], None]) -> None:
        self.inner = inner
        self.note = note
        self.opened = opened
        self.changed: Callable[[], None] = lambda: None
        self.problems: list[str] = []
        self.histories: dict[str, list[Event]] = {}
        self.statuses: dict[str, Status] = {}
        self.states: dict[tuple[str, int], State] = {}
        self._answered: defaultdict[str, set[int]] = defaultdict(set)
        self._holders: dict[tuple[str, int], str] = {}
        self._begun: Counter[str] = Counter()

    def problem(self, text: str) -> None:
        """Note something that ought not to be."""
        self.problems.append(text)
        self.note(f"WRONG: {text}")

    @property
    def open_runs(self) -> list[str]:
        """The runs that have not ended."""
        return [run_id for run_id, status in self.statuses.items() if not status.is_final]

    # -- on the way in -----------------------------------------------------------------------

    async def create(
        self,
        run: Run,
        events: Sequence[Event],
        jobs: Sequence[Job],
        hooks: Sequence[Hook] = (),
        *,
        lease: Lease | None = None,
    ) -> Run | None:
        existing = await self.inner.create(run, events, jobs, hooks, lease=lease)
        if existing is not None:
            self.note(f"create {run.id}: it is there already")
            return existing
        self._create(run, events)
        if lease is not None:
            self._holders[lease.run_id, lease.op] = lease.worker
        for hook in hooks:
            self.opened(hook)
        self.changed()
        return None

    def _create(self, run: Run, events: Sequence[Event]) -> None:
        if run.id in self.histories:
            self.problem(f"run {run.id} was created twice")
        self.note(f"create {run.id}")
        self.histories[run.id], self.statuses[run.id] = [], run.status
        self._take(run.id, events)

    async def append(self, append: Append) -> int:
        length = await self.inner.append(append)
        run_id, lease, status = append.run_id, append.lease, append.status
        if lease is not None and self._holders.get((run_id, lease.op)) != lease.worker:
            self.problem(f"{lease.worker} wrote to {run_id}, which {self._holders.get((run_id, lease.op))} holds")
        self._take(run_id, append.events)
        if length != len(self.histories[run_id]):
            self.problem(f"append to {run_id} returned {length}, not {len(self.histories[run_id])}")
        effects = append.effects or Effects()
        for message in effects.messages:
            if message.run_id in self.statuses and not self.statuses[message.run_id].is_final:
                self._take(message.run_id, message.events)
        for new in effects.new_runs:
            self._create(new.run, new.events)
        for hook in effects.hooks:
            self.opened(hook)
        if lease is not None and (append.finish or any(job.op == lease.op for job in append.jobs)):
            self._holders.pop((run_id, lease.op), None)
        if status is not None:
            if self.statuses[run_id].is_final and status is not Status.RUNNING:
                self.problem(f"run {run_id}, which is {self.statuses[run_id].value}, became {status.value}")
            self.statuses[run_id] = status
            if status is not Status.RUNNING:
                for key in [key for key in self._holders if key[0] == run_id]:
                    del self._holders[key]
            self.note(f"{run_id} is {status.value}")
            self.changed()
        return length

    def _take(self, run_id: str, events: Sequence[Event]) -> None:
        history, answered = self.histories[run_id], self._answered[run_id]
        for event in events:
            history.append(event)
            self.note(f"{run_id} #{len(history)} {_short(event)}")
            match event:
                case Completed(op=op) | Failed(op=op):
                    if op in answered:
                        self.problem(f"operation {op} of {run_id} was answered twice")
                    answered.add(op)
                case Attempted(op=op) | Retrying(op=op) if op in answered:
                    self.problem(f"operation {op} of {run_id} is attempted after it was answered")
                case _:
                    pass

    async def claim(self, worker: str, now: datetime, lease: timedelta, limit: int, **options: Any) -> list[Lease]:
        leases = await self.inner.claim(worker, now, lease, limit, **options)
        for held in leases:
            self._holders[held.run_id, held.op] = worker
            self.note(
                f"{_name(worker)} claims {held.run_id}/{held.op}, epoch {held.epoch}{', lapsed' if held.lapsed else ''}"
            )
        return leases

    def renew(self, worker: str, now: datetime, lease: timedelta) -> list[tuple[str, int]]:
        woken = self.inner.renew(worker, now, lease)
        if not lease:
            self.note(f"{_name(worker)} gives everything back")
            self._holders = {key: holder for key, holder in self._holders.items() if holder != worker}
        return woken

    def begins(self, worker: str | None, step: StepContext) -> None:
        """Look at a step whose body begins in *worker*."""
        run_id, _, number = step.idempotency_key.rpartition("/")
        op, holder = int(number), self._holders.get((run_id, int(number))) or self._holders.get((run_id, RUN_OP))
        self._begun[step.idempotency_key] += 1
        self.note(f"{_name(worker)} begins {run_id}/{op} {step.step}, attempt {step.attempt}")
        if holder is not None and holder == worker and op in self._answered[run_id]:
            self.problem(f"step {run_id}/{op} begins after its result was recorded")
        if step.step == "sim.act_once" and self._begun[step.idempotency_key] > 1:
            self.problem(f"step {run_id}/{op}, which is to run at most once, began again")
        if not any(_is_start(event, op, step.attempt) for event in self.histories[run_id]):
            self.problem(f"attempt {step.attempt} of step {run_id}/{op} begins and was not recorded before")

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def run(self, run_id: str) -> Run:
        return await self.inner.run(run_id)

    async def load(self, run_id: str, after: int = 0) -> History:
        return await self.inner.load(run_id, after)

    async def load_many(self, run_ids: Sequence[str]) -> Mapping[str, History]:
        return await self.inner.load_many(run_ids)

    async def due(self) -> datetime | None:
        return await self.inner.due()

    async def find_hook(self, token: str) -> Hook | None:
        return await self.inner.find_hook(token)

    async def hooks(self, run_id: str | None = None, limit: int = 1000) -> list[Hook]:
        return await self.inner.hooks(run_id, limit)

    async def runs(self, query: RunQuery) -> Page:
        return await self.inner.runs(query)

    async def purge(self, before: datetime, statuses: Collection[Status]) -> int:
        return await self.inner.purge(before, statuses)

    # -- when all is over --------------------------------------------------------------------

    async def review(self, body: Any, chance: Random) -> None:
        """Compare what the storage has now with what was written, and replay every history."""
        for run_id, written in self.histories.items():
            run, events = await self.inner.load(run_id)
            if events != written or run.length != len(written):
                self.problem(f"the history of {run_id} is not what was written")
            ends = [event for event in written if isinstance(event, END)]
            if run.status.is_final and (len(ends) != 1 or ends[0] is not written[-1]):
                self.problem(f"run {run_id} has the ends {[_short(end) for end in ends]}")
            self._on_time(run_id, written)
            if run.status.is_final:
                self._replay(run_id, effective(written), body, chance)

    def _compare(self, where: str, lived: State, replayed: State) -> None:
        if difference := first_difference(lived, replayed):
            self.problem(f"the machine of {where} differs from its replay in {difference}")

    def _on_time(self, run_id: str, history: Sequence[Event]) -> None:
        asked = {event.command.op: event for event in history if isinstance(event, Requested)}
        for event in history:
            if isinstance(event, Fired) and event.op in asked:
                command = asked[event.op].command
                due = command.fires_at(asked[event.op].at) if isinstance(command, StartTimer | OpenHook) else None
                if due is None or event.at < due:
                    self.problem(f"timer {run_id}/{event.op} fired early: {event.at}, due {due}")

    def _replay(self, run_id: str, history: Sequence[Event], body: Any, chance: Random) -> None:
        *past, last = history
        whole, parts = Machine(body, run_id), Machine(body, run_id)
        cut = chance.randrange(len(past) + 1)
        try:
            left = whole.replay(past)
            parts.replay(past[:cut])
            for length, event in enumerate(past[cut:], cut + 1):
                parts.feed([event])
                if (lived := self.states.get((run_id, length))) is not None:
                    self._compare(f"{run_id} at event {length}", lived, state_of(parts))
            ends = [machine.outcome(last.at) for machine in (whole, parts)]
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is wrong
            self.problem(f"the history of {run_id} cannot be replayed: {error!r}")
            return
        finally:
            whole.close()
            parts.close()
        if isinstance(last, RunTerminated):
            return
        if left:
            self.problem(f"replaying {run_id} asks for more than was recorded: {left}")
        for end in ends:
            if type(end) is not type(last) or (isinstance(last, RunCompleted | RunContinued) and end != last):
                self.problem(f"{run_id} ended with {_short(last)}, and replayed with {end}")


def _name(worker: str | None) -> str:
    return (worker or "nobody").rpartition(":")[2]  # without host and process id, which differ from run to run


def _is_start(event: Event, op: int, attempt: int) -> bool:
    match event:
        case Requested(command=CallStep(op=asked)):
            return asked == op and attempt == 1
        case Attempted(op=asked, attempt=number):
            return asked == op and attempt == number
        case Retrying(op=asked, attempt=number):
            return asked == op and attempt == number + 1
        case _:
            return False


def _short(event: Event) -> str:
    match event:
        case Requested(command=command):
            return f"Requested {command.op} {command.kind} {command.name}"
        case RunStarted():
            return "RunStarted"
        case RunFailed(error=error) | Failed(error=error) | RunBlocked(error=error):
            return f"{type(event).__name__} {getattr(event, 'op', '')} {error.type}: {error.message}"
        case _:
            return f"{type(event).__name__} {getattr(event, 'op', '')} {getattr(event, 'attempt', '')}".rstrip()
