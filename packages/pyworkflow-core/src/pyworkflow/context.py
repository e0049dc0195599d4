"""What a workflow or a step sees of the run it belongs to: two context variables, and what they may hold."""

from __future__ import annotations

from collections.abc import Coroutine
from contextvars import ContextVar
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field

if TYPE_CHECKING:
    from pyworkflow.definitions import Step


class WorkflowContext(Protocol):
    """How a workflow reaches what runs it; one implementation replays, another one does not."""

    run_id: str

    def call_step(
        self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Return a coroutine that has *step* carried out and gives its result."""

    def sleep(self, delay: float | None, until: datetime | None) -> Coroutine[Any, Any, None]:
        """Return a coroutine that ends *delay* seconds from now, or at *until*."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""

    def chance(self) -> Random:
        """Return the source of random values."""


workflow_context: ContextVar[WorkflowContext | None] = ContextVar("pyworkflow_workflow", default=None)


@define
class StepContext:
    """The attempt of a step that is being carried out.

    Attributes:
        run_id: The run that asked for the step.
        step: The step's name.
        attempt: The number of this attempt, from 1.
        idempotency_key: The same for all attempts of this operation, over crashes too, and different from that of
            every other operation: hand it to services that take one.
        cancelled: Nobody waits for the result any more. A sync step, which cannot be interrupted, may look at it.
    """

    run_id: str
    step: str
    attempt: int
    idempotency_key: str
    cancelled: bool = field(default=False)


step_context: ContextVar[StepContext | None] = ContextVar("pyworkflow_step", default=None)
