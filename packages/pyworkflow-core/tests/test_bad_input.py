"""What a user gets wrong is said at once, by its name, with what to do; and nothing that was done before is lost."""

from __future__ import annotations

import math
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from pyworkflow import App, step, workflow
from pyworkflow.errors import (
    BackendNotFound,
    ConfigError,
    DefinitionError,
    PayloadTooLarge,
    RunBlocked,
    Unstorable,
)
from pyworkflow.events import Completed, Requested, Retrying, RunFailed
from pyworkflow.model import RunQuery, Status

pytestmark = pytest.mark.asyncio


def a_cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


UNSTORABLE = {
    "lambda": (lambda: lambda: 1, "cannot store a lambda", "pass a name"),
    "open file": (lambda: open(__file__), "cannot store an open file", "pass its path"),  # noqa: PTH123, SIM115
    "cycle": (a_cycle, "cannot store what contains itself", "pass plain data"),
    "nan": (lambda: math.nan, "cannot store nan", "use None"),
    "50 levels": (lambda: nested(50), "nested deeper than 40 levels", "levels"),
    "10 MB": (lambda: "x" * 10_000_000, "of 10,000,000 bytes or more, the limit is 2,000,000", "elsewhere"),
}


@contextmanager
def made(what: str):
    value = UNSTORABLE[what][0]()
    try:
        yield value
    finally:
        if what == "open file":
            value.close()


@step(name="bad.fine")
async def fine() -> str:
    return "done"


@step(name="bad.takes")
async def takes(value: Any) -> None: ...


@step(name="bad.gives", retries=3)
async def gives(what: str) -> Any:
    with made(what) as value:
        return {"order": [1, value]}


@step(name="bad.counts")
async def counts() -> int:
    return "three"  # type: ignore[return-value]


@step(name="bad.fails", retries=3, retry_policy="exponental?base=1s")
async def fails() -> None:
    raise ConnectionError


@workflow(name="bad.argument")
async def argument(value: Any) -> None: ...


@workflow(name="bad.step_argument")
async def step_argument(what: str) -> None:
    await fine()
    with made(what) as value:
        await takes({"order": [1, value]})


@workflow(name="bad.step_result")
async def step_result(what: str) -> None:
    await fine()
    await gives(what)


@workflow(name="bad.result")
async def result(what: str) -> Any:
    await fine()
    with made(what) as value:
        return {"order": [1, value]}


@workflow(name="bad.ill_typed_step")
async def ill_typed_step() -> None:
    await fine()
    await counts()


@workflow(name="bad.ill_typed_result")
async def ill_typed_result() -> int:
    return await fine()  # type: ignore[return-value]


@workflow(name="bad.typed")
async def typed(n: int) -> None: ...


@workflow(name="bad.unknown_policy")
async def unknown_policy() -> None:
    await fine()
    await fails()


@pytest_asyncio.fixture(params=[True, False], ids=["durable", "transient"])
async def app(request):
    async with App(storage="memory://", default_durable=request.param, allow_nan=False) as app:
        yield app


def durable(app: App) -> bool:
    return bool(app.settings.default_durable)


async def told(app: App, called: Any, *args: Any, kind: type[Exception] = Unstorable) -> str:
    with pytest.raises(kind) as caught:
        await app.call(called, args)
    return str(caught.value)


# -- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", UNSTORABLE)
async def test_an_argument_that_cannot_be_stored_starts_no_run(app, what):
    _, problem, advice = UNSTORABLE[what]
    with made(what) as value:
        message = await told(app, argument, value)
    assert "argument 'value' of workflow 'bad.argument'" in message
    assert problem in message
    assert advice in message
    assert (await app.runs(RunQuery())).runs == []


@pytest.mark.parametrize("what", UNSTORABLE)
@pytest.mark.parametrize(
    "called, place",
    [
        (step_argument, "argument 'value' of step 'bad.takes'"),
        (step_result, "the result of step 'bad.gives'"),
        (result, "the result of workflow 'bad.result'"),
    ],
    ids=["step's argument", "step's result", "workflow's result"],
)
async def test_what_cannot_be_stored_fails_the_run_by_name_and_path(app, what, called, place):
    _, problem, advice = UNSTORABLE[what]
    message = await told(app, called, what)
    assert place in message
    assert problem in message
    assert advice in message
    if what != "10 MB":  # it is the whole that is too large
        assert "$.order[1]" in message
    if durable(app):
        await holds_what_was_done(app)


async def holds_what_was_done(app: App) -> None:
    (run,) = (await app.runs(RunQuery())).runs
    _, events = await app.recorded().history(run.id)
    assert run.status is Status.FAILED
    assert isinstance(events[-1], RunFailed)
    assert [event.value for event in events if isinstance(event, Completed)] == ["done"]
    assert not [event for event in events if isinstance(event, Retrying)], "trying again cannot help"


async def test_a_value_that_is_too_large_has_an_error_of_its_own(app):
    await told(app, argument, "x" * 10_000_000, kind=PayloadTooLarge)


async def test_nan_is_stored_unless_it_is_forbidden():
    async with App(storage="memory://", default_durable=True) as app:
        await app.call(argument, (math.nan,))
        (run,) = (await app.runs(RunQuery())).runs
        assert run.status is Status.COMPLETED


async def test_an_argument_that_does_not_fit_its_annotation_starts_no_run(app):
    assert await told(app, typed, "one") == "argument 'n' of workflow 'bad.typed': expected int, got 'one'"
    message = await told(app, typed, kind=TypeError)
    assert message.startswith("workflow 'bad.typed' cannot be called like this: missing a required argument: 'n'; it")
    assert (await app.runs(RunQuery())).runs == []


async def test_a_result_that_does_not_fit_its_annotation_fails_the_run(app):
    message = await told(app, ill_typed_step)
    assert message == "the result of step 'bad.counts': expected int, got 'three'"
    if durable(app):
        await holds_what_was_done(app)
    message = await told(app, ill_typed_result)
    assert message == "the result of workflow 'bad.ill_typed_result': expected int, got 'done'"


# -- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, kind, message",
    [
        ({"storage": "memry://"}, BackendNotFound, r"no storage 'memry' \(did you mean 'memory'\?\)"),
        ({"default_runtime": "lokal"}, BackendNotFound, r"no runtime 'lokal' \(did you mean 'local'\?\)"),
        (
            {"default_retry": "exponental"},
            BackendNotFound,
            "no retry policy 'exponental' .did you mean 'exponential'",
        ),
        ({"storge": "memory://"}, ConfigError, r"no setting 'storge' \(did you mean 'storage'\?\)"),
        ({"default_runtime": "local?leese=1s"}, ConfigError, r"no option 'leese' \(did you mean 'lease'\?\)"),
        ({"default_runtime": "local?lease=soon"}, ConfigError, "option 'lease' is 'soon', but has to be a duration"),
        ({"default_retry": "fixed?delay=soon"}, ConfigError, "option 'delay' is 'soon', but has to be a duration"),
        ({"default_retries": "many"}, ConfigError, "default_retries is 'many', but has to be a whole number"),
        ({"default_runtime": "local?lease=1s&sweep=1s"}, ConfigError, "at least twice its sweep"),
    ],
)
async def test_a_wrong_setting_starts_no_run(settings, kind, message):
    began = []

    @step(name="bad.notes")
    async def notes() -> None:
        began.append(1)

    @workflow(name="bad.begins")
    async def begins() -> None:
        await notes()

    with pytest.raises(kind, match=message):
        async with App(**{"storage": "memory://", "default_durable": True} | settings) as app:
            await app.call(begins)
    assert not began


async def test_a_step_with_an_unknown_retry_policy_blocks_its_run_until_that_is_there(app):
    if not durable(app):
        await told(app, unknown_policy, kind=BackendNotFound)
        return
    assert "no retry policy 'exponental' (did you mean 'exponential'?)" in await told(
        app, unknown_policy, kind=RunBlocked
    )
    (run,) = (await app.runs(RunQuery())).runs
    _, events = await app.recorded().history(run.id)
    assert [event.value for event in events if isinstance(event, Completed)] == ["done"]
    app._policies["exponental?base=1s"] = OnceMore()  # as when the plugin that offers it has been installed
    await app.recorded().retry(run.id)
    with pytest.raises(ConnectionError):
        await app.recorded().result(run.id)
    _, events = await app.recorded().history(run.id)
    assert sum(isinstance(event, Requested) for event in events) == 2


class OnceMore:
    def delay(self, attempt: int, error: BaseException) -> timedelta | None:
        return timedelta(0) if attempt == 1 else None


# -- definitions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorate", [step, workflow], ids=["step", "workflow"])
async def test_two_of_one_name_are_refused_and_both_places_named(decorate):
    async def first() -> None: ...

    async def second() -> None: ...

    kept = decorate(name="bad.twice")(first)
    with pytest.raises(DefinitionError, match=rf"two {decorate.__name__}s are named 'bad\.twice': .*:\d+ and .*:\d+;"):
        decorate(name="bad.twice")(second)
    known = kept.registry.steps if decorate is step else kept.registry.workflows
    assert known["bad.twice"] is kept


class Shop:
    async def method(self) -> None: ...

    async def pack(self, order: str) -> None: ...


@pytest.mark.parametrize(
    "function, message",
    [
        (Shop.pack, "does not go on a method: 'Shop.pack' could not be found again after a crash; declare a function"),
        (Shop().pack, "goes on a function, not on <bound method"),
        (lambda: None, "a lambda has none; use def"),
        (print, "goes on a function, not on <built-in function print>"),
    ],
)
@pytest.mark.parametrize("decorate", [step, workflow], ids=["step", "workflow"])
async def test_what_could_not_be_found_again_is_refused(decorate, function, message):
    with pytest.raises(DefinitionError, match=message):
        decorate(function)


async def test_a_workflow_has_to_be_async_and_a_generator_is_neither():
    def plain() -> None: ...

    async def generator():
        yield 1

    with pytest.raises(DefinitionError, match="is not async; declare it with async def"):
        workflow(plain)
    with pytest.raises(DefinitionError, match="is a generator; a step returns one result"):
        step(generator)
