"""Deterministic simulation: several processes work on one storage while everything fails that can.

A seed decides which workflows there are, which process takes the next turn, which calls of the storage fail and how,
which process is killed, stopped or closed, and whose clock jumps. `simulate` returns what was wrong, which is nothing,
and the same seed gives the same run of events each time.
"""

from __future__ import annotations

import gc
import logging
import random
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from random import Random
from unittest.mock import patch

from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.ports import Storage
from pyworkflow.testing.simulation.world import MOST_RUNS, Report, World


@contextmanager
def _no_chance_but(seed: int) -> Iterator[None]:
    """Have everything that draws by itself draw from *seed*."""
    state, drawn = random.getstate(), Random(f"{seed} secrets")
    random.seed(seed)
    with (
        patch.object(secrets, "token_urlsafe", lambda n: f"{drawn.getrandbits(8 * n):x}"),
        patch.object(secrets, "token_hex", lambda n: f"{drawn.getrandbits(8 * n):x}"),
    ):
        try:
            yield
        finally:
            random.setstate(state)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("pyworkflow")
    before, logger.disabled = logger.level, False
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def simulate(
    seed: int,
    make_storage: Callable[[], Storage] = MemoryStorage,
    *,
    without: Collection[int] = (),
    only: Collection[int] | None = None,
) -> Report:
    """Run one seed; a report without problems is what is expected."""
    gc_was_on = gc.isenabled()
    gc.disable()  # coroutines are to be unwound when they are buried, and not before
    try:
        with _no_chance_but(seed), _quiet():
            return World(seed, make_storage, without, only).run()
    finally:
        if gc_was_on:
            gc.enable()


def shrink(report: Report, make_storage: Callable[[], Storage] = MemoryStorage) -> tuple[Report, list[int], list[int]]:
    """Leave out of a failing seed what it fails without; return the report then, the faults left out, and the runs."""
    best, without, only = report, list[int](), list(range(MOST_RUNS))
    for run in range(MOST_RUNS):
        fewer = [n for n in only if n != run]
        again = simulate(report.seed, make_storage, only=fewer)
        if again.problems:
            best, only = again, fewer
    part = len(best.faults)
    while part:
        numbers = sorted(best.faults, reverse=True)
        for at in range(0, len(numbers), part):
            tried = [*without, *numbers[at : at + part]]
            again = simulate(report.seed, make_storage, without=tried, only=only)
            if again.problems:
                best, without = again, tried
                break
        else:
            part //= 2
    return best, without, only
