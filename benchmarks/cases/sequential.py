"""How fast one run after another goes, against the disk and the peers."""

from model import Case, Goal, Subject

_FULL, _NORMAL = "pyworkflow, FULL", "pyworkflow, NORMAL"
_DBOS = "DBOS on SQLite (async)"

CASE = Case(
    "sequential",
    "10-step workflows, one after another, every step durable",
    {"per_second": "steps/s"},
    [
        Subject(_FULL, "pyworkflow", ["ours.py", "sequential", "full", "100"]),
        Subject("sqlite3, FULL (commits/s)", "pyworkflow", ["raw_sqlite3.py", "full"]),
        Subject(_DBOS, "dbos", ["dbos_sqlite.py", "sequential", "default", "20"]),
        Subject(_NORMAL, "pyworkflow", ["ours.py", "sequential", "normal", "200"]),
        Subject("sqlite3, NORMAL (commits/s)", "pyworkflow", ["raw_sqlite3.py", "normal"]),
        Subject("aiosqlite, FULL (commits/s)", "aiosqlite", ["raw_aiosqlite.py", "full"]),
        Subject("DBOS on SQLite (sync, WAL)", "dbos", ["dbos_sqlite.py", "sync_sequential", "wal", "20"]),
        Subject("pyworkflow-engine on SQLite", "engine", ["engine_sqlite.py", "sequential", "distributed", "20"]),
        Subject("pyworkflow-engine, single-thread", "engine", ["engine_sqlite.py", "sequential", "one_thread", "20"]),
    ],
    [
        Goal("FULL: at least 10 x DBOS on SQLite", _FULL, "per_second", _DBOS, at_least=10),
        Goal(
            "FULL: at least 45 % of plain sqlite3's commits",
            _FULL,
            "per_second",
            "sqlite3, FULL (commits/s)",
            at_least=0.45,
        ),
        Goal("NORMAL: at least 20 x DBOS on SQLite", _NORMAL, "per_second", _DBOS, at_least=20),
    ],
    plot="per_second",
)
