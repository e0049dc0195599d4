"""Hooks, children, cancelling, continuing, changed code and undoing, on machines that are kept and on rebuilt ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from attrs import frozen

import pyworkflow
from pyworkflow import App, current_step, hook, sleep, step, workflow
from pyworkflow.app import set_default_app
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.errors import (
    DefinitionError,
    HookClosed,
    HookExpired,
    HookTaken,
    NotInWorkflow,
    RunCancelled,
    RunTerminated,
    StepTimeout,
    UndoFailed,
    Unstorable,
    WorkflowError,
    WorkflowTimeout,
)
from pyworkflow.events import CallStep, CancelRequested, Requested, RunContinued
from pyworkflow.model import Status

pytestmark = pytest.mark.asyncio

log: list[str] = []


@frozen
class Decision:
    by: str
    ok: bool = True


class Declined(Exception):
    pass


@step(name="sem.note")
async def note(text: str) -> str:
    log.append(text)
    return text


@step(name="sem.decline", retries=0)
async def decline() -> None:
    raise Declined("no money")


@pytest.fixture(autouse=True)
def empty_log() -> None:
    log.clear()


@pytest_asyncio.fixture(params=["kept", "rebuilt"])
async def app(request: pytest.FixtureRequest) -> AsyncIterator[App]:
    kept = 1000 if request.param == "kept" else 0
    app = App(
        storage=MemoryStorage(),
        default_durable=True,
        default_retry="fixed?delay=1ms",
        default_runtime=f"local?kept={kept}&replay={kept == 0}&sweep=50ms&lease=1s",
    )
    before = set_default_app(app)
    async with app:
        yield app
    set_default_app(before)


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(20):
        while not (found := await condition()):
            await asyncio.sleep(0.005)
        return found


async def opened(run_id: str | None = None, count: int = 1) -> list[Any]:
    async def look() -> list[Any]:
        found = await pyworkflow.list_hooks(run_id)
        return found if len(found) >= count else []

    return await until(look)


# -- hooks ---------------------------------------------------------------------------------


@workflow(name="sem.approval")
async def approval(token: str | None = None) -> str:
    asked = hook("approval", Decision, token=token)
    await note(asked.token)
    decision = await asked
    return f"{decision.by} says {decision.ok}"


async def test_a_hook_is_awaited_for_a_typed_payload(app: App) -> None:
    handle = await pyworkflow.start(approval)
    await until(lambda: logged(1))
    assert await pyworkflow.resume_hook(log[0], Decision("ada")) == handle.id
    assert await handle.result("20s") == "ada says True"


async def test_a_payload_may_be_the_json_of_a_request(app: App) -> None:
    handle = await pyworkflow.start(approval, "t-1")
    await opened()
    await pyworkflow.resume_hook("t-1", {"by": "bob", "ok": False})
    assert await handle.result("20s") == "bob says False"


@workflow(name="sem.late")
async def late() -> str:
    asked = hook("late", str, token="late")
    await sleep("50ms")
    return await asked


async def test_a_payload_may_come_before_it_is_awaited(app: App) -> None:
    handle = await pyworkflow.start(late)
    await opened()
    await pyworkflow.resume_hook("late", "early bird")
    assert await handle.result("20s") == "early bird"


WRONG = {"no text": {"by": 3}, "empty": {}, "text": "yes", "no bool": {"by": "ada", "ok": "maybe"}, "code": print}


@pytest.mark.parametrize("payload", WRONG.values(), ids=WRONG)
async def test_a_wrong_payload_is_refused_to_its_sender_and_the_hook_stays_open(app: App, payload: Any) -> None:
    handle = await pyworkflow.start(approval, "t-2")
    await opened()
    with pytest.raises(Unstorable, match="approval"):
        await pyworkflow.resume_hook("t-2", payload)
    await pyworkflow.resume_hook("t-2", Decision("ada"))
    assert await handle.result("20s") == "ada says True"


async def test_a_second_payload_finds_the_hook_closed(app: App) -> None:
    handle = await pyworkflow.start(approval, "t-3")
    await opened()
    await pyworkflow.resume_hook("t-3", Decision("ada"))
    with pytest.raises(HookClosed):
        await pyworkflow.resume_hook("t-3", Decision("bob"))
    assert await handle.result("20s") == "ada says True"


async def test_default_tokens_are_256_bits_and_are_not_stored(app: App) -> None:
    handle = await pyworkflow.start(approval)
    (found,) = await opened(handle.id)
    await until(lambda: logged(1))
    assert len(log[0]) == 43
    assert found.token != log[0]
    assert found.token not in log[0]


async def test_two_runs_have_different_tokens(app: App) -> None:
    for _ in range(2):
        await pyworkflow.start(approval)
    await until(lambda: logged(2))
    assert len(set(log)) == 2


async def test_an_own_token_that_is_in_use_is_an_error_in_the_second_workflow(app: App) -> None:
    first = await pyworkflow.start(approval, "same")
    await opened()
    with pytest.raises(HookTaken, match="in use"):
        await approval("same")
    await pyworkflow.resume_hook("same", Decision("ada"))
    assert await first.result("20s") == "ada says True"
    second = await pyworkflow.start(approval, "same")
    await opened(second.id)


@workflow(name="sem.later_taken")
async def later_taken() -> str:
    await note("first")
    try:
        return await hook("second", str, token="same")
    except HookTaken:
        return "taken"


async def test_a_token_that_is_in_use_can_be_caught(app: App) -> None:
    await pyworkflow.start(approval, "same")
    await opened()
    assert await later_taken() == "taken"


@workflow(name="sem.expiring")
async def expiring() -> str:
    try:
        return await hook("quick", str, token="quick", timeout="30ms")
    except HookExpired:
        return "nobody came"


async def test_a_hook_expires(app: App) -> None:
    assert await expiring() == "nobody came"
    with pytest.raises(HookClosed):
        await pyworkflow.resume_hook("quick", "too late")


@workflow(name="sem.chat")
async def chat() -> list[str]:
    messages = []
    channel = hook("chat", str, token="chat", many=True)
    async for message in channel:
        messages.append(await note(message))
        if message == "bye":
            channel.close()
    await sleep("10ms")
    return messages


async def test_a_hook_takes_many_payloads_in_order(app: App) -> None:
    handle = await pyworkflow.start(chat)
    await opened()
    for text in ("one", "two", "three", "bye"):
        await pyworkflow.resume_hook("chat", text)
    assert await handle.result("20s") == ["one", "two", "three", "bye"]


async def test_a_closed_hook_takes_nothing_more(app: App) -> None:
    handle = await pyworkflow.start(chat)
    await opened()
    await pyworkflow.resume_hook("chat", "bye")
    await handle.result("20s")
    with pytest.raises(HookClosed):
        await pyworkflow.resume_hook("chat", "hello?")


@workflow(name="sem.iterating")
async def iterating() -> None:
    async for _ in hook("single", str):
        pass


async def test_iterating_over_a_hook_for_one_payload_is_refused(app: App) -> None:
    with pytest.raises(WorkflowError, match="many=True"):
        await iterating()


async def test_a_hook_outside_a_workflow_is_refused(app: App) -> None:
    with pytest.raises(WorkflowError, match="outside a workflow"):
        hook("nowhere")


async def test_an_unknown_token_is_refused(app: App) -> None:
    with pytest.raises(HookClosed, match="no hook"):
        await pyworkflow.resume_hook("never was", 1)


async def test_a_payload_is_received_by_another_process(app: App) -> None:
    handle = await pyworkflow.start(approval, "elsewhere")
    await opened()
    async with App(storage=app.storage, default_durable=True) as other:
        await other.resume_hook("elsewhere", {"by": "carol"})
        assert await handle.result("20s") == "carol says True"


@workflow(name="sem.transient_hook", durable=False)
async def transient_hook() -> str:
    return await hook("t", str, token="transient")


async def test_a_transient_run_has_hooks_within_its_process(app: App) -> None:
    handle = await pyworkflow.start(transient_hook)
    await asyncio.sleep(0)
    await pyworkflow.resume_hook("transient", "hello")
    assert await handle.result("20s") == "hello"


@workflow(name="sem.transient_reader", durable=False)
async def transient_reader(read: list[str]) -> list[str]:
    messages = hook("messages", str, token="messages", many=True)
    if not read:
        await hook("go", token="go")
    read = [*read, await messages]
    if read[-1] != "bye":
        await pyworkflow.continue_as_new(read)
    return read


async def test_a_transient_run_that_continues_keeps_what_it_has_not_read(app: App) -> None:
    handle = await pyworkflow.start(transient_reader, [])
    await asyncio.sleep(0)
    for text in ("a", "b", "bye"):
        await pyworkflow.resume_hook("messages", text)
    await pyworkflow.resume_hook("go")
    assert await handle.result("20s") == ["a", "b", "bye"]


@workflow(name="sem.transient_closes", durable=False)
async def transient_closes() -> str:
    hook("first", str, token="closes", many=True).close()
    again = hook("again", str, token="closes", many=True)  # the token is free
    again.close()
    return await hook("go", str, token="closes-go")


async def test_a_closed_hook_of_a_transient_run_refuses_payloads(app: App) -> None:
    handle = await pyworkflow.start(transient_closes)
    await asyncio.sleep(0)
    with pytest.raises(HookClosed):
        await pyworkflow.resume_hook("closes", "x")
    await pyworkflow.resume_hook("closes-go", "on")
    assert await handle.result("20s") == "on"


# -- children ------------------------------------------------------------------------------


@workflow(name="sem.double")
async def double(n: int) -> int:
    await note(f"double {n}")
    return 2 * n


@workflow(name="sem.family")
async def family(n: int) -> list[int]:
    return await asyncio.gather(*(double(i) for i in range(n)))


async def test_awaiting_a_workflow_in_a_workflow_runs_a_child(app: App) -> None:
    handle = await pyworkflow.start(family, 3, run_id="parent")
    assert await handle.result("20s") == [0, 2, 4]
    runs = (await pyworkflow.list_runs(workflow="sem.double")).runs
    assert {run.id for run in runs} == {"parent.1", "parent.2", "parent.3"}
    assert {run.parent for run in runs} == {"parent"}


async def test_hundreds_of_children_end_and_each_runs_once(app: App) -> None:
    assert sum(await family(200)) == 200 * 199
    assert len(log) == len(set(log)) == 200


@workflow(name="sem.failing_child")
async def failing_child() -> None:
    await decline()


@workflow(name="sem.failing_parent")
async def failing_parent() -> None:
    try:
        await failing_child()
    except Declined as error:
        raise LookupError("no order") from error


async def test_a_childs_failure_reaches_its_parent_with_its_causes(app: App) -> None:
    with pytest.raises(LookupError) as caught:
        await failing_parent()
    assert isinstance(caught.value.__cause__, Declined)


@workflow(name="sem.waiting_child")
async def waiting_child() -> None:
    try:
        await sleep("1 day")
    except asyncio.CancelledError:
        await note("child cleaned up")
        raise


@workflow(name="sem.waiting_parent")
async def waiting_parent() -> None:
    await waiting_child()


async def test_cancelling_a_parent_cancels_its_children(app: App) -> None:
    handle = await pyworkflow.start(waiting_parent, run_id="p")
    await until(lambda: exists("p.1"))
    await handle.cancel("enough")
    with pytest.raises(RunCancelled):
        await handle.result("20s")
    await until(lambda: has_status("p.1", Status.CANCELLED))
    assert log == ["child cleaned up"]


async def test_a_child_is_told_to_stop_once(app: App) -> None:
    handle = await pyworkflow.start(waiting_parent, run_id="p")
    await until(lambda: exists("p.1"))
    await handle.cancel("enough")
    await until(lambda: has_status("p.1", Status.CANCELLED))
    events = await pyworkflow.history("p.1")
    assert sum(isinstance(event, CancelRequested) for event in events) == 1


async def test_a_child_that_was_cancelled_is_an_error_in_its_parent(app: App) -> None:
    handle = await pyworkflow.start(waiting_parent, run_id="p")
    await until(lambda: exists("p.1"))
    await pyworkflow.cancel("p.1")
    with pytest.raises(RunCancelled, match=r"p\.1"):
        await handle.result("20s")
    assert (await handle.run()).status is Status.FAILED


async def test_terminating_a_child_is_an_error_in_its_parent(app: App) -> None:
    handle = await pyworkflow.start(waiting_parent, run_id="p")
    await until(lambda: exists("p.1"))
    await pyworkflow.terminate("p.1", "no time")
    with pytest.raises(RunTerminated, match="no time"):
        await handle.result("20s")


async def test_terminating_a_parent_stops_its_children(app: App) -> None:
    await pyworkflow.start(waiting_parent, run_id="p")
    await until(lambda: exists("p.1"))
    await pyworkflow.terminate("p")
    await until(lambda: has_status("p.1", Status.CANCELLED))


@workflow(name="sem.racing_parent")
async def racing_parent() -> str:
    try:
        async with asyncio.timeout(0.05):
            await waiting_child()
    except TimeoutError:
        return "gave up"
    return "never"


async def test_a_child_that_nobody_waits_for_any_more_is_cancelled(app: App) -> None:
    handle = await pyworkflow.start(racing_parent, run_id="p")
    assert await handle.result("20s") == "gave up"
    await until(lambda: has_status("p.2", Status.CANCELLED))


@workflow(name="sem.starter")
async def starter() -> str:
    handle = await pyworkflow.start(double, 21)
    return handle.id


async def test_starting_a_run_in_a_workflow_detaches_it(app: App) -> None:
    handle = await pyworkflow.start(starter, run_id="p")
    child = await handle.result("20s")
    assert child == "p.1"
    assert await (await pyworkflow.get_run(child)).result("20s") == 42


@workflow(name="sem.impatient")
async def impatient() -> int:
    handle = await pyworkflow.start(double, 21)
    return await handle.result()


async def test_waiting_for_a_handle_in_a_workflow_is_refused(app: App) -> None:
    with pytest.raises(NotInWorkflow, match="@step"):
        await impatient()


# -- cancelling ----------------------------------------------------------------------------


@workflow(name="sem.tidy")
async def tidy() -> None:
    try:
        await sleep("1 day")
    finally:
        await note("tidying")
        await sleep("20ms")
        await note("tidied")


async def test_cleaning_up_runs_steps_and_sleeps_durably(app: App) -> None:
    handle = await pyworkflow.start(tidy)
    await handle.cancel("stop")
    with pytest.raises(RunCancelled):
        await handle.result("20s")
    assert log == ["tidying", "tidied"]


async def test_a_second_cancel_does_not_break_into_cleaning_up(app: App) -> None:
    handle = await pyworkflow.start(tidy)
    await handle.cancel("stop")
    await until(lambda: noted("tidying"))
    await handle.cancel("stop, I said")
    with pytest.raises(RunCancelled):
        await handle.result("20s")
    assert log == ["tidying", "tidied"]


@workflow(name="sem.stubborn")
async def stubborn() -> None:
    try:
        await sleep("1 day")
    finally:
        await sleep("1 day")


async def test_a_cancelled_run_is_terminated_at_its_deadline(app: App) -> None:
    handle = await pyworkflow.start(stubborn)
    await handle.cancel("stop")
    await handle.cancel("now", grace="30ms")
    with pytest.raises(RunTerminated, match="deadline"):
        await handle.result("20s")


@workflow(name="sem.shielded")
async def shielded() -> str:
    inner = asyncio.ensure_future(note("shielded"))
    try:
        await sleep("1 day")
    except asyncio.CancelledError:
        return await asyncio.shield(inner)
    return "never"


async def test_a_workflow_may_decline_to_be_cancelled(app: App) -> None:
    handle = await pyworkflow.start(shielded)
    await handle.cancel()
    assert await handle.result("20s") == "shielded"


# -- continuing as new ---------------------------------------------------------------------


@workflow(name="sem.countdown")
async def countdown(n: int) -> str:
    await note(f"{n}")
    if n:
        await pyworkflow.continue_as_new(n - 1)
    return "lift off"


async def test_a_run_continues_as_new_ones_and_its_handle_follows(app: App) -> None:
    handle = await pyworkflow.start(countdown, 3, run_id="c")
    assert await handle.result("20s") == "lift off"
    assert log == ["3", "2", "1", "0"]
    assert (await handle.run()).status is Status.CONTINUED
    last = (await handle.history())[-1]
    assert isinstance(last, RunContinued)
    assert last.run_id == "c~2"
    assert (await (await pyworkflow.get_run("c~4")).run()).parent == "c~3"


@workflow(name="sem.counting_parent")
async def counting_parent() -> str:
    return await countdown(2)


async def test_a_parent_waits_for_the_last_run_of_a_chain(app: App) -> None:
    assert await counting_parent() == "lift off"


@workflow(name="sem.forever")
async def forever(n: int) -> None:
    await sleep("10ms" if n < 2 else "1 day")
    await pyworkflow.continue_as_new(n + 1)


async def test_cancelling_an_early_run_of_a_chain_cancels_the_last(app: App) -> None:
    handle = await pyworkflow.start(forever, 0, run_id="f")
    await until(lambda: exists("f~3"))
    await handle.cancel()
    with pytest.raises(RunCancelled):
        await handle.result("20s")


@workflow(name="sem.continue_in_task")
async def continue_in_task() -> None:
    await asyncio.gather(pyworkflow.continue_as_new(), note("x"))


async def test_continuing_in_a_task_is_refused(app: App) -> None:
    with pytest.raises(WorkflowError, match="in a task"):
        await continue_in_task()


# -- undoing -------------------------------------------------------------------------------


@step(name="sem.release")
async def release(item: str, result: str) -> None:
    log.append(f"release {item} of {result}")


@step(name="sem.reserve", undo=release)
async def reserve(item: str, quantity: int = 1) -> str:
    log.append(f"reserve {item}")
    return f"reservation {item}"


@workflow(name="sem.saga")
async def saga(ends: str) -> str:
    await reserve("chair")
    await asyncio.gather(reserve("table", 2), reserve("lamp"))
    if ends == "fails":
        await decline()
    if ends == "waits":
        await sleep("1 day")
    return "bought"


RESERVED = ["reserve chair", "reserve table", "reserve lamp"]
RELEASED = [
    "release lamp of reservation lamp",
    "release table of reservation table",
    "release chair of reservation chair",
]


async def test_when_a_workflow_fails_its_steps_are_undone_in_reverse(app: App) -> None:
    handle = await pyworkflow.start(saga, "fails")
    with pytest.raises(Declined):
        await handle.result("20s")
    assert log == [*RESERVED, *RELEASED]
    asked = [event.command for event in await handle.history() if isinstance(event, Requested)]
    assert [command.name for command in asked if isinstance(command, CallStep)][-3:] == ["sem.release"] * 3


async def test_when_a_run_is_cancelled_its_steps_are_undone(app: App) -> None:
    handle = await pyworkflow.start(saga, "waits")
    await until(lambda: noted("reserve lamp"))
    await handle.cancel()
    with pytest.raises(RunCancelled):
        await handle.result("20s")
    assert log == [*RESERVED, *RELEASED]


async def test_a_workflow_that_ends_well_undoes_nothing(app: App) -> None:
    assert await saga("well") == "bought"
    assert log == RESERVED


@step(name="sem.bad_release", retries=0)
async def bad_release(item: str) -> None:
    raise OSError(f"no release of {item}")


@step(name="sem.bad_reserve", undo=bad_release)
async def bad_reserve(item: str) -> str:
    return item


@workflow(name="sem.bad_saga")
async def bad_saga() -> None:
    await reserve("first")
    await bad_reserve("second")
    await decline()


async def test_an_undo_that_fails_does_not_keep_the_others_from_running(app: App) -> None:
    with pytest.raises(UndoFailed, match="no release of second") as caught:
        await bad_saga()
    assert log == ["reserve first", "release first of reservation first"]
    assert isinstance(caught.value.__cause__, OSError)


async def test_an_undo_step_that_cannot_be_called_is_refused_at_once(app: App) -> None:
    with pytest.raises(DefinitionError, match="'item'"):

        @step(name="sem.wrong_undo", undo=release)
        async def wrong() -> None: ...


# -- limits of time ------------------------------------------------------------------------


@workflow(name="sem.slow", timeout="30ms")
async def slow() -> None:
    try:
        await sleep("1 day")
    finally:
        await note("out of time")


async def test_a_workflow_has_a_timeout_and_may_clean_up(app: App) -> None:
    with pytest.raises(WorkflowTimeout, match=r"sem\.slow"):
        await slow()
    assert log == ["out of time"]


@step(name="sem.hangs", heartbeat="40ms", retries=0)
async def hangs(beats: int) -> str:
    for _ in range(beats):
        await asyncio.sleep(0.02)
        current_step().heartbeat()
    if beats < 5:
        await asyncio.sleep(3600)
    return "alive"


@workflow(name="sem.watched")
async def watched(beats: int) -> str:
    return await hangs(beats)


async def test_a_step_that_gives_no_heartbeat_counts_as_hung(app: App) -> None:
    with pytest.raises(StepTimeout, match="heartbeat"):
        await watched(1)


async def test_a_step_that_gives_heartbeats_may_take_its_time(app: App) -> None:
    assert await watched(6) == "alive"


async def exists(run_id: str) -> bool:
    return run_id in {run.id for run in (await pyworkflow.list_runs()).runs}


async def has_status(run_id: str, status: Status) -> bool:
    return (await (await pyworkflow.get_run(run_id)).run()).status is status


async def noted(text: str) -> bool:
    return text in log


async def logged(count: int) -> bool:
    return len(log) == count
