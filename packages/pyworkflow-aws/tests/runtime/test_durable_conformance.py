from __future__ import annotations

from pyworkflow.testing.runtime import DurableConformance


class TestDurableLambda(DurableConformance):
    can_retry = False  # an execution that has ended does not go on
    children_are_runs = False  # they are a part of the execution of their parent
    guards_tokens = False  # AWS has no index of callbacks by name
    needs_its_process = False  # AWS carries the work
    awaits = range(1, 5)  # each takes a second or two
