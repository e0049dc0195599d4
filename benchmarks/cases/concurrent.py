"""How fast 200 runs at once go, and what each of 10 000 takes."""

from model import Case, Goal, Subject

_FULL, _DBOS = "pyworkflow, FULL, 200 at once", "DBOS on SQLite (async), 200 at once"

CASE = Case(
    "concurrent",
    "10-step workflows, many at once, every step durable",
    {"per_second": "steps/s", "kb_per_run": "KB a run at the peak"},
    [
        Subject(_FULL, "pyworkflow", ["ours.py", "concurrent", "full", "200"]),
        Subject(_DBOS, "dbos", ["dbos_sqlite.py", "concurrent", "default", "200"]),
        Subject("pyworkflow, NORMAL, 200 at once", "pyworkflow", ["ours.py", "concurrent", "normal", "200"]),
        Subject("DBOS on SQLite (sync, WAL), 200 at once", "dbos", ["dbos_sqlite.py", "sync_concurrent", "wal", "200"]),
        Subject("pyworkflow-engine, 200 at once", "engine", ["engine_sqlite.py", "concurrent", "distributed", "200"]),
        Subject("pyworkflow, FULL, 1 000 at once", "pyworkflow", ["ours.py", "in_flight", "full", "1000"]),
        Subject("pyworkflow, FULL, 10 000 at once", "pyworkflow", ["ours.py", "in_flight", "full", "10000"]),
    ],
    [
        Goal("at least 100 x DBOS on SQLite", _FULL, "per_second", _DBOS, at_least=100),
        Goal("at least 7 x the 3 964 steps/s measured of Restate", _FULL, "per_second", at_least=7 * 3964),
        Goal(
            "10 000 at once take no more memory a run than 1 000 do",
            "pyworkflow, FULL, 10 000 at once",
            "kb_per_run",
            "pyworkflow, FULL, 1 000 at once",
            at_most=1.1,
        ),
    ],
    plot="per_second",
)
