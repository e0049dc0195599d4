"""Many workers, one storage, every fault: what a thousand seeds come to, and that faults in the code are seen at all.

``PYWORKFLOW_SEEDS=20000`` runs more of them; ``nox -s simulate -- --seeds 100000`` uses all processors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.model import Append, Lease
from pyworkflow.testing.simulate import explained, failing, known_seeds, main
from pyworkflow.testing.simulation import shrink, simulate

SEEDS = int(os.environ.get("PYWORKFLOW_SEEDS", "1000"))
# A process that is killed closes no machine, so the garbage collector ends its coroutines, on no event loop.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

KNOWN = known_seeds(Path(__file__).with_name("simulation_seeds.txt"))
PARTS = 10


def check(seeds: Sequence[int]) -> None:
    found = failing(seeds)
    assert not found, "\n\n".join(explained(seed) for seed in found[:3])


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_invariant_holds_for_every_seed(part: int) -> None:
    check(range(part, SEEDS, PARTS))


def test_seeds_that_have_failed_once_do_not_fail_again() -> None:
    check(KNOWN)


@pytest.mark.parametrize("hash_seed", ["1", "12345"])
def test_a_seed_is_the_same_run_of_events_in_every_process(hash_seed: str) -> None:
    seeds = [*range(20), 231, 346]  # the last two have had a worker look through a set of runs
    code = f"from pyworkflow.testing.simulation import simulate; print([simulate(s).digest for s in {seeds}])"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str([simulate(seed).digest for seed in seeds])


def test_faults_of_every_kind_happen() -> None:
    seen = {fault.split(" p")[0].split(", ")[0] for seed in range(120) for fault in simulate(seed).faults.values()}
    kinds = {"kill", "close", "freeze", "block", "jump"}
    calls = {"create", "append", "load", "claim", "renew", "due", "find_hook"}
    hints = {f"a wake-up {how}" for how in ("is lost", "is late", "comes twice")}
    expected = kinds | hints | {f"{call} fails" for call in calls} | {f"the answer of {call} is lost" for call in calls}
    assert expected - seen == set()
    assert any(fault.startswith("a hint ") for fault in seen), "those to another process are rare"


# -- storages that are wrong in one way ----------------------------------------------------------------


class Unfenced(MemoryStorage):
    """Lets a worker write that has lost its lease."""

    def _holds(self, lease: Lease) -> bool:
        return (lease.run_id, lease.op) in self._jobs


class Unchecked(MemoryStorage):
    """Does not compare the length of history."""

    async def append(self, append: Append) -> int:
        return await super().append(evolve(append, expected=None))


class Forgetful(MemoryStorage):
    """Never takes a job from a worker that is lost."""

    async def claim(self, worker: str, *args: Any, **options: Any) -> list[Lease]:
        self._leases = {name: until.replace(year=9999) for name, until in self._leases.items()}
        return await super().claim(worker, *args, **options)


@pytest.mark.parametrize("storage", [Unfenced, Unchecked, Forgetful])
def test_a_storage_that_is_wrong_in_one_way_is_found_out(storage: type[MemoryStorage]) -> None:
    assert any(simulate(seed, storage).problems for seed in range(60))


def test_a_failing_seed_is_shrunk() -> None:
    report = next(report for seed in range(60) if (report := simulate(seed, Forgetful)).problems)
    least, _, _ = shrink(report, Forgetful)
    assert least.problems
    assert len(least.faults) < len(report.faults) / 2


def test_one_command_shows_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7"]) == 0
    shown = capsys.readouterr().out
    assert "begins" in shown
    assert "seed 7: all is well" in shown
