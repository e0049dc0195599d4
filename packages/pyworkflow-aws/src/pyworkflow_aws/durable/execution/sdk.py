"""The only module that imports AWS's durable execution SDK, and knows its inside.

What is used besides its public interface, and what for:

- ``DurableContext.create_child_context(key, is_virtual=True)``: an operation's id comes from *key* alone, and not from
  the order in which threads happen to call; a virtual context is not recorded and costs nothing.
- ``DurableContext.state``: ``get_checkpoint_result`` to read an operation's state without requesting it,
  ``create_checkpoint`` without an update to learn what ended meanwhile, ``operations`` once at the start.
- the id that the first operation of such a context has, as `ids.operation_id` has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen
from aws_durable_execution_sdk_python import DurableContext, DurableOperationError, StepContext, durable_execution
from aws_durable_execution_sdk_python.config import CallbackConfig, Duration, StepConfig, StepSemantics
from aws_durable_execution_sdk_python.exceptions import (
    NonDeterministicExecutionError,
    StepInterruptedError,
    SuspendExecution,
)
from aws_durable_execution_sdk_python.lambda_service import Operation, OperationStatus, OperationType
from aws_durable_execution_sdk_python.retries import RetryDecision
from aws_durable_execution_sdk_python.serdes import PassThroughSerDes

from pyworkflow_aws.durable.replay.ids import operation_id
from pyworkflow_aws.durable.replay.record import OURS, Fault, Recorded

__all__ = [
    "Abandoned",
    "Failure",
    "Interrupted",
    "Journal",
    "Mismatch",
    "Suspended",
    "durable_execution",
]

MAX_WAIT = 366 * 24 * 3600
"""The longest wait in seconds; no execution lives longer."""

MAX_CALLBACK = 99_999_999
"""The longest timeout of a callback, in seconds."""

_ENDED = {
    OperationStatus.SUCCEEDED,
    OperationStatus.FAILED,
    OperationStatus.CANCELLED,
    OperationStatus.TIMED_OUT,
    OperationStatus.STOPPED,
}
_AS_IT_IS: PassThroughSerDes[str] = PassThroughSerDes()

Suspended = SuspendExecution
"""Leaves the handler until the service invokes the function again; no error."""

Interrupted = StepInterruptedError
"""What a retry strategy is given for an attempt of an at-most-once step whose sandbox was lost."""

# The SDK logs every failed attempt with a traceback, at error level; attempts are in the history.
logging.getLogger("aws_durable_execution_sdk_python.operation").setLevel(logging.CRITICAL)


class Abandoned(BaseException):
    """Leaves the body of a step whose result is not needed any more; nothing is recorded then."""


class Mismatch(Exception):
    """The history has another operation in this place."""


class Failure(DurableOperationError):
    """What leaves a step's body, or the handler, so that an error is recorded: its type for people, its data for us.

    An instance is of a subclass with the original's module and name, as the SDK records those of the class.
    """

    original: BaseException | None = None

    @classmethod
    def of(cls, name: str, message: str, data: str, original: BaseException | None = None) -> Failure:
        """Return a failure that shows as *name*, such as ``shop.errors:Declined``."""
        module, _, qualname = name.partition(":")
        kind = type(qualname.rpartition(".")[2], (cls,), {"__module__": module, "__qualname__": qualname})
        failure: Failure = kind(message=message, data=data)
        failure.original = original
        return failure


def _recorded(found: Operation) -> Recorded:
    status, step, wait, callback = found.status, found.step_details, found.wait_details, found.callback_details
    ended = status in _ENDED
    details = step or callback
    error = details.error if details is not None else None
    wakes = None
    if not ended:
        if wait is not None:
            wakes = wait.scheduled_end_timestamp
        elif step is not None and status is OperationStatus.PENDING:
            wakes = step.next_attempt_timestamp
    return Recorded(
        kind=found.operation_type.value,
        name=found.name or "",
        label=found.sub_type or "",
        ended=ended,
        at=0 if found.end_timestamp is None else int(found.end_timestamp.timestamp() * 1000),
        payload=details.result if details is not None else None,
        fault=None if error is None else Fault(error.type or "", error.message or "", error.data),
        timed_out=status is OperationStatus.TIMED_OUT,
        wakes=None if wakes is None else wakes.timestamp(),
        put_off=status is OperationStatus.PENDING,
        callback=None if callback is None else callback.callback_id,
    )


@frozen
class Journal:
    """The record of one durable execution, as one invocation of the function sees it and adds to it.

    Every operation is named by a key of ours. What one gave is read, the first time as on replay.
    """

    context: DurableContext
    _ended: dict[str, Recorded] = field(factory=dict, init=False)

    # -- reading -----------------------------------------------------------------

    @property
    def arn(self) -> str:
        """The execution's ARN."""
        return self.context.execution_context.durable_execution_arn

    @property
    def started_at(self) -> datetime:
        """When the execution began; in whole milliseconds, as the service sends no more."""
        operation = self.context.state.get_execution_operation()
        began = None if operation is None else operation.start_timestamp
        return datetime.fromtimestamp(0 if began is None else int(began.timestamp() * 1000) / 1000, UTC)

    def seconds_left(self) -> float | None:
        """Return the seconds that this invocation has left; None: unknown."""
        asked = getattr(self.context.lambda_context, "get_remaining_time_in_millis", None)
        return None if asked is None else asked() / 1000

    def recorded(self) -> dict[str, bool]:
        """Return the ids of the operations so far, without our own, and which of them have ended."""
        return {
            id_: operation.status in _ENDED
            for id_, operation in self.context.state.operations.items()
            if operation.operation_type is not OperationType.EXECUTION and not (operation.name or "").startswith(OURS)
        }

    def read(self, key: str) -> Recorded | None:
        """Return an operation as it is recorded; None: it is not."""
        if (known := self._ended.get(key)) is not None:
            return known
        found = self.context.state.get_checkpoint_result(operation_id(key), claim_end_hook=False).operation
        if found is None:
            return None
        record = _recorded(found)
        if record.ended:
            self._ended[key] = record
        return record

    # -- requesting --------------------------------------------------------------------

    def step(
        self,
        key: str,
        name: str,
        body: Callable[[int], str],
        *,
        label: str | None = None,
        retry: Callable[[BaseException, int], float | None] = lambda _, __: None,
        at_most_once: bool = False,
    ) -> None:
        """Execute a step; returns once it has ended.

        Args:
            key: Which operation it is.
            name: What it is called, in printable ASCII.
            body: Called with the number of the attempt, from 1; returns the payload.
            label: A text that has to be the same on replay.
            retry: Given an error and the number of the attempt that failed, returns seconds to pause or None.
            at_most_once: An attempt whose sandbox was lost is not repeated; *retry* is called, with `Interrupted`.

        Raises:
            Suspended: Its next attempt is due later.
            Mismatch: Another operation is recorded there.
        """

        def attempt(context: StepContext) -> str:
            return body(context.attempt)

        def strategy(error: Exception, attempts: int) -> RetryDecision:
            original = error.original if isinstance(error, Failure) and error.original is not None else error
            pause = retry(original, attempts)
            if pause is None:
                return RetryDecision.no_retry()
            return RetryDecision.retry(Duration(min(MAX_WAIT, max(1, -int(-pause // 1)))))

        config = StepConfig(
            retry_strategy=strategy,
            serdes=_AS_IT_IS,
            sub_type=label,
            step_semantics=(
                StepSemantics.AT_MOST_ONCE_PER_RETRY if at_most_once else StepSemantics.AT_LEAST_ONCE_PER_RETRY
            ),
        )
        self._request(key, lambda context: context.step(attempt, name=name, config=config))

    def wait(self, key: str, name: str, seconds: int) -> None:
        """Wait; raises `Suspended` until the time has come, and `Mismatch`."""
        pause = Duration(min(MAX_WAIT, max(1, seconds)))
        self._request(key, lambda context: context.wait(pause, name=name))

    def callback(self, key: str, name: str, seconds: int | None) -> None:
        """Create a callback that expires after *seconds*; raises `Mismatch`."""
        timeout = Duration(0 if seconds is None else min(MAX_CALLBACK, max(1, seconds)))
        config = CallbackConfig(timeout=timeout, serdes=_AS_IT_IS)
        self._request(key, lambda context: context.create_callback(name=name, config=config))

    def refresh(self) -> None:
        """Read what ended since the last request; costs a call and no operation."""
        self.context.state.create_checkpoint()

    def _request(self, key: str, request: Callable[[DurableContext], Any]) -> None:
        try:
            request(self.context.create_child_context(key, is_virtual=True))
        except NonDeterministicExecutionError as error:
            raise Mismatch(str(error)) from error
        except DurableOperationError:
            pass  # that is its answer, and is read like any other
