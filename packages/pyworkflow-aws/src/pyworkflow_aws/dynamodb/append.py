"""Writing to runs: creating them, and adding to their histories."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from attrs import evolve, frozen

from pyworkflow import wire
from pyworkflow.errors import (
    Conflict,
    HookClosed,
    HookTaken,
    LeaseLost,
    PayloadTooLarge,
    RunEnded,
    RunExists,
    RunNotFound,
    StorageBusy,
    WorkflowError,
)
from pyworkflow.events import Event, Plain
from pyworkflow.model import RUN_OP, Effects, Hook, Job, Run, Status
from pyworkflow_aws.dynamodb.client import CheckFailed, Client, Write
from pyworkflow_aws.dynamodb.draft import ABSENT, Draft, RunDraft, pack_item
from pyworkflow_aws.dynamodb.holds import Hold, Holds
from pyworkflow_aws.dynamodb.items import head_of
from pyworkflow_aws.dynamodb.keys import event_key, head_key, idempotency_key, micros, time_of
from pyworkflow_aws.dynamodb.leases import ensure_listed
from pyworkflow_aws.dynamodb.log import State, read_pack, read_state
from pyworkflow_aws.dynamodb.payloads import ALONE, TOGETHER, forget, keep, packed
from pyworkflow_aws.dynamodb.purge import remove
from pyworkflow_aws.dynamodb.redo import carry_out, catch_up, intents, note, weight

PATIENCE = 60.0
"""Seconds for which a write is tried again that others get in the way of."""


@frozen
class Ending:
    """What ends with a run: jobs with an item of their own, by operation, and open hooks."""

    ops: Sequence[int] = ()
    hooks: Sequence[Hook] = ()


_NO_EFFECTS = Effects()
_NO_END = Ending()


@frozen
class Creation:
    """The arguments of `Storage.create`."""

    run: Run
    events: Sequence[Event]
    jobs: Sequence[Job]
    hooks: Sequence[Hook]


@frozen
class Append:
    """The arguments of `Storage.append`."""

    run_id: str
    events: Sequence[Event]
    jobs: Sequence[Job]
    expected: int | None
    lease: Job | None
    finish: bool
    status: Status | None
    now: int | None
    also: Effects

    @property
    def is_step(self) -> bool:
        """Whether nothing is written but events, under the lease of the run itself."""
        return (
            self.lease is not None
            and self.lease.op == RUN_OP
            and bool(self.events)
            and not (self.jobs or self.finish or self.status)
            and self.also == _NO_EFFECTS
        )

    @property
    def ends(self) -> bool:
        """Whether the run has no jobs afterwards."""
        return self.status not in {None, Status.RUNNING}


# -- creating ------------------------------------------------------------------------------


def create(client: Client, holds: Holds, new: Creation) -> Run | None:
    """Add a run; see `Storage.create`."""
    with _listed(client, holds, new.jobs, micros(new.run.created_at)):
        return _create(client, holds, new)


@contextmanager
def _listed(client: Client, holds: Holds, jobs: Sequence[Job], now: int) -> Iterator[None]:
    """See to it that those who hold *jobs*, once they are written, are found when their leases lapse."""
    workers = {job.worker for job in jobs if job.worker is not None}
    with holds.taking(workers):
        for worker in workers:
            ensure_listed(client, holds, worker, now)
        yield


def _create(client: Client, holds: Holds, new: Creation) -> Run | None:
    run, jobs = new.run, new.jobs
    now = micros(run.created_at)
    write = secrets.token_hex(8)
    for _ in tries(run.id):
        draft = Draft(client, write)
        made = draft.begin(run, new.events)
        try:
            for hook in new.hooks:
                _check_free(draft, hook)
                draft.set_hook(hook.token, hook)
            _write_jobs(draft, made, jobs, now=now)
            writes = _fitting(draft)
        except HookTaken:
            draft.give_up()
            if (taken := _taken(client, run, write)) is None:
                raise
            return taken
        try:
            client.write(writes)
        except CheckFailed:
            taken = _taken(client, run, write)
            if taken is not run:
                draft.give_up()
                if taken is None:
                    continue
                return taken
        if made.head.redo:
            catch_up(client, run.id)
        for job in jobs:
            holds.add(job, made.state)
        return None
    raise AssertionError


def _taken(client: Client, run: Run, write: str) -> Run | None:
    """Return the run that has the id or the key of another one; *run* itself if that was written; None: neither."""
    item = client.get(head_key(run.id))
    if item is not None and head_of(item).write == write:
        return run
    run_id = run.id
    if item is None and run.idempotency_key is not None:
        key = client.get(idempotency_key(run.idempotency_key))
        run_id = str(key["run"]) if key is not None else run.id
        item = None if key is None else client.get(head_key(run_id))
    if item is not None and head_of(item).purged:
        remove(client, run_id)
        return None
    state = None if item is None else read_state(client, run_id)
    return None if state is None else state.run


# -- appending -----------------------------------------------------------------------------


def append(client: Client, holds: Holds, request: Append) -> int:
    """Add to a history; see `Storage.append`."""
    hold = holds.of(request.lease)
    if hold is not None and hold.state is not None and request.is_step:
        length = _step(client, holds, request, hold, hold.state)
        if length is not None:
            return length
        hold = None
    turn = holds.turn([request.run_id, *(message.run_id for message in request.also.tell)])
    with _listed(client, holds, request.jobs, request.now or 0), turn:
        return _change(client, holds, request, hold.state if hold is not None else None)


def _change(client: Client, holds: Holds, request: Append, known: State | None) -> int:
    """Write events and what goes with them, in one transaction on the run as it is *known*, or else as it is read."""
    write = secrets.token_hex(8)
    for _ in tries(request.run_id):
        draft = Draft(client, write)
        try:
            run = draft.run(request.run_id) if known is None else draft.resume(known)
            if run is None:
                msg = f"there is no run {request.run_id!r} in table {client.table!r}"
                raise RunNotFound(msg)
            if run.head.redo:
                catch_up(client, request.run_id)
                known = None
                continue
            length = _decide(draft, run, request)
            writes = _fitting(draft)
        except WorkflowError:
            draft.give_up()
            if known is None:
                raise
            known = None  # the run may have changed since
            continue
        try:
            client.write(writes)
        except CheckFailed:
            pack = read_pack(client, request.run_id, run.head.slot)
            if pack is None or pack.write != write:
                draft.give_up()
                known = None
                continue
        if run.head.redo:
            catch_up(client, request.run_id)
        _settle(holds, request, run)
        return length
    raise AssertionError


def _step(client: Client, holds: Holds, request: Append, hold: Hold, state: State) -> int | None:
    """Write events with one put; None: something has changed that this process does not know.

    Whatever changes a run, or takes it from its holder, takes a slot; so if the next slot is free, nothing has.
    """
    if request.expected is not None and request.expected != state.length:
        return None
    slot, count, write = state.slot + 1, len(request.events), secrets.token_hex(8)
    payload = keep(client, request.run_id, packed(wire.dumps(request.events)), ALONE)
    key = event_key(request.run_id, slot)
    item = pack_item(request.run_id, slot, state.length + 1, count, epoch=hold.epoch, write=write, payload=payload)
    try:
        client.write([Write(key, item, ABSENT)])
    except CheckFailed as refused:
        found = refused.found or client.get(key) or {}
        if found.get("w") != write:
            forget(client, request.run_id, [payload])
            return None
    holds.update(request.run_id, State(state.head, slot, state.length + count))
    return state.length + count


def _settle(holds: Holds, request: Append, run: RunDraft) -> None:
    lease = request.lease
    if lease is not None and lease.op != RUN_OP and (request.finish or any(job.op == lease.op for job in request.jobs)):
        holds.drop(request.run_id, lease.op)
    holds.update(request.run_id, run.state)
    for job in request.jobs:
        if job.worker is not None:
            holds.add(job, run.state)


def _decide(draft: Draft, run: RunDraft, request: Append) -> int:
    """Have *draft* do what is asked for; return the length of the history afterwards."""
    _check(draft, run, request)
    run.events += request.events
    length, ending = run.length, _NO_END
    for hook in request.also.hooks:
        draft.set_hook(hook.token, hook)
    for token in request.also.close:
        if _is_own(draft, token, request):
            draft.set_hook(token, None)
    for new in request.also.begin:
        made = draft.begin(new.run, new.events)
        draft.write_job(made, Job(new.run.id, RUN_OP, time_of(request.now or 0), new.run.workflow))
    if request.also.attributes:
        run.head = evolve(run.head, run=_with_attributes(run.head.run, request.also.attributes))
    if request.lease is not None and (job := draft.job(run, request.lease.op)) is not None and job.lapsed:
        draft.set_job(run, request.lease.op, evolve(job, lapsed=False))  # it is not as its lost holder left it
    if request.status is not None:
        run.head = evolve(run.head, run=_with_status(run.head.run, request.status, request.now))
    if request.ends:
        ending = Ending(*draft.own(request.run_id))
        draft.set_job(run, RUN_OP, None)
        if not run.head.run.status.is_final:
            ending = evolve(ending, hooks=())
    elif request.finish and request.lease is not None:
        draft.set_job(run, request.lease.op, None)
    _write_jobs(draft, run, request.jobs, request.also, ending=ending, lease=request.lease, now=request.now or 0)
    return length


def _write_jobs(
    draft: Draft,
    run: RunDraft,
    jobs: Sequence[Job],
    also: Effects = _NO_EFFECTS,
    *,
    ending: Ending = _NO_END,
    lease: Job | None = None,
    now: int,
) -> None:
    """Write jobs and what else may follow; what is too much for one transaction is noted for later."""
    own = None if lease is None else lease.op
    at_once = [job for job in jobs if job.op in {RUN_OP, own} or job.worker is not None]
    for job in at_once:
        draft.write_job(run, job, owned=job.op == own)
    todo = intents([job for job in jobs if job not in at_once], also, ending.ops, ending.hooks)
    if weight(todo) + len(at_once) + 2 * (len(draft.hooks) + len(also.begin)) + 4 <= draft.client.transaction:
        carry_out(draft, run, todo, now)
    else:
        note(draft, run, todo, now)


def _fitting(draft: Draft) -> list[Write]:
    """Return what *draft* writes.

    Raises:
        PayloadTooLarge: It is too much for one transaction.
    """
    writes = draft.writes()
    if len(writes) > draft.client.transaction:
        draft.give_up()
        msg = (
            f"{len(draft.hooks)} hooks are opened or closed at once, and a transaction of DynamoDB takes "
            f"{draft.client.transaction} items, two for each hook: open fewer at a time"
        )
        raise PayloadTooLarge(msg)
    return writes


def _check(draft: Draft, run: RunDraft, request: Append) -> None:
    status, lease = run.head.run.status, request.lease
    if lease is not None:
        job = draft.job(run, lease.op)
        if job is None or not job.holds(lease):
            msg = f"run {request.run_id!r} is held by somebody else now"
            raise LeaseLost(msg)
    elif request.status is None and status.is_final:
        msg = f"run {request.run_id!r} has ended already: it is {status.value}"
        raise RunEnded(msg)
    if request.expected is not None and request.expected != run.length:
        msg = f"the history of run {request.run_id!r} is {run.length} events long, not {request.expected}"
        raise Conflict(msg)
    for hook in request.also.hooks:
        _check_free(draft, hook)
    for new in request.also.begin:
        _check_absent(draft.client, new.run.id)
    if lease is None and not all(_is_own(draft, token, request) for token in request.also.close):
        msg = "the hook is closed: it had its payload, has expired, or its run has ended"
        raise HookClosed(msg)


def _check_absent(client: Client, run_id: str) -> None:
    item = client.get(head_key(run_id))
    if item is None:
        return
    if head_of(item).purged:
        remove(client, run_id)
        return
    msg = f"there is a run {run_id!r} already, of workflow {head_of(item).run.workflow!r}"
    raise RunExists(msg)


def _is_own(draft: Draft, token: str, request: Append) -> bool:
    hook = draft.hook(token)
    return hook is not None and hook.run_id == request.run_id


def _check_free(draft: Draft, hook: Hook) -> None:
    other = draft.hook(hook.token)
    if other is not None and (other.run_id, other.op) != (hook.run_id, hook.op):
        msg = f"the token of hook {hook.name!r} is in use by an open hook of run {other.run_id!r}"
        raise HookTaken(msg, hook.token)


def _with_status(run: Run, status: Status, now: int | None) -> Run:
    return evolve(run, status=status, ended_at=time_of(now) if status.is_final and now is not None else None)


def _with_attributes(run: Run, attributes: Mapping[str, Plain]) -> Run:
    merged = {**run.attributes, **attributes}
    size = len(wire.dumps_plain(merged))
    if size > TOGETHER:
        msg = (
            f"the attributes of run {run.id!r} take {size:,} bytes, and {TOGETHER:,} fit beside a run: they are for "
            "people to see and to search for; keep data in results"
        )
        raise PayloadTooLarge(msg)
    return evolve(run, attributes=merged)


def tries(run_id: str) -> Iterator[None]:
    """Yield again and again, with pauses in between.

    Raises:
        StorageBusy: It went on for too long.
    """
    until, pause = time.monotonic() + PATIENCE, 0.01
    yield None
    while time.monotonic() < until:
        time.sleep(pause * random.random())  # noqa: S311 -- jitter
        pause = min(1.5 * pause, 0.5)
        yield None
    msg = f"others wrote to run {run_id!r} all the time, for {PATIENCE:.0f} s"
    raise StorageBusy(msg)
