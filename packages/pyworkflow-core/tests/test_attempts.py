import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyworkflow import step, workflow
from pyworkflow.app import App
from pyworkflow.authoring.primitives import current_step
from pyworkflow.codec import Codec
from pyworkflow.codec.signature import Signature

log: list[str] = []


@step(name="attempts.quick", timeout="30s")
async def quick(number: int) -> int:
    return number + 1


@step(name="attempts.waits", timeout="30s", retries=0)
async def waits(turns: int) -> str:
    try:
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns > 5:
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        log.append("cancelled")
        raise
    finally:
        log.append("left")
    return f"{current_step().idempotency_key[-2:]} {asyncio.current_task() is not None}"


@step(name="attempts.fails", timeout="30s", retries=0)
async def fails(after: int) -> None:
    for _ in range(after):
        await asyncio.sleep(0)
    raise TimeoutError("its own")


@workflow(name="attempts.flow", durable=False)
async def flow(number: int) -> int:
    return await quick(number)


@workflow(name="attempts.waiting", durable=False)
async def waiting(turns: int) -> str:
    return await waits(turns)


@workflow(name="attempts.failing", durable=False)
async def failing(after: int) -> None:
    await fails(after)


@pytest.fixture(autouse=True)
def empty_log():
    log.clear()


@pytest.mark.asyncio
async def test_a_step_that_never_waits_needs_no_timer_for_its_timeout(monkeypatch):
    def refuse(*_):
        raise AssertionError("a timer was made")

    async with App() as app:
        monkeypatch.setattr(asyncio, "timeout_at", refuse)
        assert await app.call(flow, (1,)) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", [0, 1, 5])
async def test_a_step_with_a_timeout_goes_on_however_often_it_waits(turns):
    async with App() as app:
        assert await app.call(waiting, (turns,)) == "/1 True"
    assert log == ["left"]


@pytest.mark.asyncio
async def test_a_step_with_a_timeout_that_has_begun_is_cancelled_in_place():
    async with App() as app:
        task = asyncio.create_task(app.call(waiting, (9,)))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert log == ["cancelled", "left"]


@pytest.mark.asyncio
@pytest.mark.parametrize("after", [0, 3])
async def test_a_timeout_error_of_the_step_is_its_own(after):
    async with App() as app:
        with pytest.raises(TimeoutError, match="its own"):
            await app.call(failing, (after,))


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.text(min_size=990, max_size=1010)
)


@given(scalars, st.sampled_from([Any, int, str, bool, float, None, object, int | None]))
def test_a_value_that_is_kept_is_what_storing_it_gives(value, annotation):
    def function(argument):
        return argument

    function.__annotations__ = {"argument": annotation, "return": annotation}
    codec = Codec()
    signature = Signature.of(function, codec, "it")
    assert signature.keeps_call([value], {}) == signature.keeps_result(value)
    if signature.keeps_result(value):
        assert codec.decoder(annotation)(codec.encoder(annotation)(value)) is value
