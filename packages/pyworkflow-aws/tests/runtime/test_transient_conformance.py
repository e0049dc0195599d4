from __future__ import annotations

import pytest

from pyworkflow.testing.runtime import RuntimeConformance


class TestLambda(RuntimeConformance):
    can_cancel = False  # nobody can stop an invocation

    @pytest.fixture
    def make_app(self, make_transient):
        return make_transient
