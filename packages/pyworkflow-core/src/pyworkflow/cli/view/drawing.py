"""A timeline as lines for a terminal: one for each operation, with a bar that is scaled to the run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from attrs import frozen
from rich.cells import set_cell_size
from rich.text import Text

from pyworkflow.cli.view import wording
from pyworkflow.cli.view.output import STYLES
from pyworkflow.cli.view.timeline import Phase, Row, State, Timeline
from pyworkflow.events import RunBlocked, RunCompleted, RunContinued, RunFailed, RunTerminated
from pyworkflow.inspection.operations import Outcome
from pyworkflow.model import FINAL

if TYPE_CHECKING:
    from pyworkflow.model import Run

_BAR = (12, 60)
_NAME = (12, 44)
_LIMIT = 140  # columns that a drawing takes at most, however wide the terminal or the pipe is


@frozen
class Ink:
    """What bars are drawn with.

    Attributes:
        work: Each cell of an attempt.
        failed: The last cell of an attempt that failed.
        lost: The last cell of one whose worker was lost.
        wait: Each cell of a wait.
    """

    work: str = "━"
    failed: str = "×"  # noqa: RUF001 -- drawn, not read
    lost: str = "╳"  # noqa: RUF001 -- the same
    wait: str = "·"


ASCII = Ink("=", "x", "!", ".")


def drawing(
    run: Run, line: Timeline, now: datetime, *, width: int = _LIMIT, ascii_only: bool = False
) -> Iterator[Text]:
    """Yield the lines of a run: what it is, its operations, how it ended.

    Args:
        run: The run.
        line: What its history tells.
        now: The present.
        width: How many columns there are.
        ascii_only: Whether the terminal can show nothing else.
    """
    ink = ASCII if ascii_only else Ink()
    width = min(width, _LIMIT)
    yield from _head(run, line, width)
    if line.rows:
        yield Text()
        yield from _table(line, now, width, ink)
    if line.marks:
        yield Text()
    for mark in line.marks:
        at = "+" + wording.between(line.start, mark.at)
        yield Text.assemble((f"{at:>8}  ", "bright_black"), wording.one_line(mark.text))
    yield Text()
    yield from _foot(line, width)


def _head(run: Run, line: Timeline, width: int) -> Iterator[Text]:
    status = run.status.value
    room = max(20, width - len(run.id) - len(status) - 4)
    yield Text.assemble(
        (run.id, "bold"), "  ", wording.call(run.workflow, line.args, line.kwargs, room), "  ", (status, STYLES[status])
    )
    took = wording.between(line.start, line.end)
    parts = [f"started {wording.moment(line.start)}"]
    parts.append(f"took {took}" if run.status in FINAL else f"for {took} so far")
    parts.append(f"{run.length} events")
    if line.recoveries:
        parts.append(f"recovered {_times(line.recoveries)}")
    yield Text(", ".join(parts), "bright_black")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _foot(line: Timeline, width: int) -> Iterator[Text]:
    match line.outcome:
        case RunCompleted(value=result):
            yield Text.assemble(("result  ", "bright_black"), wording.value(result, 4 * width))
        case RunFailed(error=record):
            yield Text.assemble(("failed  ", STYLES["failed"]), wording.error(record))
        case RunBlocked(error=record):
            yield Text.assemble(("blocked  ", STYLES["blocked"]), wording.error(record, 4 * width))
        case RunTerminated(reason=reason) if reason:
            yield Text.assemble(("terminated  ", STYLES["terminated"]), wording.one_line(reason))
        case RunContinued(run_id=run_id):
            yield Text.assemble(("goes on as  ", "bright_black"), run_id)


# -- the table of operations -----------------------------------------------------------


@frozen
class _Columns:
    op: int
    name: int
    start: int
    took: int
    state: int
    bar: int


def _columns(line: Timeline, width: int) -> _Columns:
    rows = line.rows
    op = max(2, len(str(rows[-1].op)))
    start = max(len("start"), *(len(_started(row, line)) for row in rows))
    took = max(len("took"), *(len(_took(row, line)) for row in rows))
    state = max(len("state"), *(len(row.state.value) for row in rows))
    room = width - op - start - took - state - 5 * 2
    longest = max(len(wording.operation(row.command, _NAME[1])) for row in rows)
    name = min(max(_NAME[0], longest), max(_NAME[0], room - _BAR[0] - 8), _NAME[1])
    return _Columns(op, name, start, took, state, max(_BAR[0], min(_BAR[1], room - name)))


def _started(row: Row, line: Timeline) -> str:
    return "+" + wording.between(line.start, row.start)


def _took(row: Row, line: Timeline) -> str:
    if row.state is State.ABANDONED:
        return ""
    return wording.between(row.start, row.end or line.end)


def _table(line: Timeline, now: datetime, width: int, ink: Ink) -> Iterator[Text]:
    columns = _columns(line, width)
    took = wording.between(line.start, line.end)
    axis = f"0{took:>{columns.bar - 1}}"
    yield _joined(columns, "#", "operation", "start", "took", Text("state"), Text(axis), style="bright_black")
    phases = set()
    for row in line.rows:
        phases |= {segment.phase for segment in row.segments}
        yield _joined(
            columns,
            str(row.op),
            wording.operation(row.command, columns.name),
            _started(row, line),
            _took(row, line),
            Text(row.state.value, STYLES[row.state.value]),
            _bar(row, line, columns.bar, ink),
        )
        for note in _notes(row, now):
            yield Text(" " * (columns.op + 4) + note, "bright_black")
    yield Text()
    yield Text(" " * (columns.op + 2) + _legend(phases, ink), "bright_black")


def _joined(  # noqa: PLR0917 -- one for each column
    columns: _Columns, op: str, name: str, start: str, took: str, state: Text, bar: Text, *, style: str = ""
) -> Text:
    state = state.copy()
    state.pad_right(columns.state - len(state.plain))
    line = Text(style=style)
    line.append(f"{op:>{columns.op}}  ", "bright_black")
    line.append(f"{set_cell_size(name, columns.name)}  {start:>{columns.start}}  {took:>{columns.took}}  ")
    line.append_text(state)
    line.append("  ")
    line.append_text(bar)
    return line


def _notes(row: Row, now: datetime) -> Iterator[str]:
    """Yield what there is to say about the attempts and the waits of an operation."""
    for attempt in row.attempts:
        took = wording.between(attempt.start, attempt.end or now)
        match attempt.outcome:
            case Outcome.FAILED if attempt.error is not None:
                rest = (
                    ""
                    if attempt.due is None or attempt.end is None
                    else f"; again after {_pause(attempt.end, attempt.due)}"
                )
                yield f"attempt {attempt.number} failed after {took}: {wording.error(attempt.error)}{rest}"
            case Outcome.LOST:
                yield f"attempt {attempt.number} was lost with its worker, at most {took} after it began"
            case Outcome.STOPPED if row.state is not State.ABANDONED:
                yield f"attempt {attempt.number} was stopped with the run"
    if row.until is not None and row.state in {State.SLEEPING, State.RETRYING}:
        left = f", in {wording.between(now, row.until)}" if row.until > now else ""
        yield f"{'until' if row.state is State.SLEEPING else 'next attempt at'} {wording.moment(row.until)}{left}"


def _pause(end: datetime, due: datetime) -> str:
    return wording.between(end, due) if due > end else "no pause"


_INK = {Phase.WORKING: "", Phase.FAILED: STYLES["failed"], Phase.LOST: "yellow", Phase.WAITING: "bright_black"}


def _bar(row: Row, line: Timeline, width: int, ink: Ink) -> Text:
    cells, styles = [" "] * width, [""] * width
    scale = width / ((line.end - line.start).total_seconds() or 1.0)

    def cell(at: datetime) -> int:
        return max(0, min(width, round((at - line.start).total_seconds() * scale)))

    # Waits first, so that an attempt too short for a cell of its own still shows.
    for segment in sorted(row.segments, key=lambda segment: segment.phase is not Phase.WAITING):
        first = min(cell(segment.start), width - 1)
        last = max(first, cell(segment.end) - 1)
        for at in range(first, last + 1):
            cells[at] = ink.wait if segment.phase is Phase.WAITING else ink.work
            styles[at] = _INK[segment.phase] or STYLES[row.state.value]
        if segment.phase in {Phase.FAILED, Phase.LOST}:
            cells[last] = ink.failed if segment.phase is Phase.FAILED else ink.lost
    bar = Text()
    for char, style in zip(cells, styles, strict=True):
        bar.append(char, style)
    return bar


def _legend(phases: set[Phase], ink: Ink) -> str:
    words = {
        Phase.WORKING: f"{ink.work} working",
        Phase.FAILED: f"{ink.failed} attempt failed",
        Phase.LOST: f"{ink.lost} worker lost",
        Phase.WAITING: f"{ink.wait} waiting",
    }
    return "   ".join(word for phase, word in words.items() if phase in phases)
