from __future__ import annotations

from pyworkflow.testing.runtime import DurableConformance


class TestDurableLambda(DurableConformance):
    pass
