"""``python -m pyworkflow.testing.simulate --seeds 100000``: the simulation at length, and one seed once more.

``--seed 42`` runs one seed and shows what happened in it; a failing seed is shrunk first.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from pyworkflow.testing.simulation import Report, shrink, simulate

_PART = 50
_TRACE = 200


def failing(seeds: Iterable[int]) -> list[int]:
    """Return those of *seeds* that fail."""
    return [seed for seed in seeds if simulate(seed).problems]


def known_seeds(path: Path) -> list[int]:
    """Return the seeds in a file: one in a line, the rest of which says what it found."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def explained(seed: int) -> str:
    """Return what is wrong with a failing seed, how it came to that, and how to see it again."""
    report = simulate(seed)
    if not report.problems:
        return f"seed {seed}: all is well; {report.runs} runs, {report.turns} turns, {len(report.faults)} faults"
    least, without, only = shrink(report)
    lines = [
        f"seed {seed}: {'; '.join(report.problems)}",
        f"shrunk to the runs {only} and {len(least.faults)} faults: {'; '.join(least.problems)}",
        *_shortened(least),
        f"again: python -m pyworkflow.testing.simulate --seed {seed}",
    ]
    if without:
        numbers = ",".join(map(str, without))
        lines.append(f"shrunk: pyworkflow.testing.simulation.world.simulate({seed}, only={only}, without=[{numbers}])")
    return "\n".join(lines)


def _shortened(report: Report) -> list[str]:
    if len(report.trace) <= _TRACE:
        return report.trace
    return [f"... {len(report.trace) - _TRACE} lines", *report.trace[-_TRACE:]]


def _parts(seeds: range) -> Iterator[range]:
    return (seeds[at : at + _PART] for at in range(0, len(seeds), _PART))


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m pyworkflow.testing.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed, and show what happens")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many processes run them")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        report = simulate(options.seed)
        sys.stdout.write("\n".join([*_shortened(report), explained(options.seed), ""]))
        return 1 if report.problems else 0
    started, done, bad = time.monotonic(), 0, []
    seeds = range(options.first, options.first + options.seeds)
    with ProcessPoolExecutor(options.processes) as pool:
        for part, found in zip(_parts(seeds), pool.map(failing, _parts(seeds)), strict=True):
            done += len(part)
            bad += found
            for seed in found:
                sys.stdout.write(explained(seed) + "\n")
            if done % 5000 < _PART:
                sys.stdout.write(f"{done} seeds, {done / (time.monotonic() - started):.0f} a second\n")
                sys.stdout.flush()
    rate = done / (time.monotonic() - started)
    sys.stdout.write(f"{done} seeds, {rate:.0f} a second, {len(bad)} failed{': ' if bad else ''}{bad or ''}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
