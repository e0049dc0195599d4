"""Makes the golden runs of this version in DynamoDB: it writes tests/golden/VERSION/dynamodb/table.json.

To be run at each release, beside `make.py`, and never again for a released version. The runs are those of `make.py`, on
an emulator. The file has what the table was made by, its items in DynamoDB's own notation, bytes as base64, and each
run as it is exported. Texts that are long are lists of lines, which make one text.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "packages" / "pyworkflow-aws" / "tests")]

import boto3  # noqa: E402 -- below the path
import make  # noqa: E402 -- found by the path above
import ministack  # noqa: E402 -- as above

import pyworkflow  # noqa: E402 -- as above
from pyworkflow.inspection.export import to_json  # noqa: E402 -- as above
from pyworkflow.model import RunQuery  # noqa: E402 -- as above
from pyworkflow_aws.dynamodb import DynamoDBStorage  # noqa: E402 -- as above
from pyworkflow_aws.dynamodb.payloads import packed, unpacked  # noqa: E402 -- as above

ROOT = f"{HERE.parents[1]}/"
LINE = 90
TABLE = "golden"


def in_lines(text: str) -> str | list[str]:
    """Return a text as it is written."""
    return text if len(text) <= LINE else [text[at : at + LINE] for at in range(0, len(text), LINE)]


def one_text(written: str | list[str]) -> str:
    """Return the text that `in_lines` was given."""
    return written if isinstance(written, str) else "".join(written)


def written(item: dict[str, Any], workers: list[str]) -> dict[str, Any]:
    """Return an item as it is written, without the machine: its folders in tracebacks, the names of its workers."""
    made: dict[str, Any] = {}
    for name, coded in sorted(item.items()):
        ((kind, value),) = coded.items()
        if kind == "B":
            data = unpacked(bytes(value))
            value = base64.b64encode(packed(data.replace(ROOT, "")) if ROOT in data else bytes(value)).decode()
        for worker in workers:
            value = value.replace(worker, "killed")
        made[name] = {kind: in_lines(value)}
    return made


def dumped() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the table was made by, and its items."""
    client = boto3.Session().client("dynamodb")
    found = client.describe_table(TableName=TABLE)["Table"]
    indexes = [
        {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
        for index in found["GlobalSecondaryIndexes"]
    ]
    made_by = {name: found[name] for name in ("AttributeDefinitions", "KeySchema")} | {
        "GlobalSecondaryIndexes": indexes
    }
    pages = client.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True)
    items = sorted(
        (item for page in pages for item in page["Items"]), key=lambda item: (item["PK"]["S"], item["SK"]["S"])
    )
    client.close()
    return made_by, items


async def table() -> dict[str, Any]:
    """Make the golden runs, and return what is written of them."""
    await DynamoDBStorage(TABLE, shards=2).init(pitr=False)
    await make.play(f"dynamodb://{TABLE}")
    made_by, items = dumped()
    workers = sorted({item["PK"]["S"].partition("#")[2] for item in items if item["PK"]["S"].startswith("worker#")})
    async with make.app_on(f"dynamodb://{TABLE}") as app:
        page = await app.runs(RunQuery(limit=1000))
        texts = {run.id: to_json(*await app.recorded().history(run.id)) for run in page.runs}
    return {
        "table": made_by,
        "items": [written(item, workers) for item in items],
        "runs": {run_id: in_lines(text.replace(ROOT, "")) for run_id, text in sorted(texts.items())},
    }


def main() -> None:
    folder = HERE / pyworkflow.__version__ / "dynamodb"
    folder.mkdir()
    with tempfile.TemporaryDirectory() as scratch, ministack.running(Path(scratch)) as url:
        os.environ.update(ministack.owner(url, "400000000000", Path(scratch)))
        made = asyncio.run(table())
    (folder / "table.json").write_text(f"{json.dumps(made, indent=1)}\n", encoding="ascii")


if __name__ == "__main__":
    main()
