"""What programs get for ``--json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import evolve

from pyworkflow.cli.view.timeline import Row, Timeline
from pyworkflow.cli.view.wording import type_name
from pyworkflow.events import ErrorRecord, Event, RunBlocked, RunCompleted, RunFailed, RunStarted
from pyworkflow.inspection.operations import Attempt
from pyworkflow.model import Page, Run
from pyworkflow.wire import dumps


def of_run(run: Run) -> dict[str, Any]:
    """Return what is known of a run, for programs."""
    return {
        "id": run.id,
        "workflow": run.workflow,
        "status": run.status.value,
        "created_at": run.created_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
        "events": run.length,
        "idempotency_key": run.idempotency_key,
        "parent": run.parent,
        "attributes": dict(run.attributes),
    }


def of_page(page: Page) -> dict[str, Any]:
    """Return a page of runs."""
    return {"runs": [of_run(run) for run in page.runs], "cursor": page.cursor}


def of_timeline(run: Run, line: Timeline) -> dict[str, Any]:
    """Return a run with its operations."""
    outcome = line.outcome
    return {
        **of_run(run),
        "args": line.args,
        "kwargs": line.kwargs,
        "result": outcome.value if isinstance(outcome, RunCompleted) else None,
        "error": _error(outcome.error) if isinstance(outcome, RunFailed | RunBlocked) else None,
        "recoveries": line.recoveries,
        "operations": [_operation(row) for row in line.rows],
    }


def of_history(run: Run, events: Sequence[Event]) -> dict[str, Any]:
    """Return a run with its events, in the form in which they are stored."""
    return {"run": of_run(run), **json.loads(dumps([_without_secret(event) for event in events]))}


def _without_secret(event: Event) -> Event:
    return evolve(event, seed="") if isinstance(event, RunStarted) else event  # tokens of hooks derive from it


def of_event(number: int, event: Event) -> dict[str, Any]:
    """Return one event, in the form in which it is stored, with its number."""
    return {"number": number, **json.loads(dumps([_without_secret(event)]))["events"][0]}


def _operation(row: Row) -> dict[str, Any]:
    return {
        "op": row.op,
        "kind": row.command.kind,
        "name": row.command.name,
        "args": getattr(row.command, "args", None),
        "kwargs": getattr(row.command, "kwargs", None),
        "state": row.state.value,
        "started_at": row.start.isoformat(),
        "ended_at": None if row.end is None else row.end.isoformat(),
        "until": None if row.until is None else row.until.isoformat(),
        "result": row.value,
        "attempts": [_attempt(attempt) for attempt in row.attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": attempt.start.isoformat(),
        "ended_at": None if attempt.end is None else attempt.end.isoformat(),
        "outcome": attempt.outcome.value,
        "error": None if attempt.error is None else _error(attempt.error),
    }


def _error(record: ErrorRecord) -> dict[str, Any]:
    return {"type": type_name(record), "message": record.message}
