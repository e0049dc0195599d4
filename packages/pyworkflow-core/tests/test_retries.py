"""The retry policies of the package, and the conformance class on each of them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from pyworkflow.backends.retries import DEFAULT, Exponential, Fixed, NoRetry
from pyworkflow.engine.step_runner import next_delay
from pyworkflow.errors import ConfigError, RetryableError
from pyworkflow.plugins.kinds import RETRY_POLICY
from pyworkflow.plugins.manager import Plugins
from pyworkflow.testing.retries import RetryPolicyConformance

ERROR = RuntimeError("x")


class TestNoRetry(RetryPolicyConformance):
    @pytest.fixture
    def policy(self):
        return NoRetry()


class TestFixed(RetryPolicyConformance):
    @pytest.fixture
    def policy(self):
        return Fixed("5s")


class TestExponential(RetryPolicyConformance):
    @pytest.fixture(params=["full", "none"])
    def policy(self, request):
        return Exponential(base="10ms", factor=3, cap="1h", jitter=request.param)


class TestPolicyThatCounts:
    """A policy with a memory does not pass."""

    class Counting:
        def __init__(self):
            self.calls = 0

        def delay(self, attempt, error):
            self.calls += 1
            return timedelta(seconds=self.calls)

    def test_it_does_not_pass(self):
        with pytest.raises(AssertionError):
            RetryPolicyConformance().test_delay_depends_on_nothing_but_the_attempt(self.Counting(), ERROR)


def test_default_is_one_second_doubled_up_to_a_minute_with_full_jitter():
    assert Exponential(base=1, factor=2, cap="60s", jitter="full") == DEFAULT


def test_no_retry_gives_up():
    assert NoRetry().delay(1, ERROR) is None


class Broken:
    def delay(self, attempt, error):
        raise KeyError("table")


def test_a_policy_that_raises_ends_the_attempts_and_is_logged(caplog):
    assert next_delay(Broken(), 3, 1, ERROR, datetime.now(UTC)) is None
    assert "KeyError: 'table'" in caplog.text


def test_a_retry_after_that_cannot_be_read_ends_the_attempts_and_is_logged(caplog):
    error = RetryableError("later", retry_after="soon")
    assert next_delay(DEFAULT, 3, 1, error, datetime.now(UTC)) is None
    assert "soon" in caplog.text


def test_fixed_pauses_as_long_each_time():
    assert [Fixed("5s").delay(n, ERROR) for n in (1, 2, 500)] == [timedelta(seconds=5)] * 3
    assert Fixed(timedelta(0)).delay(1, ERROR) == timedelta(0)


def test_exponential_doubles_up_to_its_cap():
    policy = Exponential(base="1s", cap="10s", jitter="none")
    assert [policy.delay(n, ERROR).total_seconds() for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_exponential_does_not_overflow():
    assert Exponential(jitter="none").delay(10_000, ERROR) == timedelta(seconds=60)
    assert Exponential(factor=1e300, jitter="none").delay(10_000, ERROR) == timedelta(seconds=60)


def test_full_jitter_spreads_over_the_whole_pause():
    random.seed(1)
    drawn = [DEFAULT.delay(3, ERROR).total_seconds() for _ in range(2000)]
    assert 0 <= min(drawn) < 0.2
    assert 3.8 < max(drawn) <= 4
    assert sum(drawn) / len(drawn) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(
    "text,policy",
    [
        ("none", NoRetry()),
        ("fixed", Fixed("1s")),
        ("fixed?delay=5s", Fixed("5s")),
        ("fixed?delay=0", Fixed(0)),
        ("exponential", DEFAULT),
        ("exponential?base=1s&cap=60s&jitter=full", DEFAULT),
        ("exponential?base=2&factor=1.5&cap=PT5M&jitter=none", Exponential("2s", 1.5, "5m", "none")),
    ],
)
def test_policy_is_made_from_its_config_string(text, policy):
    assert Plugins({}).make(RETRY_POLICY, text) == policy


@pytest.mark.parametrize(
    "text,message",
    [
        (
            "fixed?dely=5s",
            r"'fixed' has no option 'dely' \(did you mean 'delay'\?\); its options are: delay \(a duration",
        ),
        ("fixed?delay=soon", r"'fixed': option 'delay' is 'soon', but has to be a duration .*; its options are: delay"),
        ("fixed?delay=-1s", r"'fixed': the delay -1s .* is negative"),
        ("fixed://place", r"'fixed' takes no place, but 'fixed://place' gives it 'place'"),
        ("none?delay=1s", r"'none' has no option 'delay'; it takes no options"),
        ("exponential?base=0", r"the base 0s .* above zero"),
        ("exponential?base=2m", r"the cap 1m .* is below its base 2m"),
        ("exponential?factor=0.5", r"the factor 0.5 .* 1 or more"),
        ("exponential?factor=nan", r"option 'factor' is 'nan', but has to be a number"),
        ("exponential?factor=two", r"option 'factor' is 'two', but has to be a number"),
        ("exponential?jitter=half", r"option 'jitter' is 'half', but has to be one of full, none"),
    ],
)
def test_wrong_option_is_refused_by_name(text, message):
    with pytest.raises(ConfigError, match=rf"^retry policy .*{message}"):
        Plugins({}).make(RETRY_POLICY, text)


def test_wrong_jitter_of_an_instance_is_refused():
    with pytest.raises(ConfigError, match=r"the jitter 'half' .* has to be 'full' or 'none'"):
        Exponential(jitter="half")
