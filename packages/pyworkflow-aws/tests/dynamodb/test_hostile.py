"""Names that mean something to expressions, keys and paths are values on DynamoDB, and nothing else.

``PYWORKFLOW_HOSTILE_NAMES=200`` tries more of them.
"""

from __future__ import annotations

import os
from datetime import timedelta
from random import Random

import pytest

from pyworkflow.errors import RunNotFound
from pyworkflow.events import RunStarted
from pyworkflow.model import Job, Run, RunQuery, StepCall
from pyworkflow.testing.storage import T0
from pyworkflow_aws.dynamodb import DynamoDBStorage

COUNT = int(os.environ.get("PYWORKFLOW_HOSTILE_NAMES", "40"))
AT_ONCE = 200  # names in one table: an emulator takes the longer, the more there are
PARTS = [
    "#", "run#", "worker#", ":v", ":x", "#n", "SET a = :b", "REMOVE PK", " AND ", "attribute_exists(PK)", "{", "}", "%",
    "'; drop --", '"', "\\", "\n", "../../etc/passwd", "$(touch x)", "`id`", "\x1b[31m", "\u202e", "é", "😀",
    "null", "0x41", "1e5", " ", "*", "?", "[0]", "a.b", "free#0", "held#w", "event#0000000001", "a" * 300, "~", "/",
]  # fmt: skip


def names(count: int = COUNT) -> list[str]:
    chance, made = Random(1), [part for part in PARTS if part.strip()]
    while len(made) < count:
        name = "".join(chance.sample(PARTS, 2))
        made += [name] if name.strip() and name not in made else []
    return made


@pytest.mark.asyncio
@pytest.mark.parametrize("first", range(0, COUNT, AT_ONCE))
async def test_hostile_names_are_values_and_nothing_else(new_table, first) -> None:
    storage, some = DynamoDBStorage(new_table()), names()[first : first + AT_ONCE]
    await storage.open()
    for n, name in enumerate(some):
        run = Run(f"run-{n}", name, T0 + timedelta(seconds=n), length=1, idempotency_key=name, parent=name)
        job = Job(run.id, due=T0, workflow=name, queue=name, call=StepCall(name, [name], {name: name}, 1))
        assert await storage.create(run, [RunStarted(T0, name, [name], {name: name}, name)], [job]) is None
    for n, name in enumerate(some):
        (claimed,) = await storage.claim("w", T0, timedelta(9), 9, workflows=[name], queues=[name])
        assert (claimed.run_id, claimed.workflow) == (f"run-{n}", name)
        assert claimed.call == StepCall(name, [name], {name: name}, 1)
        found, (event,) = await storage.load(f"run-{n}")
        assert event == RunStarted(T0, name, [name], {name: name}, name)
        assert (found.workflow, found.idempotency_key, found.parent) == (name, name, name)
        with pytest.raises(RunNotFound):
            await storage.load(name)
        assert await storage.find_hook(name) is None
    page = await storage.runs(RunQuery(workflow=some[0]))
    assert [run.id for run in page.runs] == ["run-0"]
    assert len((await storage.runs(RunQuery(limit=1000))).runs) == len(some)
    await storage.close()
