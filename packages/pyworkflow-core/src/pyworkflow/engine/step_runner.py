"""Carries steps out: one attempt, from encoded arguments to the event that says what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrs import define, field

from pyworkflow.authoring.context import StepContext
from pyworkflow.codec.exceptions import record_of
from pyworkflow.engine.attempt import attempt, next_delay
from pyworkflow.errors import RunBlocked
from pyworkflow.events import Completed, Failed, Plain, Retrying

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry, Step
    from pyworkflow.clock import Clock
    from pyworkflow.engine.host import Host
    from pyworkflow.ports import RetryPolicy


@define(eq=False)
class Carrier:
    """Carries out the steps of a worker.

    Args:
        policy: Returns the retry policy and the number of retries of a step.
        threads: How many sync steps run at once.
        app: The application that the functions of the package stand for in a step.
    """

    registry: Registry
    clock: Clock
    policy: Callable[[Step[..., Any]], tuple[RetryPolicy, int]]
    threads: int
    app: Host | None = None
    _pool: ThreadPoolExecutor | None = field(default=None, init=False)

    async def attempt(  # noqa: PLR0917 -- all that a step's call is
        self, run_id: str, op: int, name: str, args: Plain, kwargs: Plain, number: int
    ) -> Completed | Failed | Retrying:
        """Carry out attempt *number* of operation *op*, a call of the step *name*.

        Raises:
            RunBlocked: The step is not known in this process.
        """
        step = self.registry.steps.get(name)
        if step is None:
            msg = f"step {name!r} is not known in this process; import the module that declares it"
            raise RunBlocked(msg)
        try:
            signature = step.signature
            decoded_args, decoded_kwargs = signature.decode_call(args, kwargs)
            context = StepContext(run_id, name, number, op, app=self.app)
            threads = None if step.is_async else self._threads()
            result = await attempt(step, decoded_args, decoded_kwargs, context, threads)
            value = signature.encode_result(result)
        except asyncio.CancelledError as cancelled:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            return self._failed(step, op, number, cancelled)
        except Exception as error:  # noqa: BLE001 -- a step may raise anything
            return self._failed(step, op, number, error)
        return Completed(self.clock.now(), op, value)

    def _failed(self, step: Step[..., Any], op: int, number: int, error: BaseException) -> Failed | Retrying:
        now = self.clock.now()
        policy, retries = self.policy(step)
        delay = next_delay(policy, retries, number, error, now)
        if delay is None:
            return Failed(now, op, record_of(error, retryable=False))
        return Retrying(now, op, number, record_of(error), now + timedelta(seconds=delay))

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "pyworkflow-step")
        return self._pool

    def close(self) -> None:
        """Begin no more sync steps; those that run cannot be interrupted."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
