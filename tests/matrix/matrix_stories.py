"""How each workflow of the matrix is called, what people do meanwhile, and what has to come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import matrix_flows as m
from attrs import field, frozen

from pyworkflow import App
from pyworkflow.authoring.definitions import Workflow
from pyworkflow.events import Requested
from pyworkflow.handle import RunHandle
from pyworkflow.testing.runtime_kit.workflows import notes
from pyworkflow.testing.until import until

LOG, TOKEN = object(), object()
"""In the arguments: the file for effects, and a token, which are others in each cell."""


@frozen
class Cell:
    """One run: where it writes what it does, its token, and whether it has a history."""

    log: str
    token: str
    recorded: bool


Meanwhile = Callable[[App, RunHandle[Any], Cell], Awaitable[object]]


@frozen
class Story:
    """A run of a workflow.

    Attributes:
        flow: The workflow.
        args: Its arguments.
        result: What it returns, or the error that ends it.
        effects: What steps write, in order where they follow one another, else sorted.
        meanwhile: What people do while it runs.
        needs: What a runtime has to be able to do for it.
    """

    flow: Workflow[..., Any]
    args: Sequence[Any] = (LOG,)
    result: Any = None
    effects: Sequence[str] = ()
    meanwhile: Meanwhile | None = None
    needs: str = ""
    name: str = field(kw_only=True)

    @name.default
    def _flow_name(self) -> str:
        return self.flow.name.removeprefix("m.")


async def decide(app: App, handle: RunHandle[Any], cell: Cell) -> None:
    await until(lambda: notes(cell.log))
    await app.resume_hook(cell.token, {"by": "ada"})


async def talk(app: App, handle: RunHandle[Any], cell: Cell) -> None:
    await until(lambda: notes(cell.log))
    for text in ("hello", "bye"):
        await app.resume_hook(cell.token, text)


async def cancel(app: App, handle: RunHandle[Any], cell: Cell) -> None:
    async def sleeps() -> bool:
        history = await handle.history()
        return any(isinstance(event, Requested) and event.command.name == "sleep" for event in history)

    await until(lambda: notes(cell.log))
    if cell.recorded:  # so that it is told in the same place everywhere
        await until(sleeps)
    await handle.cancel("enough")


PLACED = datetime(2026, 3, 28, 12, tzinfo=UTC)
BOOK, LAMP = m.Item("book", Decimal("19.90")), m.Item("lamp", Decimal("30.00"), 2000)
PIANO = m.Item("piano", Decimal(9000), 400_000)
ORDER = m.Order("o-7", (BOOK, LAMP), PLACED, m.Carrier.BIKE)
SHIPMENT = m.Shipment(
    "o-7",
    m.Payment("pay-o-7", Decimal("49.90")),
    ["book by bike", "lamp by bike"],
    m.Carrier.BIKE,
    PLACED + timedelta(days=2),
)
VALUES = {
    "when": PLACED,
    "pause": timedelta(1),
    "id": UUID(int=7),
    "path": Path("a/b"),
    "set": {1, 2},
    "bytes": b"\xff",
}

STORIES = [
    Story(m.checkout, (LOG, "o-1"), "receipt for the payment for o-1", ["charge o-1", "receipt payment for o-1"]),
    Story(
        m.fulfil,
        (LOG, ORDER),
        SHIPMENT,
        ["pack book", "pack lamp", "pay 1", "pay 2", "pay 3", "reserve book", "reserve lamp"],
    ),
    Story(
        m.onboarding,
        (LOG, "ada"),
        ["mail:ada", "wiki:ada"],
        ["mail ada: tip 1", "mail ada: tip 2", "mail admin: mail for ada", "mail admin: wiki for ada"],
    ),
    Story(
        m.month_end,
        (LOG, ["o-1", "o-2", "o-3"]),
        [f"receipt for the o-{n}" for n in (1, 2, 3)],
        [f"receipt o-{n}" for n in (1, 2, 3)],
    ),
    Story(m.etl, (LOG, 8), {"rows": 80, "sum": sum(range(80))}, [*(f"extract {n}" for n in range(8)), "load 8"]),
    Story(m.thumbnails, (["a", "b", "c"],), ["small a", "small b", "small c"]),
    Story(m.purchase, (LOG, TOKEN), "approved by ada", ["mail boss: please approve"], decide, "hooks"),
    Story(m.ignored, (LOG, TOKEN), "too late to boss", ["mail boss: too late"]),
    Story(
        m.support,
        (LOG, TOKEN),
        ["hello to agent", "bye to agent"],
        ["mail agent: bye", "mail agent: hello", "mail customer: how can I help?"],
        talk,
        "hooks",
    ),
    Story(
        m.cancelled,
        result=("RunCancelled",),
        effects=["mail us: begun", "mail us: cleaned up"],
        meanwhile=cancel,
        needs="cancel",
    ),
    Story(m.agent, (LOG, "how much?"), "it is 7", ["add [0, 0]", "add [1, 1]", "add [2, 4]"]),
    Story(m.retried, (LOG, 2), 3, ["flaky 1", "flaky 2", "flaky 3"]),
    Story(
        m.retried, (LOG, 9), ("ConnectionError", "attempt 3"), ["flaky 1", "flaky 2", "flaky 3"], name="retried in vain"
    ),
    Story(m.gives_up, result=("FatalError", "never again"), effects=["fatal"]),
    Story(m.comes_back, result="1", effects=["later 1", "later 2"]),
    Story(
        m.compensates,
        (LOG, [BOOK, LAMP, PIANO]),
        ("OutOfStock", "piano", 0),
        ["release book", "release lamp", "reserve book", "reserve lamp"],
    ),
    Story(m.explains, (LOG, PIANO), ("LookupError", "no piano, 0 left", ("OutOfStock", "piano", 0))),
    Story(m.too_slow, (), ("StepTimeout", "step 'm.hangs', attempt 1, took longer than its timeout of 0.02 s")),
    Story(m.time_limit, result="gave up to us", effects=["long begins", "mail us: gave up"]),
    Story(
        m.out_of_time,
        result=("WorkflowTimeout", "workflow 'm.out_of_time' took longer than its timeout of 0.04 s"),
        effects=["mail us: out of time"],
    ),
    Story(m.unstorable, (), "Unstorable"),
    Story(m.group_fails, (LOG, PIANO), ["('piano', 0)"]),
    Story(m.race, result=[True, False], effects=["mail us: quick"]),
    Story(m.as_they_end, (), [1, 2, 3]),
    Story(
        m.pipeline,
        result=["0 to line", "1 to line", "2 to line"],
        effects=["mail line: 0", "mail line: 1", "mail line: 2"],
    ),
    Story(
        m.subscription,
        (LOG, 2),
        "ended",
        ["mail customer: 0 months left", "mail customer: 1 months left", "mail customer: 2 months left"],
    ),
    Story(
        m.subscribers,
        (LOG, 2),
        ["ended", "ended"],
        [*["mail customer: 0 months left"] * 2, "mail customer: 1 months left", "mail customer: 2 months left"],
    ),
    Story(m.token_twice, (LOG, TOKEN), "taken, then free", ["mail boss: closed", "mail boss: opened"]),
    Story(m.chance, result=[True] * 4, effects=["mail us: later"]),
    Story(m.patched, result="done", effects=["mail us: patched"]),
    Story(m.values, (VALUES,), VALUES),
    Story(m.naps, (), True),
]
