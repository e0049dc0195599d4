"""Many sleeping runs that fall due within one second, and what each takes while it sleeps."""

from model import Case, Goal, Subject

CASE = Case(
    "timers",
    "sleeping runs that fall due within one second",
    {
        "gone_on_after_s": "last one goes on, s after the first",
        "bytes_per_parked_run": "bytes a parked run",
        "tasks_left": "tasks while parked",
    },
    [
        Subject("pyworkflow, FULL: 10 000 runs, evicted", "pyworkflow", ["ours.py", "timers", "full", "10000"]),
        Subject("plain asyncio tasks: 10 000", "pyworkflow", ["raw_asyncio.py", "10000"]),
        Subject("DBOS on SQLite (async): 500 runs", "dbos", ["dbos_sqlite.py", "timers", "default", "500"]),
    ],
    [
        Goal(
            "all 10 000 gone on within 2 s of the first",
            "pyworkflow, FULL: 10 000 runs, evicted",
            "gone_on_after_s",
            at_most=2,
        ),
        Goal(
            "at most 2 KB a parked run",
            "pyworkflow, FULL: 10 000 runs, evicted",
            "bytes_per_parked_run",
            at_most=2048,
        ),
        Goal("no task a parked run", "pyworkflow, FULL: 10 000 runs, evicted", "tasks_left", at_most=3),
    ],
    notes=["DBOS gets a twentieth of the runs: starting 10 000 takes it minutes."],
)
