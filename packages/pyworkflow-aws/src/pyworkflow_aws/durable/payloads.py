"""What is recorded of an operation, as JSON text: a value and its time, or where in S3 the value is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from attrs import evolve, frozen

from pyworkflow.codec.json_text import dumps_plain, loads_plain
from pyworkflow.errors import PayloadTooLarge
from pyworkflow.events import ErrorRecord, Failed, Plain

LIMIT = 256 * 1024 - 1024
"""How many bytes the service keeps of one operation, with some room for what goes around them."""

ERROR_LIMIT = 18 * 1024
"""How many bytes of JSON the record of an error may be; the service takes 32 KB with the message beside it."""

MESSAGE_LIMIT = 1000
"""How many characters of an error's message go beside its record."""


def milliseconds(at: datetime) -> int:
    """Return a time as the payloads have it."""
    return round(at.timestamp() * 1000)


def moment(at: int) -> datetime:
    """Return the time that `milliseconds` gave."""
    return datetime.fromtimestamp(at / 1000, UTC)


@frozen
class Payloads:
    """Reads and writes payloads; what is too large for the service goes to *bucket*, if there is one.

    Args:
        bucket: An S3 bucket.
        folder: What the keys of objects begin with.
        client: Returns a boto3 client for S3; called when it is needed.
    """

    bucket: str | None = None
    folder: str = "pyworkflow"
    client: Callable[[], Any] | None = None

    def write(self, value: Plain, at: datetime, name: str, limit: int = LIMIT) -> str:
        """Return the payload of *value*.

        Args:
            value: What is kept.
            at: When it came to be.
            name: What it is, for an error; and where in the folder it goes.
            limit: How many bytes the service takes.

        Raises:
            PayloadTooLarge: It is too large, and no bucket is configured.
        """
        text = dumps_plain(cast("Plain", {"at": milliseconds(at), "value": value}))
        if len(text) <= limit:  # ASCII: as many bytes as characters
            return text
        if self.bucket is None or self.client is None:
            raise PayloadTooLarge(
                f"{name} is {len(text):,} bytes as JSON, and AWS keeps {limit:,}: keep large data elsewhere, pass on "
                "where, or name an S3 bucket by the setting aws_bucket (PYWORKFLOW_AWS_BUCKET) of the function "
                "and of those who read results"
            )
        body = dumps_plain(value).encode()
        key = f"{self.folder}/{hashlib.sha256(name.encode()).hexdigest()[:16]}/{hashlib.sha256(body).hexdigest()}"
        self.client().put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/json")
        return dumps_plain(cast("Plain", {"at": milliseconds(at), "bucket": self.bucket, "s3": key}))

    def time(self, text: str) -> datetime:
        """Return when the value of a payload came to be."""
        return moment(cast("dict[str, Any]", loads_plain(text)).get("at", 0))

    def read(self, text: str) -> tuple[Plain, datetime]:
        """Return the value of a payload, and when it came to be."""
        data = cast("dict[str, Any]", loads_plain(text))
        at = moment(data.get("at", 0))
        if "s3" not in data:
            return data.get("value"), at
        if self.client is None:
            raise PayloadTooLarge(f"the value is in the S3 object s3://{data['bucket']}/{data['s3']}")
        found = self.client().get_object(Bucket=data["bucket"], Key=data["s3"])
        return loads_plain(found["Body"].read()), at


def error_data(record: ErrorRecord, at: datetime) -> str:
    """Return a record as the service keeps it with an error: what does not fit is left out, the longest texts first."""
    from pyworkflow.wire import dumps  # it takes its time to import, and many runs never fail

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
