"""A retry policy for pyworkflow whose pauses are Fibonacci numbers."""

from __future__ import annotations

from datetime import timedelta

from attrs import frozen

from pyworkflow.errors import ConfigError

__all__ = ["Fibonacci"]


@frozen
class Fibonacci:
    """Pauses 1, 1, 2, 3, 5, 8, … times *unit*, up to *cap*.

    Raises:
        ConfigError: *unit* is not above zero, or *cap* is below it.
    """

    unit: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=5)

    def __attrs_post_init__(self) -> None:
        if not timedelta(0) < self.unit <= self.cap:
            msg = (
                f"the unit {self.unit} of a fibonacci retry policy has to be above zero, and its cap {self.cap} no less"
            )
            raise ConfigError(msg)

    def delay(self, attempt: int, error: BaseException) -> timedelta | None:  # noqa: ARG002 -- the port's signature
        """Return the pause after failed attempt number *attempt*."""
        pause, following = self.unit, self.unit
        for _ in range(attempt - 1):
            if pause >= self.cap:
                break
            pause, following = following, pause + following
        return min(pause, self.cap)
