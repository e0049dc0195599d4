"""Transient runs: the workflow runs on the event loop itself; nothing is stored and nothing is replayed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import define, field

from pyworkflow.attempts import attempt, next_delay
from pyworkflow.clock import sleep_until
from pyworkflow.context import StepContext, step_context, workflow_context
from pyworkflow.failures import rebuild, record_of

if TYPE_CHECKING:
    from pyworkflow.definitions import Step, Workflow
    from pyworkflow.ports import RetryPolicy


@define(eq=False)
class Transient:
    """What a workflow sees of a transient run: real steps, real sleeps, and the errors of a durable one."""

    run_id: str
    policy: Callable[[Step[..., Any]], tuple[RetryPolicy, int]]
    threads: Executor | None = None
    _ops: int = field(default=0, init=False)
    _chance: random.Random = field(factory=random.SystemRandom, init=False)

    async def run(self, workflow: Workflow[..., Any], args: Any, kwargs: Any) -> Any:
        """Run *workflow* on encoded arguments; return its encoded result, or raise what it raises."""
        token, outside = workflow_context.set(self), step_context.set(None)
        try:
            return await workflow.body(args, kwargs)
        finally:
            step_context.reset(outside)
            workflow_context.reset(token)

    async def call_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry *step* out here, with the values and the errors that a durable run would see."""
        self._ops += 1
        signature, key, number = step.signature, f"{self.run_id}/{self._ops}", 0
        plain_args, plain_kwargs = signature.encode_call(args, kwargs)
        while True:
            number += 1
            try:
                call_args, call_kwargs = signature.decode_call(plain_args, plain_kwargs)
                context = StepContext(self.run_id, step.name, number, key)
                value = signature.encode_result(await attempt(step, call_args, call_kwargs, context, self.threads))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 -- a step may raise anything
                policy, retries = self.policy(step)
                delay = next_delay(policy, retries, number, error, self.now())
                if delay is None:
                    raise rebuild(record_of(error, retryable=False)) from None
                await asyncio.sleep(delay)
            else:
                return signature.decode_result(value)

    async def sleep(self, delay: float | None, until: datetime | None) -> None:
        """Sleep on the event loop, and never too short."""
        if until is not None:
            await sleep_until(until)
        else:
            await asyncio.sleep(max(0.0, delay or 0.0))

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return datetime.now(UTC)

    def chance(self) -> random.Random:
        """Return the system's source of random values."""
        return self._chance
