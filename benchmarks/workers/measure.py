"""What every measuring script shares: clocks, memory, and how figures are handed over. Standard library only."""

import gc
import json
import statistics
import sys
from pathlib import Path

STEPS = 10
"""How many steps a workflow of cases A and B has."""


def emit(**figures: float) -> None:
    """Hand figures to `run.py`: the last line of the output."""
    sys.stdout.flush()
    print("\n" + json.dumps(figures), flush=True)


def memory(field: str = "VmRSS") -> float:
    """Return the memory of this process in KB; ``VmHWM`` is its peak."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return float(line.split()[1])
    raise LookupError(field)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile of *seconds*, in ms."""
    ordered = sorted(seconds)
    return {"p50_ms": 1e3 * statistics.median(ordered), "p99_ms": 1e3 * ordered[int(0.99 * (len(ordered) - 1))]}
