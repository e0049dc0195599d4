"""The kit's cases and the matrix's stories once more, while the storage fails.

``RELIABILITY_FAULT_SEEDS=10`` runs all of them ten times.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty import Unreliable

from pyworkflow import App
from pyworkflow.testing.runtime import DurableConformance
from pyworkflow_sqlite import SQLiteStorage

sys.path.insert(0, str(Path(__file__).parents[1] / "matrix"))

from matrix_play import play
from matrix_stories import STORIES

SEEDS = range(1, 1 + int(os.environ.get("RELIABILITY_FAULT_SEEDS", "2")))
OPTIONS: dict[str, Any] = {
    "default_durable": True,
    "default_retry": "fixed?delay=1ms",
    "default_runtime": "local?lease=2s&sweep=100ms",
}
seen: Counter[str] = Counter()

EARLY = {
    "test_cancelling_a_parent_cancels_its_child_once",
    "test_cleaning_up_sleeps_and_runs_steps_and_is_not_disturbed",
    "test_a_cancelled_run_is_terminated_at_its_deadline",
    "test_a_workflow_may_go_on_after_cancel",
}
"""Cases that cancel a run when a step of it has done something: here its result may not be recorded by then."""


def storage(path: Path, seed: int) -> Unreliable:
    made = Unreliable(SQLiteStorage(path), seed)
    made.seen = seen
    return made


@pytest.mark.timeout(120)
class TestTheKit(DurableConformance):
    locals().update(dict.fromkeys(EARLY))

    @pytest.fixture(params=SEEDS)
    def make_app(self, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
        made = storage(tmp_path / "runs.db", request.param)
        return lambda: App(storage=made, **OPTIONS)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_stories_of_the_matrix_end_as_they_have_to(
    seed: int, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    app = App(storage=storage(tmp_path / "runs.db", seed), **OPTIONS)
    told = asyncio.run(play(app, STORIES, tmp_path, recorded=True))
    wrong = {
        story.name: (told[story.name].result, told[story.name].effects)
        for story in STORIES
        if told[story.name].result != story.result or told[story.name].effects != sorted(story.effects)
    }
    assert wrong == {}
    assert seen, "no call of a worker failed"
    if seed == SEEDS[-1]:  # the last test
        figure(f"{len(SEEDS)} seeds, {sum(seen.values())} faults")
