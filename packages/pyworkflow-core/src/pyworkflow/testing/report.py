"""What a backend can do, as its conformance classes say and as their cases turned out."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

import pyworkflow

_KIT = "pyworkflow.testing."
_RANK = {"passed": 0, "refused": 1, "skipped": 2, "failed": 3}


@define(eq=False)
class Tested:
    """A conformance class of somebody.

    Attributes:
        kit: The classes of the kit that it is made of.
        capabilities: What it says the backend can do, and cannot.
        cases: How each of its cases ended. What asks for an absent capability, and was refused as it has to be, is
            ``"refused"``.
    """

    kit: list[str]
    capabilities: dict[str, bool]
    cases: dict[str, str] = field(factory=dict)

    def as_json(self, name: str) -> dict[str, Any]:
        """Return what is to be said of it."""
        counts = {outcome: list(self.cases.values()).count(outcome) for outcome in _RANK}
        return {
            "class": name,
            "kit": self.kit,
            "supported": sorted(name for name, has in self.capabilities.items() if has),
            "absent": sorted(name for name, has in self.capabilities.items() if not has),
            **counts,
            "cases": self.cases,
        }


@define(eq=False)
class Report:
    """A plugin of pytest that writes the report in the end.

    With pytest-xdist the tests are run, and so looked at, by worker processes; the one that started them writes.
    """

    file: Path
    _tested: dict[str, Tested] = field(factory=dict, init=False)
    _asks: dict[str, bool] = field(factory=dict, init=False)  # cases by node id: for something that is absent?
    _outcomes: dict[str, str] = field(factory=dict, init=False)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the cases of the kit."""
        for item in session.items:
            cls = getattr(item, "cls", None)
            kit = [base for base in getattr(cls, "__mro__", ()) if base.__module__.startswith(_KIT)]
            if not isinstance(item, pytest.Function) or not kit:
                continue
            capabilities = {name: getattr(cls, name) for base in kit for name in _flags(base)}
            names = [base.__name__ for base in kit if base.__name__.endswith("Conformance")]
            self._tested.setdefault(_class_of(item.nodeid), Tested(names, capabilities))
            asked = item.function.__code__.co_names
            self._asks[item.nodeid] = any(name in asked and not has for name, has in capabilities.items())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test went."""
        before = self._outcomes.get(report.nodeid, "passed")
        self._outcomes[report.nodeid] = max(before, report.outcome, key=_RANK.__getitem__)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in what a worker process knows of the cases; each knows all of them."""
        tested, self._asks = getattr(node, "workeroutput", {}).get(_KIT, ({}, self._asks))
        self._tested |= {name: Tested(*about) for name, about in tested.items()}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report, or tell the process that does."""
        if hasattr(session.config, "workeroutput"):
            tested = {name: (one.kit, one.capabilities) for name, one in self._tested.items()}
            session.config.workeroutput[_KIT] = (tested, self._asks)
            return
        for nodeid, asks in self._asks.items():
            outcome = self._outcomes.get(nodeid)
            if outcome is not None:
                told = "refused" if outcome == "passed" and asks else outcome
                self._tested[_class_of(nodeid)].cases[nodeid.split("::", 2)[2]] = told
        about = {"pyworkflow": pyworkflow.__version__, "python": platform.python_version()}
        classes = [tested.as_json(name) for name, tested in self._tested.items()]
        self.file.write_text(json.dumps({**about, "classes": classes}, indent=1) + "\n")


def _class_of(nodeid: str) -> str:
    return "::".join(nodeid.split("::", 2)[:2])


def _flags(cls: type) -> Iterator[str]:
    """Yield the names of the capabilities that a class of the kit declares."""
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        if annotation == "ClassVar[bool]":
            yield name
