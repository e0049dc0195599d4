"""Nothing is lost, doubled or left half done when calls fail, or their answers are lost."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pyworkflow import App
from pyworkflow.events import Completed, Requested, RunCompleted
from pyworkflow.model import RunQuery, Status
from pyworkflow.testing.runtime_kit import workflows as kit
from pyworkflow.testing.storage import StorageConformance, job, run, started

from .faults import Faults, FaultyStorage

pytestmark = pytest.mark.timeout(120)

MAIN = {
    "test_creating_again_gives_the_run_that_has_the_key",
    "test_of_twenty_creates_at_once_one_wins",
    "test_events_are_kept_in_order_and_counted",
    "test_a_decision_on_an_older_history_conflicts_and_writes_nothing",
    "test_facts_of_many_writers_are_all_kept",
    "test_of_two_claimers_each_job_goes_to_one",
    "test_a_worker_that_lost_its_lease_cannot_write",
    "test_recoveries_are_counted",
    "test_renewing_for_no_time_releases_everything",
    "test_the_holder_learns_once_that_its_run_was_woken",
    "test_the_holder_parks_its_job",
    "test_parking_on_an_older_history_conflicts",
    "test_of_two_payloads_at_once_one_closes_the_hook",
    "test_a_token_opens_one_hook",
    "test_a_message_is_written_and_wakes_its_run_in_the_same_transaction",
    "test_the_holder_of_a_dropped_job_learns_of_it_and_nobody_gets_it",
    "test_an_ended_run_can_be_made_running_again",
    "test_purging_deletes_what_ended_before",
}


class TestTheContract(StorageConformance):
    """The main cases of the contract, with one call in four failing or slow."""

    locals().update({name: None for name in dir(StorageConformance) if name.startswith("test_") and name not in MAIN})

    @pytest.fixture(params=[1])
    def storage_factory(self, new_table, request):
        name, faults = new_table(), Faults(request.param, 0.25)
        yield lambda: FaultyStorage(name, faults)
        print(f"seed {request.param}: {dict(faults.seen)}")  # noqa: T201 -- shown when a test fails


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", [3, 4])
async def test_runs_end_as_they_would_have_and_every_event_is_there_once(new_table, tmp_path, seed):
    faults, log = Faults(seed, 0.1, stale=True), str(tmp_path / "log")
    storage = FaultyStorage(new_table(), faults)
    async with App(storage=storage, default_durable=True, default_runtime="local?sweep=100ms&lease=20s&kept=0") as app:
        results = await asyncio.gather(
            *(app.call(kit.sequence, (log, 10)) for _ in range(8)),
            *(app.call(kit.chains, (log, 4)) for _ in range(4)),
            *(app.call(kit.naps, (log,)) for _ in range(4)),
        )
        page = await app.runs(RunQuery(limit=100))
        histories = [(await app.recorded().history(found.id))[1] for found in page.runs]
    print(f"seed {seed}: {dict(faults.seen)}")  # noqa: T201 -- shown when a test fails
    assert results == [45] * 8 + [[2, 3, 4, 5]] * 4 + [2] * 4
    assert len(page.runs) == 16
    assert {found.status for found in page.runs} == {Status.COMPLETED}
    for events in histories:
        answers = Counter(event.op for event in events if isinstance(event, Completed))
        requests = Counter(event.command.op for event in events if isinstance(event, Requested))
        assert max([*answers.values(), *requests.values()]) == 1
        assert sum(isinstance(event, RunCompleted) for event in events) == 1
    assert faults.seen["before"] > 0
    assert faults.seen["after"] > 0


@pytest.mark.asyncio
async def test_of_twenty_starts_with_one_key_comes_one_run_even_if_answers_are_lost(new_table):
    name = new_table()
    storages = [FaultyStorage(name, Faults(seed, 0.2)) for seed in range(4)]
    for storage in storages:
        await storage.open()
    answers = await asyncio.gather(
        *(storages[n % 4].create(run(f"r{n}", idempotency_key="k"), [started()], [job(f"r{n}")]) for n in range(20))
    )
    page = await storages[0].runs(RunQuery())
    for storage in storages:
        await storage.close()
    assert [answer for answer in answers if answer is None] == [None]
    assert {answer.id for answer in answers if answer is not None} == {page.runs[0].id}
    assert len(page.runs) == 1
