"""`RuntimeConformance`: what every runtime has to do, as plain pytest classes; write one subclass and one fixture."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest

from pyworkflow import App, FatalError
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.codec import Codec
from pyworkflow.errors import (
    NotInWorkflow,
    RunBlocked,
    RunCancelled,
    RunEnded,
    RunExists,
    RunNotFound,
    RunTerminated,
    StepTimeout,
    Unstorable,
    Unsupported,
)
from pyworkflow.events import Completed, Requested, RunCompleted, RunStarted
from pyworkflow.handle import RunHandle
from pyworkflow.model import RunQuery, Status
from pyworkflow.testing.runtime_kit import stories
from pyworkflow.testing.runtime_kit import workflows as kit
from pyworkflow.testing.runtime_kit.callers import Callers
from pyworkflow.testing.runtime_kit.semantics import DurableSemantics, Semantics
from pyworkflow.testing.runtime_kit.workflows import notes
from pyworkflow.testing.until import until

MakeApp = Callable[[], App]


class RuntimeConformance(Semantics):
    """What holds in durable and in transient runs alike.

    A subclass has a fixture ``make_app``: a callable without arguments that returns an `App` whose default runtime, and
    default mode, are those to be tested. Apps made by one fixture share their storage.

    Attributes:
        can_cancel: Whether a run can be asked to stop.
    """

    can_cancel: ClassVar[bool] = True

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def log(self, tmp_path: Path) -> str:
        """The file to which steps write what they do."""
        return str(tmp_path / "effects")

    @pytest.mark.parametrize(
        "flow, args, expected",
        [
            pytest.param(kit.nothing, (), "done", id="a workflow without operations"),
            pytest.param(kit.sequence, ("LOG", 10), 45, id="a sequence of steps"),
            pytest.param(kit.sync_steps, ("LOG",), 6, id="sync steps"),
            pytest.param(kit.identical, ("LOG",), [2, 2], id="two identical calls"),
            pytest.param(kit.chains, ("LOG", 5), [2, 3, 4, 5, 6], id="gather of chains"),
            pytest.param(kit.task_group, ("LOG",), [0, 2, 4], id="a task group"),
            pytest.param(kit.group_fails, ("LOG",), ["Declined"], id="a task group that fails"),
            pytest.param(kit.race, ("LOG",), "quick", id="a race"),
            pytest.param(kit.as_they_end, ("LOG",), [1, 2, 3], id="as_completed"),
            pytest.param(kit.stdlib_wait, ("LOG",), [0, 1, 2, 3, 4], id="asyncio.wait and as_completed"),
            pytest.param(kit.time_limit, ("LOG",), "gave up, 3", id="a timeout"),
            pytest.param(kit.wait_for, ("LOG",), [2, 4], id="wait_for"),
            pytest.param(kit.retried, ("LOG", 2), 3, id="retries"),
            pytest.param(kit.retried_later, ("LOG",), 2, id="retry_after"),
            pytest.param(kit.caught, ("LOG",), [402, "no money", 2], id="an error that is caught"),
            pytest.param(kit.naps, ("LOG",), 2, id="sleeps of every form"),
            pytest.param(kit.queue, ("LOG",), [0, 1, 2], id="a queue and a lock"),
        ],
    )
    async def test_it_gives_the_result(
        self, make_app: MakeApp, log: str, flow: Workflow[..., Any], args: tuple[Any, ...], expected: Any
    ) -> None:
        async with make_app() as app:
            result = await app.call(flow, tuple(log if arg == "LOG" else arg for arg in args))
        assert result == expected

    @pytest.mark.parametrize(
        "flow, error, match",
        [
            pytest.param(kit.declined, kit.Declined, "402", id="a step's own error"),
            pytest.param(kit.own_error, kit.Declined, "by the workflow", id="the workflow's own error"),
            pytest.param(kit.chained_error, LookupError, "no order", id="an error with a cause"),
            pytest.param(kit.too_slow, StepTimeout, "longer than its timeout", id="a step that takes too long"),
        ],
    )
    async def test_it_raises_the_error(
        self, make_app: MakeApp, flow: Workflow[..., Any], error: type[Exception], match: str
    ) -> None:
        async with make_app() as app:
            with pytest.raises(error, match=match):
                await app.call(flow)

    async def test_an_error_keeps_its_cause(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            with pytest.raises(LookupError) as caught:
                await app.call(kit.chained_error)
        assert isinstance(caught.value.__cause__, kit.Declined)

    async def test_identical_calls_are_two_operations(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            await app.call(kit.identical, (log,))
        assert len(notes(log)) == 2

    async def test_every_step_runs_once(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            await app.call(kit.chains, (log, 20))
        assert max(Counter(notes(log)).values()) <= 2  # two chains meet in the same sum

    async def test_retries_stop_after_the_last(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            with pytest.raises(ConnectionError, match="attempt 4"):
                await app.call(kit.retried, (log, 9))
        assert notes(log) == [f"flaky {n}" for n in range(1, 5)]

    async def test_a_fatal_error_is_not_retried(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            with pytest.raises(FatalError, match="never again"):
                await app.call(kit.fatally, (log,))
        assert notes(log) == ["fatal"]

    @pytest.mark.parametrize(
        "value",
        [None, True, 0, -1, 1.5, "", "ünï\x00", [], {}, [1, [2]], (1, "a"), {"a": (1,)}, {1, 2}, b"\xff",
         Decimal("1.10"), {1: "int key"},
         timedelta(days=1), datetime(2026, 1, 2, tzinfo=UTC), Path("a/b"), {"~tuple": [1]}],
        ids=repr,
    )  # fmt: skip
    async def test_values_come_back_unchanged(self, make_app: MakeApp, value: Any) -> None:
        async with make_app() as app:
            result = await app.call(kit.values, (value,))
        assert result == [value, value]
        assert [type(item) for item in result] == [type(value)] * 2

    async def test_typed_values_come_back_as_their_type(self, make_app: MakeApp) -> None:
        order = kit.Order("o-1", Decimal("9.99"), kit.Currency.EUR, datetime(2026, 1, 2, tzinfo=UTC), ("a", "b"))
        async with make_app() as app:
            assert await app.call(kit.typed, (order,)) == order

    async def test_what_cannot_be_stored_is_refused_with_its_name(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            message = await app.call(kit.unstorable)
        assert "kit.echo" in message
        assert "value" in message

    async def test_what_cannot_be_stored_is_refused_at_the_start(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            with pytest.raises(Unstorable, match=r"kit\.values"):
                await app.start(kit.values, (lambda: None,))

    async def test_arguments_that_do_not_fit_are_refused_at_the_start(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            with pytest.raises(TypeError, match="missing"):
                await app.start(kit.sequence, ("only one",))

    async def test_the_idempotency_key_is_the_same_for_all_attempts(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            first, second = await app.call(kit.keys, (log,))
        assert notes(log) == [first, first, second, second]
        assert first != second

    async def test_waiting_for_a_result_can_time_out(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.long_sleep, (log,))
            with pytest.raises(TimeoutError, match="it goes on"):
                await handle.result(timeout=0.05)
            await self.cancelled(handle)

    async def test_cancel_reaches_the_workflow(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.stopped, (log,))
            await until(lambda: "forever begins" in notes(log))
            if await self.cancelled(handle):
                with pytest.raises((RunCancelled, asyncio.CancelledError)):
                    await handle.result(timeout=20)
        assert ("add 9 9" in notes(log)) is self.can_cancel, "clean-up may run steps"

    async def cancelled(self, handle: RunHandle[Any]) -> bool:
        """Cancel a run, or see that the runtime refuses to; return which."""
        if not self.can_cancel:
            with pytest.raises(Unsupported):
                await handle.cancel()
            return False
        await handle.cancel()
        return True

    async def test_a_cancelled_step_is_stopped(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            await app.call(kit.time_limit, (log,))
            await until(lambda: "forever ends" in notes(log))


class DurableConformance(RuntimeConformance, DurableSemantics, Callers):
    """What holds where runs are recorded.

    Attributes:
        can_retry: Whether a failed run can do once more what failed.
        needs_its_process: Whether what a process runs stops with it, and is recovered by another one.
    """

    can_retry: ClassVar[bool] = True
    needs_its_process: ClassVar[bool] = True

    async def test_the_history_tells_what_happened(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.sequence, (log, 2))
            await handle.result(timeout=20)
            history = await handle.history()
        assert [type(event) for event in history] == [
            RunStarted, Requested, Completed, Requested, Completed, RunCompleted,
        ]  # fmt: skip

    async def test_the_run_tells_its_status(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.sequence, (log, 1))
            await handle.result(timeout=20)
            run = await handle.run()
        assert (run.status, run.workflow, run.length) == (Status.COMPLETED, "kit.sequence", 4)
        assert run.ended_at is not None

    async def test_a_failed_run_says_so(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            handle = await app.start(kit.declined)
            with pytest.raises(kit.Declined):
                await handle.result(timeout=20)
            assert (await handle.run()).status is Status.FAILED

    async def test_chance_and_time_are_recorded(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.chance, (log,))
            first = await handle.result(timeout=20)
        async with make_app() as app:
            second = await app.recorded().result(handle.id)
            assert kit.chance.signature_for(Codec()).decode_result(second) == first

    async def test_a_result_can_be_had_by_another_process(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.sequence, (log, 3))
            await handle.result(timeout=20)
        async with make_app() as app:
            assert await app.recorded().result(handle.id) == 3

    async def test_an_idempotency_key_starts_one_run(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handles = await asyncio.gather(
                *(app.start(kit.sequence, (log, 2), idempotency_key="order-1") for _ in range(20))
            )
            assert len({handle.id for handle in handles}) == 1
            assert await handles[-1].result(timeout=20) == 1
        assert len(notes(log)) == 2

    async def test_an_idempotency_key_of_another_workflow_is_refused(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            await app.start(kit.nothing, idempotency_key="order-1")
            with pytest.raises(RunExists, match=r"order-1.*kit\.nothing"):
                await app.start(kit.sequence, (log, 1), idempotency_key="order-1")

    async def test_a_run_id_is_taken_once(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            await app.start(kit.nothing, run_id="mine")
            with pytest.raises(RunExists, match="mine"):
                await app.start(kit.nothing, run_id="mine")

    async def test_run_ids_are_uuids_of_the_time_of_the_start(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            ids = [UUID((await app.start(kit.nothing)).id) for _ in range(2)]
        assert [run_id.version for run_id in ids] == [7, 7]
        first, second = (run_id.int >> 80 for run_id in ids)  # milliseconds since 1970
        assert first <= second <= time.time_ns() // 1_000_000 < first + 60_000

    async def test_an_unknown_run_is_not_found(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            with pytest.raises(RunNotFound, match="nobody"):
                await app.recorded().result("nobody")

    async def test_terminate_ends_a_run_at_once(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.stopped, (log,))
            await until(lambda: "forever begins" in notes(log))
            await app.recorded().terminate(handle.id, "enough")
            with pytest.raises(RunTerminated, match="enough"):
                await handle.result(timeout=20)
        assert "add 9 9" not in notes(log)

    async def test_an_ended_run_cannot_be_cancelled(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            handle = await app.start(kit.nothing)
            await handle.result(timeout=20)
            with pytest.raises(RunEnded, match="completed"):
                await handle.cancel()

    async def test_a_sleeping_run_can_be_cancelled(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.long_sleep, (log,))
            await until(lambda: notes(log))
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result(timeout=20)

    async def test_a_workflow_may_go_on_after_cancel(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.unstoppable, (log,))
            await until(lambda: "forever begins" in notes(log))
            await handle.cancel()
            assert await handle.result(timeout=20) == "ended anyway, 2"

    async def test_a_failed_run_is_retried_at_the_step_that_failed(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.retried, (log, 4))
            with pytest.raises(ConnectionError):
                await handle.result(timeout=20)
            if self.can_retry:
                await app.recorded().retry(handle.id)
            else:
                with pytest.raises(Unsupported, match="start a new run"):
                    await app.recorded().retry(handle.id)
            with pytest.raises(ConnectionError):
                await handle.result(timeout=20)
        assert notes(log) == [f"flaky {n}" for n in (1, 2, 3, 4) * (1 + self.can_retry)]

    async def test_a_completed_run_cannot_be_retried(self, make_app: MakeApp) -> None:
        async with make_app() as app:
            handle = await app.start(kit.nothing)
            await handle.result(timeout=20)
            with pytest.raises(RunEnded, match="completed"):
                await app.recorded().retry(handle.id)

    @pytest.mark.parametrize(
        "flow, match",
        [
            pytest.param(kit.sockets, "put this into a @step", id="sockets"),
            pytest.param(kit.in_a_thread, "put this into a @step", id="threads"),
        ],
    )
    async def test_a_workflow_does_no_io_of_its_own(
        self, make_app: MakeApp, flow: Workflow[..., Any], match: str
    ) -> None:
        async with make_app() as app:
            with pytest.raises(NotInWorkflow, match=match):
                await app.call(flow)

    async def test_a_workflow_that_nothing_can_wake_is_blocked(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.stuck, (log,))
            with pytest.raises(RunBlocked, match="not an operation"):
                await handle.result(timeout=20)
            assert (await handle.run()).status is Status.BLOCKED

    async def test_runs_are_listed(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            first = await app.start(kit.nothing)
            second = await app.start(kit.sequence, (log, 1))
            await asyncio.gather(first.result(timeout=20), second.result(timeout=20))
            page = await app.runs(RunQuery(status=Status.COMPLETED))
        assert {run.id for run in page.runs} == {first.id, second.id}

    async def lose(self) -> None:
        """Lose the processes that run steps, and have others take their place; by default: this process."""

    async def test_a_run_left_by_its_process_goes_on_in_another(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(kit.stopped, (log,))
            await until(lambda: "forever begins" in notes(log))
            await self.lose()
        async with make_app() as app, app.worker():
            await until(lambda: notes(log).count("forever begins") == 1 + self.needs_its_process)
            await app.recorded().cancel(handle.id)
            with pytest.raises(RunCancelled):
                await app.recorded().result(handle.id)

    async def test_a_lost_step_begins_again_under_its_key_unless_it_is_at_most_once(
        self, make_app: MakeApp, log: str
    ) -> None:
        async with make_app() as app:
            handle = await app.start(stories.left, (log,))
            await until(lambda: len(notes(log)) == 2)
            await self.lose()
        async with make_app() as app, app.worker():
            if self.needs_its_process:
                assert await app.recorded().result(handle.id) == ["interrupted", "ended"]
            else:
                await app.recorded().cancel(handle.id)
        once, again = (sorted(line for line in notes(log) if line.startswith(word)) for word in ("once", "again"))
        assert len(once) == 1
        assert again == again[:1] * (1 + self.needs_its_process)
