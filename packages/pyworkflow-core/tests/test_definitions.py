"""One definition of a name: the same code may be read again, another one is refused where it is made."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyworkflow import App, step, workflow
from pyworkflow.authoring.definitions import Step
from pyworkflow.errors import DefinitionError


def saying(answer: Any) -> Step[[], Any]:
    @step
    async def say() -> Any:
        return answer

    return say


def logged(function: Callable[[str], Any]) -> Step[[str], Any]:
    """A decorator as people write it, without functools.wraps."""

    @step
    async def inner(text: str) -> Any:
        return function(text)

    return inner


def charge(text: str) -> str:
    return f"charged {text}"


def refund(text: str) -> str:
    return f"refunded {text}"


@pytest.mark.parametrize(
    "values", [("yes", "no"), (1, True), ([1], [2]), (object(), object())], ids=["text", "types", "lists", "objects"]
)
def test_a_step_of_a_factory_that_closes_over_other_values_is_refused(values: tuple[Any, Any]) -> None:
    saying(values[0])
    with pytest.raises(
        DefinitionError, match=r"(?s)say.*close over other values of 'answer'.*pass the value as an argument"
    ):
        saying(values[1])


def test_a_step_of_a_factory_may_be_made_again_with_the_same_values() -> None:
    first, second = saying(["yes"]), saying(["yes"])
    assert first.name == second.name


def test_a_step_in_a_decorator_is_refused_for_a_second_function() -> None:
    logged(charge)
    with pytest.raises(DefinitionError, match="'function'"):
        logged(refund)


def test_defaults_that_differ_are_refused() -> None:
    def limited(limit: int) -> None:
        @step
        async def takes(n: int = limit) -> int:
            return n

    limited(1)
    with pytest.raises(DefinitionError, match="its defaults"):
        limited(2)


def test_a_name_of_its_own_makes_it_another_step() -> None:
    def named(answer: str) -> Step[[], str]:
        @step(name=f"definitions.say_{answer}")
        async def say() -> str:
            return answer

        return say

    assert named("yes").name != named("no").name


@workflow(name="definitions.per_customer")
async def per_customer(customer: str) -> str:
    @step
    async def greet() -> str:
        return f"hello {customer}"

    return await greet()


@pytest.mark.asyncio
@pytest.mark.parametrize("durable", [False, True])
async def test_runs_do_not_run_the_steps_of_each_other(durable: bool) -> None:  # noqa: FBT001
    async with App(storage="memory://", default_durable=durable) as app:
        assert await app.call(per_customer, ("ada",)) == "hello ada"
        with pytest.raises(DefinitionError, match="'customer'"):
            await app.call(per_customer, ("bob",))
        assert await app.call(per_customer, ("ada",)) == "hello ada"


# -- modules that are read again -------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Write a module, and import it or read it again."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source: str) -> ModuleType:
        (tmp_path / "reread_flows.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        known = sys.modules.get("reread_flows")
        return importlib.import_module("reread_flows") if known is None else importlib.reload(known)

    yield write
    sys.modules.pop("reread_flows", None)


ONE = "from pyworkflow import step\n\n@step\ndef one() -> int:\n    return {result}\n"


def test_a_module_may_be_read_again_after_its_lines_have_moved(module: Callable[[str], ModuleType]) -> None:
    module(ONE.format(result=1))
    again = module("# a comment\n" + ONE.format(result=2))
    assert again.one() == 2


def test_two_functions_of_one_name_in_a_module_are_refused_with_both_places(
    module: Callable[[str], ModuleType],
) -> None:
    twice = (ONE.format(result=1) + "\n@step\ndef one() -> int:\n    return 2\n").replace("one", "two")
    with pytest.raises(DefinitionError, match=r"reread_flows\.py:3 and .*reread_flows\.py:7.*another name"):
        module(twice)
