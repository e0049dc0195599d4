"""A process is killed with SIGKILL at one of its writes; another one goes on."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyworkflow.errors import RunNotFound
from pyworkflow.events import Completed, RunCompleted
from pyworkflow.testing.runtime_kit.workflows import notes
from pyworkflow_aws.dynamodb import DynamoDBStorage

CHILD = Path(__file__).with_name("crash_child.py")
SEED = 20261125
POINTS = 6
RESULT = 1 + 2 + (0 + 1 + 2) + 10
STEPS = {"first", "second", "gathered 0", "gathered 1", "gathered 2", "last"}


def child(table, log, *kill):
    command = [sys.executable, str(CHILD), table, str(log), *map(str, kill)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def recorded(table):
    """All events of the run; none if it was not created."""

    async def read():
        storage = DynamoDBStorage(table)
        await storage.open()
        try:
            return (await storage.load("the-run"))[1]
        except RunNotFound:
            return []
        finally:
            await storage.close()

    return asyncio.run(read())


def one_point(table, log, point):
    """Kill at one point, recover, and return what is wrong."""
    killed = child(table, log, *point)
    if killed.returncode != -signal.SIGKILL:
        return [f"was not killed: {killed.returncode} {killed.stderr}"]
    done = {event.op for event in recorded(table) if isinstance(event, Completed)}
    recovered = child(table, log)
    events = recorded(table)
    ends = Counter(event.op for event in events if isinstance(event, Completed))
    problems = []
    if f"result {RESULT}\n" not in recovered.stdout:
        problems.append(f"no result: {recovered.stdout[-300:]} {recovered.stderr[-2000:]}")
    if len(ends) != len(STEPS) or max(ends.values()) > 1 or not done <= set(ends):
        problems.append(f"completions: {ends}, before the crash {done}")
    if {note.removeprefix("begin ") for note in notes(str(log))} != STEPS:
        problems.append(f"steps: {notes(str(log))}")
    if sum(isinstance(event, RunCompleted) for event in events) != 1 or not isinstance(events[-1], RunCompleted):
        problems.append("it did not end once")
    return problems


@pytest.mark.timeout(240)
def test_a_run_survives_sigkill_around_its_writes(new_table, tmp_path):
    whole = child(new_table(), tmp_path / "whole")
    assert f"result {RESULT}\n" in whole.stdout, whole.stderr
    writes = whole.stdout.split("result")[0].count("write ")
    everywhere = [(number, when) for number in range(1, writes + 1) for when in ("before", "after")]
    points = random.Random(SEED).sample(everywhere, POINTS)
    print(f"seed {SEED}: {points} of {writes} writes")  # noqa: T201 -- shown when the test fails
    places = [(new_table(), tmp_path / f"{number}-{when}", (number, when)) for number, when in points]
    with ThreadPoolExecutor(3) as threads:
        problems = list(threads.map(lambda place: one_point(*place), places))
    assert {point: found for point, found in zip(points, problems, strict=True) if found} == {}
