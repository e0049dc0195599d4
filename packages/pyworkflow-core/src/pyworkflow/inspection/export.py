"""A run as a JSON file: its history and what is known about it, to be replayed elsewhere or to go on there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyworkflow import wire
from pyworkflow.errors import ConfigError, StorageError
from pyworkflow.events import Event, Plain, RunStarted
from pyworkflow.ids import checked_id
from pyworkflow.model import Run, Status

FORM = "pyworkflow-run"


def to_json(run: Run, events: Sequence[Event]) -> str:
    """Return a run as JSON text: with its arguments and results, and with what the tokens of its hooks derive from."""
    about: dict[str, Plain] = {
        "id": run.id,
        "workflow": run.workflow,
        "status": run.status.value,
        "created_at": run.created_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
        "idempotency_key": run.idempotency_key,
        "parent": run.parent,
        "attributes": dict(run.attributes),
    }
    return json.dumps({"form": FORM, "run": about, "history": json.loads(wire.dumps(events))}, indent=1) + "\n"


def from_json(text: str | bytes, name: str = "the file") -> tuple[Run, list[Event]]:
    """Return the run and the events of a text that `to_json` wrote, now or in an earlier version.

    Raises:
        ConfigError: It is no such text, or damaged, or a newer version wrote it; *name* is what the message calls it.
    """
    try:
        data: Any = wire.loads_plain(text.strip())
    except StorageError as error:
        msg = f"{name} is not JSON: {error}"
        raise ConfigError(msg) from None
    if not isinstance(data, dict) or data.get("form") != FORM:
        msg = f"{name} is not an exported run; `pyworkflow runs export` writes them"
        raise ConfigError(msg)
    try:
        events = wire.loads(json.dumps(data["history"]))
        return _run(data["run"], len(events)), _checked(events)
    except (StorageError, ConfigError) as error:
        msg = f"{name} cannot be read: {error}"
        raise ConfigError(msg) from None
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{name} is damaged: {type(error).__name__}: {error}"
        raise ConfigError(msg) from None


def _run(about: dict[str, Any], length: int) -> Run:
    ended, parent = about["ended_at"], about["parent"]
    return Run(
        checked_id(about["id"], "run id"),
        str(about["workflow"]),
        _time(about["created_at"]),
        Status(about["status"]),
        length,
        None if ended is None else _time(ended),
        None if about["idempotency_key"] is None else checked_id(about["idempotency_key"], "idempotency key"),
        None if parent is None else checked_id(parent, "parent's id"),
        dict(about.get("attributes", {})),
    )


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        msg = f"{text!r} has no time zone"
        raise ValueError(msg)
    return at


def _checked(events: list[Event]) -> list[Event]:
    if not events or not isinstance(events[0], RunStarted):
        msg = "its history does not begin with the start of a run"
        raise ValueError(msg)
    return events
