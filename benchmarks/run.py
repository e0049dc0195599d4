"""Runs the benchmarks: every case, side by side with the peers, in interleaved rounds; writes ``results/``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from attrs import evolve

sys.path.insert(0, str(Path(__file__).resolve().parent))

import machine
import peers
import plot
import report
import services
from cases import celery, concurrent, latency, long, sequential, timers, transient, weight
from model import Case, Subject

HERE = Path(__file__).resolve().parent
WORK = HERE / ".work"  # on the disk of the project: a /tmp in memory would make commits look free
RESULTS = HERE / "results"
CASES = [module.CASE for module in (sequential, concurrent, transient, long, celery, timers, weight, latency)]
LIMIT = 180
"""Seconds after which a subject counts as stuck."""


def main() -> int:
    """Do what the command line says; the exit code is that of a program, not of a race: goals missed are no error."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(names)}; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (5)")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--keep", action="store_true", help="keep what the last sitting has of the cases not named")
    parser.add_argument("--no-write", action="store_true", help="show the table only")
    options = parser.parse_args()
    if unknown := {*options.cases} - {*names}:
        parser.error(f"there is no case {min(unknown)!r}; there are {', '.join(names)}")
    cases = [case for case in CASES if case.name in (options.cases or names)]
    if options.ours:
        own = {peers.OURS, "core"}
        cases = [evolve(case, subjects=[s for s in case.subjects if s.peer in own]) for case in cases]
    started, left_out = datetime.now(UTC), {}
    results = []
    for case in cases:
        samples, missing = measure(case, options.rounds)
        results.append((case, samples))
        left_out |= missing
        print("\n" + report.case_table(case, samples), flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    if options.keep:
        keep(results, left_out, started, options.rounds)
    elif not options.no_write:
        facts = machine.facts(HERE) | {"load before": f"{LOAD:.1f}"}
        command = " ".join(["python", "benchmarks/run.py", *sys.argv[1:]])
        report.write(
            RESULTS,
            results,
            left_out=left_out,
            facts=facts,
            command=command,
            started=started,
            rounds=options.rounds,
        )
        plot.write(RESULTS / "latest.svg", results)
        print(f"\nwritten to {RESULTS}")
    return 0


LOAD = os.getloadavg()[0]


def keep(results: report.Results, left_out: Mapping[str, str], started: datetime, rounds: int) -> None:
    """Put *results* in the place of what the last sitting has of these cases, and say so."""
    last = json.loads((RESULTS / "latest.json").read_text())
    again = {case.name: samples for case, samples in results}
    names = {subject.label for case, _ in results for subject in case.subjects}
    merged = [
        (case, again.get(case.name) or last["cases"][case.name]["samples"])
        for case in CASES
        if case.name in again or case.name in last["cases"]
    ]
    when = f"{started:%Y-%m-%d %H:%M} UTC, {rounds} rounds"
    report.write(
        RESULTS,
        merged,
        left_out={name: why for name, why in last["left_out"].items() if name not in names} | left_out,
        facts=last["machine"],
        command=last["command"],
        started=datetime.fromisoformat(last["date"]),
        rounds=last["rounds"],
        again=last.get("again", {}) | dict.fromkeys(again, when),
    )
    plot.write(RESULTS / "latest.svg", merged)
    print(f"\nwritten to {RESULTS}")


def measure(case: Case, rounds: int) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """Return the figures of each subject by round, and who was left out, and why."""
    samples: dict[str, list[dict[str, float]]] = defaultdict(list)
    left_out: dict[str, str] = {}
    for number in range(rounds):
        # The order turns, so that nobody always comes after the same one.
        turn = number % len(case.subjects)
        for subject in [*case.subjects[turn:], *case.subjects[:turn]]:
            if subject.label in left_out or (subject.once and samples[subject.label]):
                continue
            started = time.monotonic()
            try:
                samples[subject.label].append(figures(subject))
            except peers.LeftOut as error:
                left_out[subject.label] = str(error)
                print(f"{case.name} left out: {subject.label}: {error}", flush=True)
                continue
            took = time.monotonic() - started
            shown = ", ".join(f"{key} {value:.6g}" for key, value in samples[subject.label][-1].items())
            print(f"{case.name}{number + 1} {subject.label}: {shown} ({took:.1f} s)", flush=True)
    return dict(samples), left_out


def figures(subject: Subject) -> dict[str, float]:
    """Run the script of *subject* once, in an empty folder, and return what it measured."""
    python = peers.python(subject.peer)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    script, *arguments = subject.script
    with ExitStack() as stack:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYWORKFLOW_")}
        for name in subject.needs:
            environment["BENCH_" + name.upper()] = stack.enter_context(getattr(services, name)(WORK))
        return _figures([str(python), str(HERE / "workers" / script), *arguments], environment)


def _figures(command: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    script = subprocess.Popen(
        command,
        cwd=WORK,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = script.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(script.pid, signal.SIGKILL)  # with the workers that it has started
        script.communicate()
        raise peers.LeftOut(f"not done after {LIMIT} s") from None
    lines = output.strip().splitlines()
    if script.returncode or not lines:
        complaint = errors.strip().splitlines() or ["no output"]
        raise peers.LeftOut(f"it failed: {complaint[-1]}")
    return json.loads(lines[-1])


if __name__ == "__main__":
    sys.exit(main())
