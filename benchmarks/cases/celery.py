"""The same work on Celery workers over Redis, one worker of concurrency 2."""

from model import Case, Goal, Subject

_OURS, _RAW = "pyworkflow, SQLite FULL", "raw Celery tasks"
_DEFAULT, _SINGLE = "pyworkflow-engine, SQLite", "pyworkflow-engine, SQLite, single-thread"
_NEEDS = ["redis"]

CASE = Case(
    "celery",
    "Celery and Redis, one worker of concurrency 2",
    {
        "in_flight_per_s": "10-step runs at once, steps/s",
        "one_ms": "one 10-step run, ms",
        "fan_out_per_s": "100 steps at once, steps/s",
        "transient_ms": "transient run as one task, ms",
        "tasks_per_s": "tasks/s, results ignored",
        "tasks_with_results_per_s": "tasks/s, with results",
    },
    [
        Subject(_OURS, "pyworkflow", ["ours_celery.py"], needs=_NEEDS),
        Subject(_RAW, "celery", ["raw_celery.py"], needs=_NEEDS),
        Subject(_DEFAULT, "engine", ["engine_celery.py", "distributed"], needs=_NEEDS),
        Subject(_SINGLE, "engine", ["engine_celery.py", "one_thread"], needs=_NEEDS),
    ],
    [
        Goal("at once: at least 20 x pyworkflow-engine", _OURS, "in_flight_per_s", _DEFAULT, at_least=20),
        Goal("at once: at least 4 x its single-thread mode", _OURS, "in_flight_per_s", _SINGLE, at_least=4),
        Goal(
            "fan-out: at least 60 % of raw Celery tasks",
            _OURS,
            "fan_out_per_s",
            _RAW,
            per="tasks_per_s",
            at_least=0.6,
        ),
        Goal("one durable 10-step run: faster than a chain of 10", _OURS, "one_ms", _RAW, at_most=1),
    ],
    notes=["For raw Celery a run of 10 steps is a chain of 10 tasks with results."],
)
