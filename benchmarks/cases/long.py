"""How the time of one run grows with its steps, and what replaying it costs."""

from model import Case, Goal, Subject

_SIZES = (100, 1000, 5000, 10_000)


_LABELS = {size: f"pyworkflow: {size} steps" for size in _SIZES}

CASE = Case(
    "long",
    "one run of many steps, every step durable (FULL), and its replay",
    {"seconds": "s", "replay_us_per_step": "replay, us a step"},
    [
        *(Subject(label, "pyworkflow", ["ours.py", "long", "full", str(size)]) for size, label in _LABELS.items()),
        Subject("DBOS on SQLite (async): 1000 steps", "dbos", ["dbos_sqlite.py", "long", "default", "1000"]),
        Subject("pyworkflow-engine: 1000 steps", "engine", ["engine_sqlite.py", "long", "distributed", "1000"]),
    ],
    [
        Goal(
            "10 000 steps take at most 2.2 x as long as 5 000",
            _LABELS[10_000],
            "seconds",
            _LABELS[5000],
            at_most=2.2,
        ),
        Goal("replay: at most 25 us a step", _LABELS[10_000], "replay_us_per_step", at_most=25),
    ],
)
