"""A plot of the cases that have one, as SVG: bars on a logarithmic scale."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from model import median
from report import Results, number

_WIDTH, _LABELS, _ROW, _HEAD = 860, 300, 22, 34
_OURS, _PEER, _LIMIT = "#1f6feb", "#8b949e", "#d4a72c"


def write(path: Path, results: Results) -> None:
    """Write the plot of *results*."""
    parts: list[str] = []
    top = 10
    for case, samples in results:
        if case.plot is None:
            continue
        bars = [(s, value) for s in case.subjects if (value := median(samples, s.label, case.plot))]
        if not bars:
            continue
        parts.append(_text(10, top + 18, f"{case.name}: {case.title} ({case.figures[case.plot]})", bold=True))
        top += _HEAD
        least, most = min(value for _, value in bars), max(value for _, value in bars)
        for subject, value in bars:
            color = _OURS if subject.label.startswith("pyworkflow,") else _PEER
            color = _LIMIT if subject.script[0].startswith("raw_") else color
            length = _length(value, least, most)
            parts.append(_text(10, top + 15, subject.label))
            parts.append(f'<rect x="{_LABELS}" y="{top + 3}" width="{length:.0f}" height="15" fill="{color}"/>')
            parts.append(_text(_LABELS + length + 6, top + 15, number(value)))
            top += _ROW
        top += 10
    body = "\n".join(parts)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _length(value: float, least: float, most: float) -> float:
    """Return the length of a bar; the least one keeps a tenth of the room."""
    room = _WIDTH - _LABELS - 90
    if most <= least:
        return room
    return room * (0.1 + 0.9 * math.log(value / least) / math.log(most / least))


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{weight}>{escape(text)}</text>'
