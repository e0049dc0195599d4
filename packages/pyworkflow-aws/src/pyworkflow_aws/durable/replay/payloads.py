"""The recorded payload of an operation: a value and its time as JSON text, or the place of the value in S3."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from attrs import frozen

from pyworkflow.codec.json_text import dumps_plain, loads_plain
from pyworkflow.errors import PayloadTooLarge
from pyworkflow.events import Plain

LIMIT = 256 * 1024 - 1024
"""How many bytes the service keeps of one operation, with some room for what goes around them."""


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
            at: When it was made.
            name: What it is, for an error; also decides its place in the folder.
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
        """Return when the value of a payload was made."""
        return moment(cast("dict[str, Any]", loads_plain(text)).get("at", 0))

    def read(self, text: str) -> tuple[Plain, datetime]:
        """Return the value of a payload, and when it was made."""
        data = cast("dict[str, Any]", loads_plain(text))
        at = moment(data.get("at", 0))
        if "s3" not in data:
            return data.get("value"), at
        if self.client is None:
            raise PayloadTooLarge(f"the value is in the S3 object s3://{data['bucket']}/{data['s3']}")
        found = self.client().get_object(Bucket=data["bucket"], Key=data["s3"])
        return loads_plain(found["Body"].read()), at
