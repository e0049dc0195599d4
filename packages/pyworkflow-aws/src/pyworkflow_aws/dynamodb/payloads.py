"""Payloads of any size: inline in an item, in items of their own, or in S3."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyworkflow.errors import DamagedHistory, PayloadTooLarge
from pyworkflow_aws.dynamodb.keys import Item, of_run

if TYPE_CHECKING:
    from pyworkflow_aws.dynamodb.client import Client

Payload = bytes | str
"""The bytes themselves, or where they are."""

ALONE = 350_000
"""Bytes that an item takes which is written alone; DynamoDB takes 400 KB."""

TOGETHER = 30_000
"""Bytes that one of the items of a transaction takes, so that 100 of them stay below DynamoDB's 4 MB."""

LARGEST = 16_000_000
"""Bytes, compressed, that are kept in the table of all events of one append, or of the data of one job."""

_CHUNK = 380_000
_COMPRESSED = 1024
_OBJECT = "s3#"


def packed(text: str) -> bytes:
    """Return ASCII text as it is kept."""
    raw = text.encode("ascii")
    return b"z" + zlib.compress(raw) if len(raw) > _COMPRESSED else b"j" + raw


def unpacked(data: bytes) -> str:
    """Return the text that `packed` was given.

    Raises:
        ValueError: The bytes are damaged.
    """
    try:
        raw = zlib.decompress(data[1:]) if data[:1] == b"z" else data[1:]
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return raw.decode("ascii")


def keep(client: Client, run_id: str, data: bytes, inline: int) -> Payload:
    """Return *data*, or where it is kept if it is larger than *inline* bytes.

    Raises:
        PayloadTooLarge: It is larger than a run may store; nothing was written.
    """
    if len(data) <= inline:
        return data
    unique = secrets.token_hex(8)
    if client.bucket is not None:
        client.bucket.put(f"{run_id}/{unique}", data)
        return f"{_OBJECT}{unique}"
    if len(data) > LARGEST:
        msg = (
            f"run {run_id!r} has to store {len(data):,} bytes at once, compressed, and {LARGEST:,} fit into the table: "
            "keep large data elsewhere and pass its place, or give the storage a bucket (dynamodb://table?bucket=name)"
        )
        raise PayloadTooLarge(msg)
    parts = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    items: list[Item] = [
        {"PK": of_run(run_id), "SK": f"chunk#{unique}#{number:05}", "d": part} for number, part in enumerate(parts)
    ]
    client.fan(client.put, items)
    return f"chunk#{unique}#{len(parts)}"


def fetch(client: Client, run_id: str, payload: Payload) -> bytes:
    """Return the bytes of a payload.

    Raises:
        DamagedHistory: They are missing.
    """
    if isinstance(payload, bytes):
        return payload
    place, _, rest = payload.partition("#")
    unique, _, count = rest.partition("#")
    if place == "chunk":
        parts = [item["d"] for item in client.items(of_run(run_id), f"chunk#{unique}#")]
        if len(parts) == int(count):
            return b"".join(part for part in parts if isinstance(part, bytes))
    elif client.bucket is not None:
        found = client.bucket.get(f"{run_id}/{unique}")
        if found is not None:
            return found
    where = "a bucket, and this storage has none" if place == "s3" and client.bucket is None else repr(payload)
    msg = f"what run {run_id!r} stored cannot be read: a part of it is in {where}"
    raise DamagedHistory(msg)


def forget(client: Client, run_id: str, payloads: Sequence[Payload | None]) -> None:
    """Delete what was kept for a write that was refused."""
    for payload in payloads:
        if not isinstance(payload, str):
            continue
        place, _, rest = payload.partition("#")
        unique, _, count = rest.partition("#")
        if place == "chunk":
            client.delete([(of_run(run_id), f"chunk#{unique}#{number:05}") for number in range(int(count))])
        elif client.bucket is not None:
            client.bucket.delete([f"{run_id}/{unique}"])
