"""A process is killed with SIGKILL right before and right after every one of its commits; another one goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyworkflow import wire
from pyworkflow.events import CallStep, Completed, Requested, RunCompleted
from pyworkflow.testing.runtime_kit.workflows import notes

CHILD = Path(__file__).with_name("crash_child.py")
RESULT = 1 + 2 + 3 + (0 + 1 + 2 + 3) + 8 + 9 + 10
STEPS = {"first", "second", "flaky", *(f"gathered {i}" for i in range(4)), "eighth", "ninth", "tenth"}


def child(folder: Path, *kill: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHILD), str(folder / "runs.db"), str(folder / "log"), *kill]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def recorded(folder: Path) -> list[object]:
    """All events of the run, in order; none if it was not created."""
    if not (folder / "runs.db").exists():
        return []
    connection = sqlite3.connect(folder / "runs.db")
    try:
        rows = connection.execute("select data from events where run_id = 'the-run' order by seq").fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()
    return [event for (data,) in rows for event in wire.loads(data)]


def completed(events: list[object]) -> set[str]:
    """The names of the steps whose completion is recorded."""
    asked = {e.command.op: e.command for e in events if isinstance(e, Requested)}
    commands = [asked[e.op] for e in events if isinstance(e, Completed)]
    return {command.args[1] for command in commands if isinstance(command, CallStep)}


def one_point(folder: Path, number: int, when: str) -> list[str] | None:
    """Kill at one point, recover, and return what is wrong; None: the run ended before that point."""
    folder.mkdir()
    killed = child(folder, str(number), when)
    if killed.returncode == 0 and f"result {RESULT}\n" in killed.stdout and killed.stdout.count("commit ") < number:
        return None
    if killed.returncode != -signal.SIGKILL:
        return [f"was not killed: {killed.returncode} {killed.stderr}"]
    before, started = completed(recorded(folder)), len(notes(str(folder / "log")))
    recovered = child(folder)
    events = recorded(folder)
    again = {line.split(" ", 2)[2] for line in notes(str(folder / "log"))[started:] if " begin " in line}
    ends = Counter(e.op for e in events if isinstance(e, Completed))
    problems = []
    if f"result {RESULT}\n" not in recovered.stdout:
        problems.append(f"no result: {recovered.stdout[-300:]} {recovered.stderr[-2000:]}")
    if before & again:
        problems.append(f"completed steps ran again: {sorted(before & again)}")
    if completed(events) != STEPS or max(ends.values()) > 1:
        problems.append(f"completions: {ends}")
    if sum(isinstance(e, RunCompleted) for e in events) != 1 or not isinstance(events[-1], RunCompleted):
        problems.append("it did not end once")
    return problems


@pytest.mark.timeout(600)
def test_a_run_survives_sigkill_before_and_after_every_commit(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = child(tmp_path / "whole")
    assert f"result {RESULT}\n" in whole.stdout, whole.stderr
    commits = whole.stdout.count("commit ")
    assert commits > 10
    points = [(number, when) for number in range(1, commits + 1) for when in ("before", "after")]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        problems = list(threads.map(lambda p: one_point(tmp_path / f"{p[0]}-{p[1]}", *p), points))
    found = dict(zip(points, problems, strict=True))
    assert {point: problem for point, problem in found.items() if problem} == {}
    # Commits at the same moment are one, and a slow run shows more often that it lives: the count varies a little.
    assert all(number > commits - 3 for (number, _), problem in found.items() if problem is None)
