"""The history of an execution as pyworkflow's events; the workflow is replayed if its code is known here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from attrs import define, evolve, frozen

from pyworkflow.authoring.inbox import Inbox
from pyworkflow.codec.exceptions import record_of
from pyworkflow.errors import ConfigError, NonDeterminism, RunBlocked, RunTerminated, Unstorable
from pyworkflow.events import (
    RULES,
    CallStep,
    Completed,
    Described,
    ErrorRecord,
    Event,
    Failed,
    Fired,
    OpenHook,
    Patched,
    Plain,
    Received,
    Requested,
    Retrying,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunStarted,
    StartTimer,
)
from pyworkflow.events import RunBlocked as BlockedEvent
from pyworkflow.events import RunTerminated as TerminatedEvent
from pyworkflow.model import Hook, Status
from pyworkflow_aws.durable.client.listing import Execution
from pyworkflow_aws.durable.replay.answers import CANCEL, PATCHED, Replay
from pyworkflow_aws.durable.replay.ids import operation_id
from pyworkflow_aws.durable.replay.payloads import Payloads, moment
from pyworkflow_aws.durable.replay.record import Fault, Recorded
from pyworkflow_aws.durable.replay.tree import Open
from pyworkflow_aws.error_records import foreign_error, read_error

if TYPE_CHECKING:
    from pyworkflow.codec import Codec
    from pyworkflow.engine.host import Host

_ENDS = {"Succeeded", "Failed", "TimedOut", "Cancelled", "Stopped"}
_KINDS = {"Step": "STEP", "Wait": "WAIT", "Callback": "CALLBACK"}


@frozen
class Waiting:
    """An open hook, the callback that answers it, and its operation, if the workflow's code is known.

    There is no callback until the run has made it: at first, and between two payloads of one that takes many.
    """

    hook: Hook
    callback: str | None
    opened: Open | None = None


@define
class Past:
    """The recorded past of an execution.

    Attributes:
        events: The history, as a storage would keep it.
        hooks: Open hooks, by the digests of their tokens.
        mailbox: The callback by which it is cancelled; None: it does not listen now.
        attributes: The attributes that the workflow set.
    """

    events: Sequence[Event]
    hooks: Mapping[str, Waiting]
    mailbox: str | None
    attributes: Mapping[str, Plain]

    def encode(self, digest: str, payload: Any, codec: Codec) -> Plain:
        """Return a payload for a hook as it is stored.

        Raises:
            Unstorable: It does not fit.
            ConfigError: The hook has a type that is not known here.
        """
        waiting = self.hooks[digest]
        opened, name = waiting.opened, waiting.hook.name
        if opened is None:
            msg = (
                f"the type of the payload of hook {name!r} is declared by its workflow, unknown in this process; "
                "import the module that declares it"
            )
            raise ConfigError(msg)
        inbox = opened.pending.receiver
        encode = inbox.encode if isinstance(inbox, Inbox) else codec.encoder()
        try:
            return encode(payload)
        except Unstorable as error:
            raise type(error)(f"the payload of hook {name!r} {error}") from error.__cause__


def past_of(client: Any, execution: Execution, app: Host, payloads: Payloads) -> Past:
    """Return the past of an execution."""
    raw = _raw(client, execution.arn)
    records = _records(raw)
    mailbox = next(
        (r.callback for r in records.values() if r.kind == "CALLBACK" and r.name == CANCEL and not r.ended), None
    )
    workflow = app.registry.workflows.get(execution.workflow)
    started = RunStarted(
        execution.started_at,
        execution.workflow,
        execution.input.get("args", []),
        execution.input.get("kwargs", {}),
        "",
        previous=execution.input.get("previous"),
        rules=RULES,
    )
    if workflow is None:
        events, hooks = _without_code(execution, started, raw, records, payloads)
    else:
        events, hooks = _replayed(execution, started, records, app, payloads)
    events = _with_retries(events, raw)
    end = _end(execution, payloads)
    if end is not None and (not events or type(events[-1]) is not type(end)):
        events.append(end)
    attributes: dict[str, Plain] = {}
    for event in events:
        if isinstance(event, Described):
            attributes.update(cast("dict[str, Plain]", event.attributes))
    return Past(events, {} if execution.status is not Status.RUNNING else hooks, mailbox, attributes)


def _raw(client: Any, arn: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    options: dict[str, Any] = {"DurableExecutionArn": arn, "IncludeExecutionData": True, "MaxItems": 1000}
    while True:
        answer = client.get_durable_execution_history(**options)
        events += answer["Events"]
        if not answer.get("NextMarker"):
            return events
        options["Marker"] = answer["NextMarker"]


def _records(raw: Sequence[dict[str, Any]]) -> dict[str, Recorded]:
    """Return all operations by their ids, in their latest state."""
    records: dict[str, Recorded] = {}
    for event in raw:
        kind, what = _split(event["EventType"])
        id_ = event.get("Id")
        if kind is None or id_ is None:
            continue
        details = event.get(f"{event['EventType']}Details") or {}
        record = records.get(id_) or Recorded(kind, event.get("Name", ""), event.get("SubType", ""))
        if what == "Started":
            record = evolve(record, callback=details.get("CallbackId") or record.callback)
        elif what in _ENDS and not (kind == "STEP" and _is_retried(details)):
            error = (details.get("Error") or {}).get("Payload")
            record = evolve(
                record,
                ended=True,
                at=int(event["EventTimestamp"].timestamp() * 1000),
                payload=(details.get("Result") or {}).get("Payload"),
                fault=None if error is None else _fault(error),
                timed_out=what == "TimedOut",
            )
        records[id_] = record
    return records


def _split(event_type: str) -> tuple[str | None, str]:
    for word, kind in _KINDS.items():
        if event_type.startswith(word):
            return kind, event_type.removeprefix(word)
    return None, event_type


def _is_retried(details: dict[str, Any]) -> bool:
    return bool((details.get("RetryDetails") or {}).get("NextAttemptDelaySeconds"))


def _fault(error: dict[str, Any]) -> Fault:
    return Fault(error.get("ErrorType", ""), error.get("ErrorMessage", ""), error.get("ErrorData"))


def _replayed(
    execution: Execution,
    started: RunStarted,
    records: Mapping[str, Recorded],
    app: Host,
    payloads: Payloads,
) -> tuple[list[Event], dict[str, Waiting]]:
    at = moment(int(started.at.timestamp() * 1000))
    started = evolve(started, seed=sha256(execution.arn.encode()).hexdigest(), at=at)  # as the function sees it

    def find(name: str) -> Any:
        if name not in app.registry.workflows:
            raise RunBlocked(f"workflow {name!r} is not known in this process")
        return app.registry.workflows[name]

    requested = [id_ for id_, record in records.items() if not record.is_ours]
    running = execution.status is Status.RUNNING
    replay = Replay.of(
        find, app.codec, execution.run_id, started, lambda key: records.get(operation_id(key)), payloads,
        recorded=requested, in_progress=running,
    )  # fmt: skip
    tree = replay.tree
    try:
        replay.begin()
        while tree.outcome is None and (turn := replay.next()) is not None and not turn.fresh:
            replay.apply(turn)
    except (RunBlocked, NonDeterminism, RunTerminated):
        pass  # the function met it too, and ended by it; or the code here differs
    hooks: dict[str, Waiting] = {}
    for found in tree.open.values():
        command, record = found.pending.command, records.get(operation_id(found.key))
        if isinstance(command, OpenHook) and (record is None or not record.ended):
            hook = Hook(command.token, found.node.run_id, found.pending.op, command.name, command.many)
            hooks.setdefault(command.token, Waiting(hook, None if record is None else record.callback, found))
    events = [_without_seed(event) for event in tree.root.log]
    tree.close()
    return events, hooks


def _without_seed(event: Event) -> Event:
    return evolve(event, seed="") if isinstance(event, RunStarted) else event


def _without_code(
    execution: Execution,
    started: RunStarted,
    raw: Sequence[dict[str, Any]],
    records: Mapping[str, Recorded],
    payloads: Payloads,
) -> tuple[list[Event], dict[str, Waiting]]:
    """Return the history and hooks without the code of the workflow: no arguments, and nothing of children."""
    ops = {operation_id(str(op)): op for op in range(1, len(records) + 1)}
    events: list[Event] = [started]
    hooks: dict[str, Waiting] = {}
    empty: Any = []
    nothing: Any = {}
    seen: set[str] = set()
    for event in raw:
        id_, at = event.get("Id", ""), event["EventTimestamp"].astimezone(UTC)
        if event["EventType"] == "StepSucceeded" and (change := _patched(records.get(id_))) is not None:
            events.append(Patched(at, change))
        if (op := ops.get(id_)) is None or id_ not in records:
            continue
        record = records[id_]
        if id_ not in seen:
            seen.add(id_)
            name, _, digest = record.name.rpartition(" ")
            match record.kind:
                case "CALLBACK":
                    events.append(Requested(at, OpenHook(op, name, digest)))
                    if record.callback and not record.ended:
                        hooks[digest] = Waiting(Hook(digest, execution.run_id, op, name), record.callback)
                case "WAIT":
                    delay = (event.get("WaitStartedDetails") or {}).get("Duration")
                    events.append(Requested(at, StartTimer(op, record.name, delay)))
                case _:
                    events.append(Requested(at, CallStep(op, record.name, empty, nothing)))
        _, what = _split(event["EventType"])
        if what in _ENDS and not _is_retried(event.get(f"{event['EventType']}Details") or {}):
            events.append(_answer(op, record, at, payloads))
    return events, hooks


def _patched(record: Recorded | None) -> str | None:
    """Return the `patched` id that was answered with True to the run itself, and not to a child of it."""
    if record is None or record.name != PATCHED:
        return None
    path, change = json.loads(record.payload or "[null, null]")
    return change if path == [] else None


def _answer(op: int, record: Recorded, at: datetime, payloads: Payloads) -> Event:
    if record.fault is not None:
        return Failed(at, op, _error(record.fault))
    match record.kind:
        case "WAIT":
            return Fired(at, op)
        case "CALLBACK":
            return Fired(at, op) if record.timed_out else Received(at, op, payloads.read(record.payload or "{}")[0])
        case _:
            return Completed(at, op, payloads.read(record.payload or "{}")[0])


def _error(fault: Fault) -> ErrorRecord:
    return read_error(fault.data)[0] if fault.data else foreign_error(fault.kind, fault.message)


def _with_retries(events: list[Event], raw: Sequence[dict[str, Any]]) -> list[Event]:
    """Return *events* with the attempts that failed before the last one, each before its operation's answer."""
    ops = {operation_id(str(e.command.op)): e.command.op for e in events if isinstance(e, Requested)}
    attempts: dict[int, list[Event]] = {}
    for event in raw:
        op, details = ops.get(event.get("Id", "")), event.get("StepFailedDetails") or {}
        if op is None or not _is_retried(details):
            continue
        at, seconds = event["EventTimestamp"].astimezone(UTC), details["RetryDetails"]["NextAttemptDelaySeconds"]
        number = len(attempts.setdefault(op, [])) + 1
        error = _error(_fault((details.get("Error") or {}).get("Payload") or {}))
        attempts[op].append(Retrying(at, op, number, error, moment(int((at.timestamp() + seconds) * 1000))))
    if not attempts:
        return events
    merged: list[Event] = []
    for one in events:
        if isinstance(one, Completed | Failed):
            merged += attempts.pop(one.op, [])
        merged.append(one)
    return merged + [attempt for left in attempts.values() for attempt in left]


def _end(execution: Execution, payloads: Payloads) -> Event | None:  # noqa: PLR0911 -- one for each status
    at = execution.ended_at or execution.started_at
    match execution.status:
        case Status.COMPLETED:
            return RunCompleted(at, payloads.read(json.dumps(execution.result))[0])
        case Status.CONTINUED:
            found = execution.result
            return RunContinued(at, found["continued"], found["args"], found["kwargs"])
        case Status.FAILED:
            return RunFailed(at, execution.error)
        case Status.CANCELLED:
            return RunCancelled(at)
        case Status.TERMINATED:
            return TerminatedEvent(at, execution.message)
        case Status.BLOCKED:
            return BlockedEvent(at, record_of(RunBlocked(execution.message)))
        case _:
            return None
