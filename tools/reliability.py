"""Runs what docs/reliability.md has figures of, on all processors, and prints them as a dated table.

Usage: reliability.py [--long] [--only WORD ...] [--write FILE]. Without ``--long`` it takes less than ten minutes on
two processors. ``--write`` puts the table into a file as well, between the comments that mark its place there.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from attrs import Factory, frozen

ROOT = Path(__file__).parents[1]
CORE, SQLITE, CELERY = (f"packages/pyworkflow-{name}/tests" for name in ("core", "sqlite", "celery"))
HALVES = "-m pyworkflow.testing.simulate --processes 1 --seeds {n} --first"


@frozen
class Part:
    """Something to run.

    Attributes:
        what: What it shows, as the table says it.
        command: Arguments of pytest; of Python, if *plain*.
        sizes: How much, as usual and at length; ``{n}`` stands for it.
        variable: The environment variable by which the tests are told.
        at_length: What else the tests are told then.
        alone: Whether nothing else may run meanwhile, since it measures time.
    """

    what: str
    command: str
    sizes: tuple[int, int] = (1, 1)
    variable: str = ""
    at_length: Mapping[str, str] = Factory(dict)
    alone: bool = False
    plain: bool = False


@frozen
class Outcome:
    """How a part ended.

    Attributes:
        tried: How much was tried.
        seconds: By the clock on the wall.
    """

    part: Part
    command: str
    tried: str
    failed: int
    seconds: float


def crashes(place: str) -> Part:
    what = f"processes killed by SIGKILL before and after their writes: {place}"
    command = f"tests/reliability/test_crash_points.py -k {place.replace(' on ', '-').replace(' ', '-').lower()}"
    return Part(what, command, (300, 3000), "RELIABILITY_POINTS")


def takeovers(storage: str, sizes: tuple[int, int]) -> Part:
    command = f"tests/reliability/test_takeover.py -k {storage.lower()}"
    return Part(f"take-overs by a living worker: {storage}", command, sizes, "RELIABILITY_TAKEOVERS", alone=True)


PARTS = [
    Part("seeds of the simulation", f"{HALVES} 0", (10_000, 500_000), plain=True),
    Part("more seeds of the simulation", f"{HALVES} 1000000", (10_000, 500_000), plain=True),
    crashes("Local on DynamoDB"),
    crashes("durable Lambda"),
    Part(
        "runs on Celery while workers and messages are lost",
        f"{CELERY}/test_chaos.py",
        (500, 10_000),
        "PYWORKFLOW_CHAOS_RUNS",
        {"PYWORKFLOW_CHAOS_FLOW": "sums"},
    ),
    crashes("Local on SQLite"),
    crashes("Celery on SQLite"),
    crashes("Celery on DynamoDB"),
    Part("timers while workers are killed", "tests/reliability/test_timers.py", (2_000, 100_000), "RELIABILITY_TIMERS"),
    Part(
        "the kit and the matrix while the storage fails",
        "tests/reliability/test_storage_faults.py",
        (2, 10),
        "RELIABILITY_FAULT_SEEDS",
    ),
    Part("power cuts", f"{SQLITE}/test_disk_faults.py -k acknowledged_commit", (200, 5_000), "PYWORKFLOW_POWER_CUTS"),
    Part(
        "writers on one SQLite file",
        "tests/reliability/test_writers.py",
        (8, 32),
        "RELIABILITY_WRITERS",
        {"RELIABILITY_SECONDS": "60"},
    ),
    Part("hostile values, events, exports, names", f"{CORE}/test_hostile.py", (10_000, 100_000), "PYWORKFLOW_HOSTILE"),
    Part(
        "hostile names on DynamoDB",
        "packages/pyworkflow-aws/tests/dynamodb/test_hostile.py",
        (200, 1_000),
        "PYWORKFLOW_HOSTILE_NAMES",
    ),
    Part("hostile names on SQLite, 200 of them", f"{SQLITE}/test_hostile_rows.py -k names"),
    Part("inputs of six kinds by hypothesis, each", f"{CORE}/test_fuzz.py", (2_000, 100_000), "PYWORKFLOW_FUZZ"),
    Part("cases of the conformance kit", "tools/conformance.py", plain=True),
    Part("kinds of payload at six places", f"{CORE}/test_payloads.py"),
    Part("kinds of damaged rows", f"{SQLITE}/test_hostile_rows.py -k damaged_run"),
    Part("canaries in secrets", f"{CORE}/test_secrets.py"),
    Part("states of the lease protocol", f"{CORE}/test_lease_model.py"),
    takeovers("SQLite", (100, 300)),
    takeovers("DynamoDB", (24, 100)),
]


def run(part: Part, *, long: bool) -> Outcome:
    """Run a part to its end."""
    size = part.sizes[long]
    words = shlex.split(part.command.format(n=size))
    python = [] if part.plain else ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    sizes = {part.variable: str(size)} if part.variable else {}
    sizes |= part.at_length if long else {}
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder, "figures")
        env = {**os.environ, **sizes, "RELIABILITY_FIGURES": str(figures)}
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, *python, *words],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - begun
        said = figures.read_text().splitlines() if figures.exists() else []
    shown = [*(f"{name}={value}" for name, value in sizes.items()), "python" if not python else "pytest", *words]
    tried = "; ".join(dict.fromkeys(said)) or counted(done.stdout, size)
    found = re.search(r"(\d+) failed", done.stdout)
    failed = int(found[1]) if found else int(done.returncode != 0)
    bad = f"\n{done.stdout}" if done.returncode else ""
    print(f"{part.what}: {tried}, {failed} failed, {seconds:.0f} s{bad}", file=sys.stderr, flush=True)
    return Outcome(part, shlex.join(shown), tried, failed, seconds)


def counted(output: str, size: int) -> str:
    """Return how much was tried, where the tests themselves do not say it."""
    passed = re.search(r"(\d+) passed", output)
    if passed is None:
        return f"{size:,}"
    return f"{passed[1]} cases" if size == 1 else f"{size:,} ({passed[1]} tests)"


def table(outcomes: Sequence[Outcome], *, long: bool) -> str:
    """Return the table, with what it was made on."""
    now, session = datetime.now(UTC), f"nox -s reliability{' -- --long' if long else ''}"
    where = f"Python {platform.python_version()} on {os.cpu_count()} processors"
    lines = [
        f"Made on {now.day} {now:%B %Y} with {where}, by `{session}`:",
        "",
        "| what | tried | failed | seconds | command |",
        "|---|---|---|---|---|",
        *(
            f"| {one.part.what} | {one.tried} | {one.failed} | {one.seconds:.0f} | `{one.command}` |"
            for one in outcomes
        ),
    ]
    return "\n".join(lines)


def written(text: str, made: str, *, long: bool) -> str:
    """Return *text* with a table between the comments that mark its place."""
    mark = "<!-- figures, long -->" if long else "<!-- figures -->"
    before, found, after = text.partition(f"{mark}\n")
    _, end, rest = after.partition("<!-- end of figures -->")
    if not found or not end:
        raise SystemExit(f"there is no {mark} ... <!-- end of figures --> to put the table between")
    return f"{before}{mark}\n{made}\n{end}{rest}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="much more of everything")
    parser.add_argument("--only", nargs="+", default=[""], help="only parts that have one of these words in their name")
    parser.add_argument("--write", type=Path, help="a file to put the table into")
    options = parser.parse_args(arguments)
    parts = [part for part in PARTS if any(word in part.what for word in options.only)]
    with ThreadPoolExecutor(os.cpu_count()) as lanes:
        outcomes = list(lanes.map(lambda part: run(part, long=options.long), [p for p in parts if not p.alone]))
    outcomes += [run(part, long=options.long) for part in parts if part.alone]
    made = table(outcomes, long=options.long)
    print(made)
    if options.write is not None:
        options.write.write_text(written(options.write.read_text(), made, long=options.long))
    return 1 if any(one.failed for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
