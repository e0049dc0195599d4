"""The retry policies of the package: ``none``, ``fixed`` and ``exponential``."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import Literal

from attrs import field, frozen

from pyworkflow.config.durations import (
    Duration,  # noqa: F401 -- in the signature of `delta`, which attrs makes that of the fields it converts
    delta,
    text,
)
from pyworkflow.errors import ConfigError


@frozen
class NoRetry:
    """Gives up at once."""

    def delay(self, attempt: int, error: BaseException) -> timedelta | None:  # noqa: ARG002 -- the port's signature
        """Return None."""
        return None


@frozen
class Fixed:
    """Pauses as long each time.

    Attributes:
        pause: How long, which may be zero.

    Raises:
        ConfigError: *delay* is negative, or not a duration.
    """

    pause: timedelta = field(default=timedelta(seconds=1), converter=delta, alias="delay")

    def __attrs_post_init__(self) -> None:
        if self.pause < timedelta(0):
            msg = f"the delay {text(self.pause.total_seconds())} of a fixed retry policy is negative; give zero or more"
            raise ConfigError(msg)

    def delay(self, attempt: int, error: BaseException) -> timedelta | None:  # noqa: ARG002 -- the port's signature
        """Return the pause."""
        return self.pause


@frozen
class Exponential:
    """Pauses *factor* times as long each time, up to *cap*; with full jitter, anything between zero and that.

    Full jitter keeps clients that failed together from coming back together: Marc Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015.

    Raises:
        ConfigError: *base* is not above zero, *factor* is below 1, *cap* is below *base*, or *jitter* is unknown.
    """

    base: timedelta = field(default=timedelta(seconds=1), converter=delta)
    factor: float = 2.0
    cap: timedelta = field(default=timedelta(seconds=60), converter=delta)
    jitter: Literal["full", "none"] = "full"

    def __attrs_post_init__(self) -> None:
        base, cap = text(self.base.total_seconds()), text(self.cap.total_seconds())
        if self.base <= timedelta(0):
            msg = f"the base {base} of an exponential retry policy has to be above zero"
        elif not (math.isfinite(self.factor) and self.factor >= 1):
            msg = f"the factor {self.factor} of an exponential retry policy has to be 1 or more"
        elif self.cap < self.base:
            msg = f"the cap {cap} of an exponential retry policy is below its base {base}; raise cap"
        elif self.jitter not in {"full", "none"}:
            msg = f"the jitter {self.jitter!r} of an exponential retry policy has to be 'full' or 'none'"
        else:
            return
        raise ConfigError(msg)

    def delay(self, attempt: int, error: BaseException) -> timedelta | None:  # noqa: ARG002 -- the port's signature
        """Return the pause after failed attempt number *attempt*."""
        base, cap = self.base.total_seconds(), self.cap.total_seconds()
        try:
            longest = min(cap, base * self.factor ** (attempt - 1))
        except OverflowError:
            longest = cap
        return timedelta(seconds=random.uniform(0.0, longest) if self.jitter == "full" else longest)  # noqa: S311


DEFAULT = Exponential()
