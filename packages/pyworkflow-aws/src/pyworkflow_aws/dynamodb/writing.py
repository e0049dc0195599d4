"""Writing to runs: creating them, and adding to their histories."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

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
from pyworkflow.model import RUN_OP, Append, Effects, Hook, Job, Lease, Run, Status
from pyworkflow_aws.dynamodb.client import Client, Write
from pyworkflow_aws.dynamodb.deferred import apply, catch_up, defer, intents, weight
from pyworkflow_aws.dynamodb.held_jobs import Hold, Holds
from pyworkflow_aws.dynamodb.items import head_of
from pyworkflow_aws.dynamodb.keys import event_key, head_key, idempotency_key, micros
from pyworkflow_aws.dynamodb.leases import ensure_listed
from pyworkflow_aws.dynamodb.payloads import ALONE, TOGETHER, forget, keep, packed
from pyworkflow_aws.dynamodb.purge import remove
from pyworkflow_aws.dynamodb.reading import State, read_pack, read_state
from pyworkflow_aws.dynamodb.retries import CheckFailed
from pyworkflow_aws.dynamodb.transaction import ABSENT, Draft, RunDraft, pack_item

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
    lease: Lease | None


# -- creating ------------------------------------------------------------------------------


def create(client: Client, holds: Holds, new: Creation) -> Run | None:
    """Add a run; see `Storage.create`."""
    if new.lease is None:
        return _create(client, holds, new)
    worker = new.lease.worker
    with holds.taking([worker]):  # so that it is found when its lease lapses
        ensure_listed(client, holds, worker, micros(new.run.created_at))
        return _create(client, holds, new)


def _create(client: Client, holds: Holds, new: Creation) -> Run | None:
    run = new.run
    now = micros(run.created_at)
    write = secrets.token_hex(8)
    for _ in tries(run.id):
        draft = Draft(client, write)
        made = draft.begin(run, new.events)
        try:
            for hook in new.hooks:
                _check_free(draft, hook)
                draft.set_hook(hook.token, hook)
            if new.lease is not None:
                draft.hold_job(made, new.lease)
            _write_jobs(draft, made, new.jobs, now=now)
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
        if new.lease is not None:
            holds.add(new.lease, made.state)
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
    if hold is not None and hold.state is not None and _is_step(request):
        length = _step(client, holds, request, hold, hold.state)
        if length is not None:
            return length
        hold = None
    messages = () if request.effects is None else request.effects.messages
    with holds.turn([request.run_id, *(message.run_id for message in messages)]):
        return _change(client, holds, request, hold.state if hold is not None else None)


def _is_step(request: Append) -> bool:
    """Whether nothing is written but events, under the lease of the run itself."""
    return (
        request.lease is not None
        and request.lease.op == RUN_OP
        and bool(request.events)
        and not (request.jobs or request.finish or request.status)
        and (request.effects is None or request.effects == _NO_EFFECTS)
    )


def _change(client: Client, holds: Holds, request: Append, known: State | None) -> int:
    """Write events and what goes with them, in one transaction on the run as it is *known*, or else as it is read."""
    write = secrets.token_hex(8)
    for _ in tries(request.run_id):
        draft = Draft(client, write)
        try:
            run = draft.run(request.run_id) if known is None else draft.resume(known)
            if run is None:
                raise _missing(client, request)
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


def _decide(draft: Draft, run: RunDraft, request: Append) -> int:
    """Add what *request* writes to *draft*; return the length of the history afterwards."""
    effects = request.effects or _NO_EFFECTS
    _check(draft, run, request, effects)
    run.events += request.events
    length, ending = run.length, _NO_END
    for token in effects.close:
        if _is_own(draft, token, request):
            draft.set_hook(token, None)
    for hook in effects.hooks:
        draft.set_hook(hook.token, hook)
    draft.needed += [hook.token for hook in effects.needs]
    for new in effects.new_runs:
        made = draft.begin(new.run, new.events)
        draft.write_job(made, Job(new.run.id, RUN_OP, request.now, new.run.workflow))
    if effects.attributes:
        run.head = evolve(run.head, run=_with_attributes(run.head.run, effects.attributes))
    if request.lease is not None and (job := draft.job(run, request.lease.op)) is not None and job.lapsed:
        draft.set_job(run, request.lease.op, evolve(job, lapsed=False))  # it is not as its lost holder left it
    if request.status is not None:
        run.head = evolve(run.head, run=_with_status(run.head.run, request.status, request.now))
    if request.status not in {None, Status.RUNNING}:
        ending = Ending(*draft.own(request.run_id))
        draft.set_job(run, RUN_OP, None)
        if not run.head.run.status.is_final:
            ending = evolve(ending, hooks=())
    elif request.finish and request.lease is not None:
        draft.set_job(run, request.lease.op, None)
    now = 0 if request.now is None else micros(request.now)
    _write_jobs(draft, run, request.jobs, effects, ending=ending, lease=request.lease, now=now)
    return length


def _write_jobs(
    draft: Draft,
    run: RunDraft,
    jobs: Sequence[Job],
    effects: Effects = _NO_EFFECTS,
    *,
    ending: Ending = _NO_END,
    lease: Lease | None = None,
    now: int,
) -> None:
    """Write jobs and what else may follow; what is too much for one transaction is noted for later."""
    own = None if lease is None else lease.op
    at_once = [job for job in jobs if job.op in {RUN_OP, own}]
    for job in at_once:
        draft.write_job(run, job, owned=job.op == own)
    todo = intents([job for job in jobs if job not in at_once], effects, ending.ops, ending.hooks)
    items = len(at_once) + len(run.changed) + len(effects.close) + 2 * (len(draft.hooks) + len(effects.new_runs)) + 4
    if weight(todo) + items <= draft.client.transaction:
        apply(draft, run, todo, now)
    else:
        defer(draft, run, todo, now)


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


def _missing(client: Client, request: Append) -> WorkflowError:
    if request.lease is not None:
        return LeaseLost(f"run {request.run_id!r} is not there any more, and its lease is lost with it")
    return RunNotFound(f"there is no run {request.run_id!r} in table {client.table!r}")


def _check(draft: Draft, run: RunDraft, request: Append, effects: Effects) -> None:
    status, lease = run.head.run.status, request.lease
    if lease is not None:
        job = draft.job(run, lease.op)
        if job is None or not job.holds(lease):
            msg = f"run {request.run_id!r} is held by another worker now"
            raise LeaseLost(msg)
    elif request.status is None and status.is_final:
        msg = f"run {request.run_id!r} has ended already: it is {status.value}"
        raise RunEnded(msg)
    if request.expected is not None and request.expected != run.length:
        msg = f"the history of run {request.run_id!r} is {run.length} events long, not {request.expected}"
        raise Conflict(msg)
    for hook in effects.hooks:
        if not (hook.token in effects.close and _is_own(draft, hook.token, request)):
            _check_free(draft, hook)
    for new in effects.new_runs:
        _check_absent(draft.client, new.run.id)
    needed = all(_is_open(draft, hook) for hook in effects.needs)
    if not needed or (lease is None and not all(_is_own(draft, token, request) for token in effects.close)):
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


def _is_open(draft: Draft, hook: Hook) -> bool:
    other = draft.hook(hook.token)
    return other is not None and (other.run_id, other.op) == (hook.run_id, hook.op)


def _check_free(draft: Draft, hook: Hook) -> None:
    other = draft.hook(hook.token)
    if other is not None and (other.run_id, other.op) != (hook.run_id, hook.op):
        msg = f"the token of hook {hook.name!r} is in use by an open hook of run {other.run_id!r}"
        raise HookTaken(msg, hook.token)


def _with_status(run: Run, status: Status, now: datetime | None) -> Run:
    return evolve(run, status=status, ended_at=now if status.is_final else None)


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
