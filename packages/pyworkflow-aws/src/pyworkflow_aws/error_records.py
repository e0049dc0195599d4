"""Errors as they leave a function: records cut down to what AWS keeps of an error."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from attrs import evolve

from pyworkflow.codec.json_text import dumps_plain
from pyworkflow.events import ErrorRecord, Failed, Plain

ERROR_LIMIT = 18 * 1024
"""How many bytes of JSON the record of an error may be; the service takes 32 KB with the message beside it."""

MESSAGE_LIMIT = 1000
"""How many characters of an error's message go beside its record."""


def error_data(record: ErrorRecord, at: datetime) -> str:
    """Return a record as the service keeps it with an error: what does not fit is left out, the longest texts first."""
    from pyworkflow.wire import dumps  # slow to import, and many runs never fail

    for smaller in (
        _whole,
        _without_inner_tracebacks,
        _without_traceback,
        _without_inner,
        _without_state,
        _message_only,
    ):
        record = smaller(record)
        text = dumps([Failed(at, 0, record)])
        if len(dumps_plain(text)) <= ERROR_LIMIT:
            return text
    return text


def read_error(data: str) -> tuple[ErrorRecord, datetime]:
    """Return what `error_data` made a text of.

    Raises:
        StorageError: It is damaged.
    """
    from pyworkflow.wire import loads  # as above

    failed = cast("Failed", loads(data)[0])
    return failed.error, failed.at


def foreign_error(kind: str, message: str) -> ErrorRecord:
    """Return a record of an error that was not recorded by us."""
    module, _, name = kind.rpartition(".")
    return ErrorRecord(type=f"{module}:{name}" if module else kind, message=message)


def _whole(record: ErrorRecord) -> ErrorRecord:
    return record


def _without_inner_tracebacks(record: ErrorRecord) -> ErrorRecord:
    def bare(inner: ErrorRecord) -> ErrorRecord:
        return evolve(_without_inner_tracebacks(inner), traceback="")

    cause = None if record.cause is None else bare(record.cause)
    return evolve(record, cause=cause, group=tuple(map(bare, record.group)))


def _without_traceback(record: ErrorRecord) -> ErrorRecord:
    return evolve(record, traceback=record.traceback[-2000:])


def _without_inner(record: ErrorRecord) -> ErrorRecord:
    cause = None if record.cause is None else evolve(record.cause, cause=None, group=())
    return evolve(record, cause=cause, group=record.group[:20])


def _without_state(record: ErrorRecord) -> ErrorRecord:
    return evolve(record, traceback="", state=None, cause=None, group=())


def _message_only(record: ErrorRecord) -> ErrorRecord:
    return evolve(record, message=record.message[:MESSAGE_LIMIT], args=cast("Plain", [record.message[:MESSAGE_LIMIT]]))
