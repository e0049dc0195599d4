"""How soon a run that is started gets to its first step."""

from model import Case, Goal, Subject

_FULL = "pyworkflow, FULL"

CASE = Case(
    "latency",
    "from the call of start() to the first line of the first step, durable",
    {"p50_ms": "p50, ms", "p99_ms": "p99, ms"},
    [
        Subject(_FULL, "pyworkflow", ["ours.py", "latency", "full", "500"]),
        Subject("DBOS on SQLite (async)", "dbos", ["dbos_sqlite.py", "latency", "default", "100"]),
        Subject("pyworkflow-engine on SQLite", "engine", ["engine_sqlite.py", "latency", "distributed", "100"]),
    ],
    [
        Goal("p50: at most 0.5 ms", _FULL, "p50_ms", at_most=0.5),
        Goal("p99: at most 2 ms", _FULL, "p99_ms", at_most=2),
    ],
    plot="p50_ms",
)
