from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter

import pytest

from pyworkflow import App
from pyworkflow.memory import MemoryStorage

PROGRAMS = int(os.environ.get("PYWORKFLOW_FUZZ", "25"))
FIRST = int(os.environ.get("PYWORKFLOW_FUZZ_SEED", "1"))


@pytest.mark.timeout(30 * 60)
def test_interrupted_programs_end_as_on_the_local_runtime_and_record_each_step_once(official, programs):
    failures = []
    for seed in range(FIRST, FIRST + PROGRAMS):
        rng = random.Random(seed)
        names = [0]
        todo = ["seq", [programs.program(rng, 3, names) for _ in range(2)]]
        programs.crash.update(at=rng.randint(1, 8), count=0)
        result = official.run(programs.run, todo, 1.0)
        programs.crash.update(at=0)
        here = asyncio.run(locally(programs.run, todo))
        succeeded = Counter(
            operation.name + (operation.result or "")
            for operation in result.get_all_operations()
            if operation.name == "fuzz.work" and operation.status.value == "SUCCEEDED"
        )
        names = Counter(json.loads(text.removeprefix("fuzz.work"))["value"] for text in succeeded.elements())
        try:
            assert result.status.value == "SUCCEEDED", result.error
            assert json.loads(result.result)["value"] == here == programs.expected(todo)
            assert set(names.values()) <= {1}
        except AssertionError as error:
            failures.append(f"seed {seed}: {str(error)[:300]}")
    assert not failures, failures


async def locally(workflow, todo):
    async with App(storage=MemoryStorage(), default_durable=True, default_retry="fixed?delay=1ms") as app:
        return await app.call(workflow, (todo, 1e-7))


def test_a_race_is_decided_the_same_way_on_every_replay(official, programs):
    for seed in range(5):
        rng = random.Random(seed)
        races = [
            ["race", f"r{b}{k}", [["step", f"s{b}{k}{i}", rng.choice([0, 0.0005, 0.001]), 0] for i in range(3)]]
            for b in range(3)
            for k in range(3)
        ]
        todo = ["gather", [["seq", [races[3 * b + k] for k in range(3)] + [["sleep", 60]]] for b in range(3)]]
        result = official.run(programs.run, todo, 1.0)
        assert result.status.value == "SUCCEEDED", (seed, result.error)
