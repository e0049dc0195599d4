"""What a retry policy has to hold: subclass `RetryPolicyConformance`, and give it a fixture ``policy``."""

from __future__ import annotations

import inspect
import random
from datetime import timedelta
from typing import ClassVar

import pytest

from pyworkflow.ports import RetryPolicy

_ATTEMPTS = range(1, 1001)


class RetryPolicyConformance:
    """Tests for every retry policy.

    Attributes:
        seeded: Whether all its chance comes from the module `random`; where not, its delays are not compared.
    """

    seeded: ClassVar[bool] = True

    @pytest.fixture
    def policy(self) -> RetryPolicy:
        """Return the policy to test."""
        msg = "override the fixture 'policy'"
        raise NotImplementedError(msg)

    @pytest.fixture
    def error(self) -> Exception:
        """Return the error of the failed attempts; override it if the policy takes only some."""
        return ConnectionError(111, "refused")

    def _delay(self, policy: RetryPolicy, attempt: int, error: BaseException) -> timedelta | None:
        random.seed(attempt)
        return policy.delay(attempt, error)

    def test_delay_is_a_plain_method(self, policy: RetryPolicy) -> None:
        """It is called between events, where nothing can be awaited."""
        assert not inspect.iscoroutinefunction(policy.delay)

    def test_delay_is_none_or_not_negative(self, policy: RetryPolicy, error: Exception) -> None:
        """A pause is a timedelta of zero or more; None gives up."""
        for attempt in _ATTEMPTS:
            delay = policy.delay(attempt, error)
            assert delay is None or isinstance(delay, timedelta), f"attempt {attempt}: {delay!r}"
            assert delay is None or delay >= timedelta(0), f"attempt {attempt}: {delay!r}"

    def test_late_attempts_do_not_overflow(self, policy: RetryPolicy, error: Exception) -> None:
        """A step may be retried as often as its author likes."""
        delay = policy.delay(10_000, error)
        assert delay is None or delay >= timedelta(0)

    def test_delay_depends_on_nothing_but_the_attempt(self, policy: RetryPolicy, error: Exception) -> None:
        """One policy serves all steps of a process at once, so it cannot count."""
        upwards = {attempt: self._delay(policy, attempt, error) for attempt in _ATTEMPTS}
        downwards = {attempt: self._delay(policy, attempt, error) for attempt in reversed(_ATTEMPTS)}
        for attempt in _ATTEMPTS:
            assert (upwards[attempt] is None) == (downwards[attempt] is None), f"attempt {attempt}"
            assert not self.seeded or upwards[attempt] == downwards[attempt], f"attempt {attempt}"

    def test_error_is_left_as_it_is(self, policy: RetryPolicy, error: Exception) -> None:
        """It is recorded afterwards."""

        def state() -> tuple[object, ...]:
            return (error.args, dict(vars(error)), error.__cause__, error.__context__, error.__traceback__)

        before = state()
        for attempt in _ATTEMPTS:
            policy.delay(attempt, error)
        assert state() == before
