"""What a step adds to a call where nothing is stored."""

from model import Case, Goal, Subject

CASE = Case(
    "transient",
    "a transient step against a plain await of the same function",
    {
        "plain_us": "plain await, us",
        "over_plain_us": "a step adds, us",
        "guarded_over_plain_us": "with retries and a timeout, us",
    },
    [Subject("pyworkflow", "pyworkflow", ["ours_transient.py"])],
    [
        Goal("at most 2 us over a plain await", "pyworkflow", "over_plain_us", at_most=2),
        Goal("at most 5 us with unused retries and timeout", "pyworkflow", "guarded_over_plain_us", at_most=5),
    ],
)
