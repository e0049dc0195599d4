"""The table itself: how it is created, and its own record of layout and shards."""

from __future__ import annotations

import time
from typing import Any

from pyworkflow.errors import ConfigError, StorageError
from pyworkflow_aws.dynamodb.client import Client, Write
from pyworkflow_aws.dynamodb.keys import LIST, META, WORK, Item
from pyworkflow_aws.dynamodb.retries import CheckFailed
from pyworkflow_aws.dynamodb.transaction import ABSENT

LAYOUT = 1
"""The layout of items that this version writes, and the newest one that it reads."""

SHARDS = 8
MOST_SHARDS = 256

_PATIENCE = 120.0
_INDEXES = {WORK: ("wp", "wt", ["jw", "q"]), LIST: ("lp", "ls", ["wf", "st", "en"])}
_KEYS = {"PK": "S", "SK": "S", "wp": "S", "wt": "N", "lp": "S", "ls": "S"}


def initialise(client: Client, shards: int | None, *, pitr: bool, kms_key: str | None) -> list[str]:
    """Make the table unless it is there; return what was found and done, as sentences."""
    done = []
    found = _describe(client)
    if found is None:
        client.call("create_table", **_definition(kms_key))
        done.append(f"made table {client.table!r}: on demand, encrypted with {kms_key or 'a key that AWS owns'}")
        found = _wait(client)
    else:
        _check_keys(client, found)
        done.append(f"table {client.table!r} is there")
    if pitr:
        _keep_backups(client)
        done.append("point-in-time recovery is on: the table can be restored to any second of the last 35 days")
    partition, sort = META
    meta: Item = {"PK": partition, "SK": sort, "layout": LAYOUT, "shards": shards or SHARDS}
    try:
        client.write([Write(META, meta, ABSENT)])
        done.append(f"its layout is {LAYOUT}, with {shards or SHARDS} shards")
    except CheckFailed:
        done.append(f"its layout is {LAYOUT}, with {shards_of(client, shards)} shards")
    return done


def shards_of(client: Client, wanted: int | None) -> int:
    """Return how many shards the table has.

    Raises:
        StorageError: It is not ready, or of a newer version.
        ConfigError: Another number is *wanted*.
    """
    meta = client.get(META)
    if meta is None:
        msg = f"table {client.table!r} has not been made ready for runs: run `pyworkflow storage init`"
        raise StorageError(msg)
    layout, shards = int(meta["layout"]), int(meta["shards"])
    if layout > LAYOUT:
        msg = f"table {client.table!r} is of a newer version (layout {layout}; this one knows up to {LAYOUT}): upgrade"
        raise StorageError(msg)
    if wanted not in {None, shards}:
        msg = f"table {client.table!r} has {shards} shards, not {wanted}: leave shards= away; it cannot be changed"
        raise ConfigError(msg)
    return shards


def _definition(kms_key: str | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in _KEYS.items()],
        "KeySchema": _key_schema("PK", "SK"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": name,
                "KeySchema": _key_schema(partition, sort),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": others},
            }
            for name, (partition, sort, others) in _INDEXES.items()
        ],
    }
    if kms_key is not None:
        made["SSESpecification"] = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": kms_key}
    return made


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _describe(client: Client) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        table: dict[str, Any] = client.call("describe_table")["Table"]
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    return table


def _check_keys(client: Client, table: dict[str, Any]) -> None:
    keys = {key["AttributeName"] for key in table["KeySchema"]}
    indexes = {index["IndexName"] for index in table.get("GlobalSecondaryIndexes", ())}
    if keys != {"PK", "SK"} or not indexes >= set(_INDEXES):
        msg = (
            f"table {client.table!r} is of another program: its keys are {', '.join(sorted(keys))}, its indexes "
            f"{', '.join(sorted(indexes)) or 'none'}; give pyworkflow a table of its own"
        )
        raise StorageError(msg)


def _wait(client: Client) -> dict[str, Any]:
    until = time.monotonic() + _PATIENCE
    while True:
        table = _describe(client)
        if table is not None and table["TableStatus"] == "ACTIVE":
            return table
        if time.monotonic() > until:
            msg = f"table {client.table!r} is not ready after {_PATIENCE:.0f} s; run `pyworkflow storage init` again"
            raise StorageError(msg)
        time.sleep(0.5)


def _keep_backups(client: Client) -> None:
    client.call("update_continuous_backups", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
