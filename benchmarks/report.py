"""Tables and JSON of what was measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from model import Case, Goal, Samples

Results = Sequence[tuple[Case, Samples]]


def case_table(case: Case, samples: Samples) -> str:
    """Return a case as Markdown: who reached what, then the goals."""
    lines = [f"### {case.name}: {case.title}", "", "| | " + " | ".join(case.figures.values()) + " |"]
    lines.append("|---|" + "---|" * len(case.figures))
    for subject in case.subjects:
        rounds = samples.get(subject.label, ())
        cells = [_spread([figures[name] for figures in rounds if name in figures]) for name in case.figures]
        if rounds:
            lines.append(f"| {subject.label} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {_verdict(goal, samples)}" for goal in case.goals), *(f"- {note}" for note in case.notes)]
    return "\n".join(lines) + "\n"


def goals_table(results: Results) -> str:
    """Return all goals beside what was reached, as Markdown."""
    lines = ["| case | goal | reached | met |", "|---|---|---|---|"]
    for case, samples in results:
        for goal in case.goals:
            reached = goal.reached(samples)
            shown, met = ("not measured", "-") if reached is None else (_reached(goal, reached), _yes(goal, reached))
            lines.append(f"| {case.name} | {goal.text} | {shown} | {met} |")
    return "\n".join(lines) + "\n"


def write(
    folder: Path,
    results: Results,
    *,
    left_out: Mapping[str, str],
    facts: Mapping[str, str],
    command: str,
    started: datetime,
    rounds: int,
    again: Mapping[str, str] | None = None,
) -> None:
    """Write ``latest.md`` and ``latest.json``; *again* says when a case was measured again, by case."""
    folder.mkdir(exist_ok=True)
    date = started.strftime("%Y-%m-%d")
    machine = ", ".join(f"{key}: {value}" for key, value in facts.items())
    text = [
        "# Benchmark results",
        "",
        f"{date}, by `{command}`: medians of {rounds} interleaved rounds, with the least and the most in brackets.",
        "",
        f"Machine: {machine}.",
        "",
        "## Goals",
        "",
        goals_table(results),
        *(f"Case {name} was measured in a sitting of its own: {when}." for name, when in (again or {}).items()),
        *(f"Left out: {name}: {why}." for name, why in left_out.items()),
        "![steps per second](latest.svg)",
        "",
        "## Cases",
        "",
        *(case_table(case, samples) for case, samples in results),
    ]
    (folder / "latest.md").write_text("\n".join(text).rstrip() + "\n")
    data = {
        "date": started.isoformat(timespec="seconds"),
        "command": command,
        "rounds": rounds,
        "machine": dict(facts),
        "left_out": dict(left_out),
        "again": dict(again or {}),
        "cases": {case.name: {"title": case.title, "samples": samples} for case, samples in results},
    }
    (folder / "latest.json").write_text(json.dumps(data, indent=1) + "\n")


def _verdict(goal: Goal, samples: Samples) -> str:
    reached = goal.reached(samples)
    if reached is None:
        return f"{goal.text}: not measured"
    return f"{goal.text}: {_reached(goal, reached)}, {'met' if goal.is_met(reached) else 'MISSED'}"


def _reached(goal: Goal, reached: float) -> str:
    if goal.against is None:
        return number(reached)
    return f"{number(100 * reached)} %" if goal.at_least is not None and goal.at_least < 1 else f"{number(reached)} x"


def _yes(goal: Goal, reached: float) -> str:
    return "yes" if goal.is_met(reached) else "**no**"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}-{number(max(values))})"


def number(value: float) -> str:
    """Return *value* with about three digits that count, and spaces between thousands."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
