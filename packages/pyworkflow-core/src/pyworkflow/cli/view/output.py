"""What commands print: tables for people, plain columns for pipes, JSON for programs; and the exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Any

import click

from pyworkflow.cli.view.wording import one_line
from pyworkflow.model import Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# rich is imported inside the functions: it takes longer than the rest, and --json and the workers need none of it.


class Exit(IntEnum):
    """What the exit code of a command means."""

    OK = 0
    FAILED = 1
    WRONG = 2
    BLOCKED = 3
    CANCELLED = 4
    INTERNAL = 70
    INTERRUPTED = 130


EXIT_OF = {
    Status.COMPLETED: Exit.OK,
    Status.FAILED: Exit.FAILED,
    Status.BLOCKED: Exit.BLOCKED,
    Status.CANCELLED: Exit.CANCELLED,
    Status.TERMINATED: Exit.CANCELLED,
    Status.CONTINUED: Exit.OK,
}

STYLES = {
    "running": "cyan",
    "retrying": "cyan",
    "dispatched": "cyan",
    "sleeping": "blue",
    "waiting": "blue",
    "continued": "green",
    "blocked": "magenta",
    "stopped": "magenta",
    "completed": "green",
    "done": "green",
    "failed": "red",
    "cancelled": "yellow",
    "terminated": "yellow",
    "abandoned": "bright_black",
    "broken": "red",
}
"""The colour of a word for how something is doing."""

_UNBOUNDED = 100_000  # columns: a pipe cuts nothing off


def console(file: IO[str] | None = None) -> Console:
    """Return where people's output goes: coloured and as wide as the terminal, or plain and uncut in a pipe."""
    from rich.console import Console

    made = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _UNBOUNDED
    return made


def say(text: str) -> None:
    """Tell people something that is not the result: on standard error."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """Print *value* for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_lines(lines: Iterable[Text], out: Console) -> None:
    """Print *lines*, cut to the width of the terminal."""
    for line in lines:
        out.print(trimmed(line, out), soft_wrap=True)


def trimmed(line: Text, out: Console) -> Text:
    """Return *line* in the width of the terminal, without blanks at its end."""
    line = line.copy()
    line.rstrip()
    line.truncate(out.width, overflow="ellipsis")
    return line


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, give: str, right: Sequence[str] = ()) -> None:
    """Print *rows* under *heads*.

    Args:
        heads: The names of the columns.
        rows: Their cells; words that `STYLES` knows are coloured.
        give: The column that is cut first if the terminal is too narrow.
        right: The columns that are set flush right.
    """
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    out = console()
    widths = [max(cell_len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    giving = heads.index(give)
    excess = sum(widths) + 2 * (len(widths) - 1) - out.width
    widths[giving] = max(8, widths[giving] - max(0, excess))
    lines = []
    for number, row in enumerate((heads, *rows)):
        line = Text()
        for head, cell, width in zip(heads, row, widths, strict=True):
            text = one_line(cell)
            if cell_len(text) > width:
                text = set_cell_size(text, width - 1).rstrip() + "…"
            pad = " " * (width - cell_len(text))
            style = "bold" if number == 0 else STYLES.get(cell, "")
            line.append("  " if line else "")
            line.append(pad + text if head in right else text + pad, style)
        lines.append(line)
    print_lines(lines, out)


def flat(error: BaseException) -> str:
    """Return the text of an error; it may have lines, but nothing that a terminal would obey."""
    lines = str(error).splitlines() or [type(error).__name__]
    return "\n".join("".join(char if char.isprintable() else " " for char in line) for line in lines)


def plain_text(value: Any) -> str:
    """Return a result for people: text as it is, everything else as Python shows it."""
    if isinstance(value, str):
        return value
    from pprint import pformat

    return pformat(value, width=100, sort_dicts=False)
