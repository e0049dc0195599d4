"""What runtimes have to do for callers that go away: a client that disconnects, a timeout around a call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

import pytest

from pyworkflow import App
from pyworkflow.errors import HookClosed, RunCancelled, RunEnded
from pyworkflow.model import RunQuery, Status
from pyworkflow.testing.cancelling import is_cancelled_at
from pyworkflow.testing.runtime_kit import stories as kit
from pyworkflow.testing.runtime_kit.workflows import notes, sequence
from pyworkflow.testing.until import until

MakeApp = Callable[[], App]


class Callers:
    """What holds of recorded runs, at whatever await their callers are cancelled.

    Attributes:
        awaits: The awaits at which callers are cancelled, by number, if there are so many.
    """

    awaits: ClassVar[range] = range(1, 20)

    async def test_a_first_start_that_is_cancelled_leaves_no_run_or_one_that_ends(
        self, make_app: MakeApp, log: str
    ) -> None:
        for number in self.awaits:
            async with make_app() as app:  # the start opens the storage, and begins the worker
                key = f"first-{number}"
                was_cancelled = await is_cancelled_at(number, app.start(sequence, (log, 2), idempotency_key=key))
                handle = await app.start(sequence, (log, 2), idempotency_key=key)
                assert await handle.result(timeout=20) == 1
            if not was_cancelled:
                break

    async def test_a_start_that_is_cancelled_leaves_no_run_or_one_that_ends(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            await app.call(sequence, (log, 1))
            for number in self.awaits:
                key = f"start-{number}"
                was_cancelled = await is_cancelled_at(number, app.start(sequence, (log, 2), idempotency_key=key))
                handle = await app.start(sequence, (log, 2), idempotency_key=key)
                assert await handle.result(timeout=20) == 1
                if not was_cancelled:
                    break

    async def test_a_call_that_is_cancelled_leaves_no_run_or_one_that_ends(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:

            async def nothing_runs() -> bool:
                return not (await app.runs(RunQuery(status=Status.RUNNING))).runs

            for number in self.awaits[:12]:  # by then it waits for the end, however often
                await is_cancelled_at(number, app.call(sequence, (log, 2)))
                await until(nothing_runs)

    async def test_a_sender_that_is_cancelled_may_send_again(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            for number in self.awaits:
                token = f"sender-{number}"
                handle = await app.start(kit.approval, (log, token))
                await until(lambda token=token: token in notes(log))  # type: ignore[misc]
                was_cancelled = await is_cancelled_at(number, app.resume_hook(token, kit.Decision("carol")))
                with suppress(HookClosed):
                    await app.resume_hook(token, kit.Decision("carol"))
                assert await handle.result(timeout=20) == "carol says True"
                if not was_cancelled:
                    break

    async def test_a_cancel_that_is_cancelled_may_be_tried_again(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            for number in self.awaits:
                handle = await app.start(kit.approval, (log, f"cancel-{number}"))
                was_cancelled = await is_cancelled_at(number, handle.cancel())
                with suppress(RunEnded):
                    await handle.cancel()
                with pytest.raises(RunCancelled):
                    await handle.result(timeout=20)
                if not was_cancelled:
                    break

    async def test_who_waits_or_reads_and_is_cancelled_may_do_so_again(self, make_app: MakeApp, log: str) -> None:
        async with make_app() as app:
            handle = await app.start(sequence, (log, 2))
            for number in self.awaits[:4]:
                await is_cancelled_at(number, handle.result())
                await is_cancelled_at(number, app.runs(RunQuery()))
            assert await handle.result(timeout=20) == 1
            assert handle.id in {run.id for run in (await app.runs(RunQuery())).runs}
