"""One transaction: changes to runs, jobs and hooks as read, each on condition that they have not changed since."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from attrs import define, evolve, field

from pyworkflow import wire
from pyworkflow.events import Event
from pyworkflow.model import RUN_OP, Hook, Job, Lease, Run, StepCall
from pyworkflow_aws.dynamodb.client import Client, Write
from pyworkflow_aws.dynamodb.items import (
    Head,
    Work,
    head_item,
    held_work_of,
    hook_items,
    hook_of,
    job_in,
    job_item,
    work_of,
)
from pyworkflow_aws.dynamodb.keys import (
    Item,
    event_key,
    head_key,
    hook_key,
    idempotency_key,
    job_key,
    of_run,
    token_key,
    wake_key,
)
from pyworkflow_aws.dynamodb.payloads import TOGETHER, Payload, forget, keep, packed
from pyworkflow_aws.dynamodb.reading import State, read_state

ABSENT = "attribute_not_exists(PK)"
SAME = "v = :v"

FIRST = 1000
"""Bytes of a head up to which it holds the first events: each write of up to 1 KB costs one unit."""


@define
class RunDraft:
    """A run as read, and as it will be; its jobs by operation.

    Attributes:
        read: What the changes are made on; None: the run is new.
        jobs: Jobs with an item of their own: as they will be, and the version that was read.
        events: What is added to its history.
        appends: A slot is taken; else only what is changed is written.
    """

    read: State | None
    head: Head
    jobs: dict[int, tuple[Work | None, int]] = field(factory=dict)
    changed: set[int] = field(factory=set)
    events: list[Event] = field(factory=list)
    appends: bool = True

    @property
    def state(self) -> State:
        """Where the run is once this is written."""
        return State(self.head, self.head.slot if self.appends or self.read is None else self.read.slot, self.length)

    @property
    def length(self) -> int:
        """The length of the history, with what is added."""
        return (0 if self.read is None else self.read.length) + len(self.events)


@define
class Draft:
    """Changes that are written together.

    Attributes:
        write: Recognises what this wrote, should the answer be lost.
        assumed: Jobs of this run that were not read do not exist; if that is wrong, the write is refused.
        needed: Tokens of hooks that have to be open still when this is written.
    """

    client: Client
    write: str = field(factory=lambda: secrets.token_hex(8))
    assumed: str | None = None
    runs: dict[str, RunDraft] = field(factory=dict)
    extra: list[Write] = field(factory=list)
    kept: dict[str, list[Payload]] = field(factory=dict)
    hooks: dict[str, tuple[Hook | None, Hook | None]] = field(factory=dict)
    needed: list[str] = field(factory=list)

    # -- runs ----------------------------------------------------------------------------

    def run(self, run_id: str) -> RunDraft | None:
        """Return a run, read unless it is here already; None: there is none."""
        if run_id not in self.runs:
            state = read_state(self.client, run_id)
            if state is None:
                return None
            self.runs[run_id] = RunDraft(state, state.head)
        return self.runs[run_id]

    def begin(self, run: Run, events: Sequence[Event]) -> RunDraft:
        """Add a run that is new."""
        self.runs[run.id] = made = RunDraft(None, Head(run), events=list(events))
        return made

    def resume(self, state: State) -> RunDraft:
        """Use a run that was read before."""
        self.assumed = state.head.run.id
        self.runs[self.assumed] = made = RunDraft(state, state.head)
        return made

    # -- jobs ----------------------------------------------------------------------------

    def job(self, run: RunDraft, op: int) -> Work | None:
        """Return a job as it will be."""
        if op == RUN_OP:
            return run.head.job
        if op not in run.jobs:
            item = None
            if run.read is not None and run.head.run.id != self.assumed:
                item = self.client.get(job_key(run.head.run.id, op))
            run.jobs[op] = (None, 0) if item is None else job_in(item)
        return run.jobs[op][0]

    def look_up(self, run: RunDraft, ops: Iterable[int]) -> None:
        """Read several jobs at once."""
        run_id = run.head.run.id
        missing = [op for op in ops if op != RUN_OP and op not in run.jobs]
        if run.read is None or run_id == self.assumed or not missing:
            return
        found = self.client.get_all([job_key(run_id, op) for op in missing])
        for op in missing:
            item = found.get(job_key(run_id, op))
            run.jobs[op] = (None, 0) if item is None else job_in(item)

    def set_job(self, run: RunDraft, op: int, work: Work | None) -> None:
        """Write a job as it is to be; None: delete it."""
        before = self.job(run, op)
        if op == RUN_OP:
            run.head = evolve(run.head, job=work, epoch=max(run.head.epoch, work.epoch if work else 0))
        elif work != before:
            run.jobs[op] = work, run.jobs[op][1]
            run.changed.add(op)

    def write_job(self, run: RunDraft, job: Job, *, owned: bool = False) -> None:
        """Write a job: the one that is *owned* is released, another one that exists only becomes due."""
        old = self.job(run, job.op)
        new = work_of(job, self._data(job.run_id, job.call))
        if old is None:
            self.set_job(run, job.op, evolve(new, epoch=run.head.epoch if job.op == RUN_OP else 0))
        elif owned:
            data = old.data if new.data is None else new.data
            new = evolve(old, due=new.due, data=data, worker=None, lapsed=False, dropped=False)
            self.set_job(run, job.op, new)
        elif old.worker is not None:
            self.wake(run, job.op, old)
        elif new.due is not None and (old.due is None or new.due < old.due):
            self.set_job(run, job.op, evolve(old, due=new.due))

    def hold_job(self, run: RunDraft, lease: Lease) -> None:
        """Add a job that is held from the start."""
        self.set_job(run, lease.op, held_work_of(lease, self._data(lease.run_id, lease.call)))

    def drop_job(self, run: RunDraft, op: int) -> None:
        """Delete a job that is not needed any more; if it is held, its holder is notified."""
        old = self.job(run, op)
        if old is None:
            return
        if old.worker is None:
            self.set_job(run, op, None)
        else:
            self.set_job(run, op, evolve(old, dropped=True))
            self.wake(run, op, old)

    def wake(self, run: RunDraft, op: int, held: Work) -> None:
        """Notify the holder of a job that others wrote to its run."""
        key = wake_key(held.worker or "", f"{self.write}-{len(self.extra)}")
        values: Item = {"run": run.head.run.id, "op": op, "e": held.epoch}
        self.extra.append(Write(key, {"PK": key[0], "SK": key[1], **values}))

    def tell(self, run_id: str, events: Sequence[Event], now: int) -> None:
        """Add facts to another run, and make its job due; one that has ended or does not exist is skipped."""
        run = self.run(run_id)
        if run is None or run.head.run.status.is_final:
            return
        run.events += events
        if run.head.run.status.value != "running":
            return
        old = run.head.job
        if old is None:
            self.set_job(run, RUN_OP, Work(run.head.run.workflow, due=now, epoch=run.head.epoch))
        elif old.worker is not None:
            self.wake(run, RUN_OP, old)
        elif old.due is None or now < old.due:
            self.set_job(run, RUN_OP, evolve(old, due=now))

    def _data(self, run_id: str, call: StepCall | None) -> Payload | None:
        text = wire.dumps_call(call)
        return None if text is None else self.keep(run_id, text, TOGETHER)

    # -- hooks ---------------------------------------------------------------------------

    def hook(self, token: str) -> Hook | None:
        """Return an open hook as it will be."""
        if token not in self.hooks:
            item = self.client.get(token_key(token))
            hook = None if item is None else hook_of(item)
            self.hooks[token] = hook, hook
        return self.hooks[token][1]

    def set_hook(self, token: str, hook: Hook | None) -> None:
        """Open a hook, or close it."""
        self.hook(token)
        self.hooks[token] = self.hooks[token][0], hook

    def own(self, run_id: str) -> tuple[list[int], list[Hook]]:
        """Return the operations of a run that have a job of their own, and its open hooks."""
        items = list(self.client.between(of_run(run_id), "hook#", "job#~"))
        hooks = [hook_of(item) for item in items if str(item["SK"]).startswith("hook#")]
        return [int(str(item["SK"])[4:]) for item in items if str(item["SK"]).startswith("job#")], hooks

    def forget_hook(self, hook: Hook) -> None:
        """Close a hook that was just read by its run."""
        self.hooks[hook.token] = hook, None

    # -- writing -------------------------------------------------------------------------

    def keep(self, run_id: str, text: str, inline: int) -> Payload:
        """Keep text of any size."""
        payload = keep(self.client, run_id, packed(text), inline)
        self.kept.setdefault(run_id, []).append(payload)
        return payload

    def give_up(self) -> None:
        """Delete the payloads that were written in advance."""
        for run_id, payloads in self.kept.items():
            forget(self.client, run_id, payloads)
        self.kept.clear()

    def writes(self) -> list[Write]:
        """Return all changes; runs first, and of these the events first."""
        made: list[Write] = []
        for run in self.runs.values():
            made += self._first(run) if run.read is None else self._next(run, run.read)
        for run in self.runs.values():
            made += [self._job(run, op) for op in sorted(run.changed)]
        for token, (old, new) in self.hooks.items():
            made += self._hook(token, old, new)
        return made + self.extra

    def _first(self, run: RunDraft) -> list[Write]:
        head = run.head
        payload = self.keep(head.run.id, wire.dumps(run.events), TOGETHER)
        size = len(payload) + sum(
            len(name) + len(str(value)) for name, value in head_item(head, self.client.shards).items()
        )
        events: list[Write] = []
        if size <= FIRST and isinstance(payload, bytes):
            head = evolve(head, first=payload, count=len(run.events))
        else:
            head = evolve(head, slot=1)
            events = [self._pack(run, head, 1, 1, payload)]
        run.head = head = evolve(head, version=1, write=self.write)
        head_write = Write(head_key(head.run.id), head_item(head, self.client.shards), ABSENT)
        if head.run.idempotency_key is None:
            return [head_write, *events]
        partition, sort = idempotency_key(head.run.idempotency_key)
        key = Write((partition, sort), {"PK": partition, "SK": sort, "run": head.run.id}, ABSENT)
        return [head_write, *events, key]

    def _next(self, run: RunDraft, read: State) -> list[Write]:
        events: list[Write] = []
        if run.appends:
            payload = self.keep(run.head.run.id, wire.dumps(run.events), TOGETHER) if run.events else None
            run.head = evolve(run.head, run=evolve(run.head.run, length=run.length), slot=read.slot + 1)
            events = [self._pack(run, run.head, read.slot + 1, read.length + 1, payload)]
        elif run.head == read.head:
            return []
        run.head = evolve(run.head, version=read.head.version + 1, write=self.write)
        head = Write(
            head_key(run.head.run.id), head_item(run.head, self.client.shards), SAME, {":v": read.head.version}
        )
        return [*events, head]

    def _pack(self, run: RunDraft, head: Head, slot: int, first: int, payload: Payload | None) -> Write:
        item = pack_item(head.run.id, slot, first, len(run.events), epoch=head.epoch, write=self.write, payload=payload)
        return Write((str(item["PK"]), str(item["SK"])), item | {"h": 1}, ABSENT)

    def _job(self, run: RunDraft, op: int) -> Write:
        work, version = run.jobs[op]
        key = job_key(run.head.run.id, op)
        condition, values = (SAME, {":v": version}) if version else (ABSENT, {})
        item = None if work is None else job_item(run.head.run.id, op, work, version + 1, self.client.shards)
        return Write(key, item, condition, dict(values))

    def _hook(self, token: str, old: Hook | None, new: Hook | None) -> list[Write]:
        if new == old and token not in self.needed:
            return []
        if new is None and old is not None:
            values: Item = {":r": old.run_id, ":o": old.op}
            return [
                Write(token_key(token), None, "run = :r AND op = :o", values),
                Write(hook_key(old.run_id, old.op, token)),
            ]
        assert new is not None  # noqa: S101 -- tells the type checker
        by_token, by_run = hook_items(new, self.client.shards)
        if old is not None:
            was: Item = {":r": old.run_id, ":o": old.op}
            same = Write(token_key(token), by_token, "run = :r AND op = :o", was)
            if (old.run_id, old.op) == (new.run_id, new.op):
                return [same]
            return [
                same,
                Write(hook_key(old.run_id, old.op, token)),
                Write(hook_key(new.run_id, new.op, token), by_run),
            ]
        values = {":r": new.run_id, ":o": new.op}
        return [
            Write(token_key(token), by_token, f"{ABSENT} OR (run = :r AND op = :o)", values),
            Write(hook_key(new.run_id, new.op, token), by_run),
        ]


def pack_item(
    run_id: str, slot: int, first: int, count: int, *, epoch: int, write: str, payload: Payload | None
) -> Item:
    """Return the events of one append as an item."""
    partition, sort = event_key(run_id, slot)
    item: Item = {"PK": partition, "SK": sort, "s": first, "n": count, "e": epoch, "w": write}
    if payload is not None:
        item["d"] = payload
    return item
