"""One call of a step, as the SDK executes it: its function, its result as a payload, its error as a record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import frozen

from pyworkflow.authoring.context import StepContext, step_context
from pyworkflow.codec.exceptions import record_of
from pyworkflow.engine.step_runner import attempt, is_being_thrown_away
from pyworkflow.events import CallStep, Plain
from pyworkflow_aws.durable.execution.sdk import Abandoned, Failure
from pyworkflow_aws.error_records import MESSAGE_LIMIT, error_data
from pyworkflow_aws.step_loop import Work, step_threads

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Step
    from pyworkflow.codec import Codec


@frozen
class Call:
    """A step that a run called.

    Attributes:
        work: Its execution, by which it is stopped.
        write: Turns its result into a payload.
    """

    step: Step[..., Any]
    codec: Codec
    command: CallStep
    run_id: str
    work: Work
    write: Callable[[Plain], str]

    def attempt(self, number: int) -> str:
        """Call the function; return the payload of its result.

        Raises:
            Failure: It failed.
            Abandoned: Its result is not needed any more.
        """
        context = StepContext(self.run_id, self.step.name, number, self.command.op)
        options = self.step.options
        here = not self.step.is_async and options.timeout is None and options.heartbeat is None
        try:
            value = self._on_this_thread(context) if here else self.work.run(lambda: self._on_the_loop(context))
            payload = self.write(value)
        except Failure:
            raise
        except asyncio.CancelledError:
            raise Abandoned from None
        except Exception as error:
            if self.work.stopped:
                raise Abandoned from None
            raise failure_of(error) from error
        if self.work.stopped:
            raise Abandoned
        return payload

    def _on_this_thread(self, context: StepContext) -> Plain:
        args, kwargs = self.step.signature_for(self.codec).decode_call(self.command.args, self.command.kwargs)
        self.work.on_stop = lambda: setattr(context, "cancelled", True)
        token = step_context.set(context)
        try:
            return self.step.signature_for(self.codec).encode_result(self.step.function(*args, **kwargs))
        except StopIteration as stop:  # no future takes one, so it becomes what it does in a coroutine (PEP 479)
            raise failure_of(RuntimeError("the step raised StopIteration")) from stop
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            raise failure_of(error) from error  # a thread cannot be cancelled, so the function itself has raised it
        finally:
            step_context.reset(token)

    async def _on_the_loop(self, context: StepContext) -> Plain:
        args, kwargs = self.step.signature_for(self.codec).decode_call(self.command.args, self.command.kwargs)
        task = asyncio.current_task()
        try:
            return self.step.signature_for(self.codec).encode_result(
                await attempt(self.step, args, kwargs, context, step_threads.executor())
            )
        except asyncio.CancelledError as error:
            if task is not None and task.cancelling():
                raise
            raise failure_of(error) from error
        except BaseException as error:
            if isinstance(error, Exception) or is_being_thrown_away(error):
                raise
            raise failure_of(error) from error  # else it would end the loop of all steps


def now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


def failure_of(error: BaseException) -> Failure:
    """Return what has to leave the function, or a step, so that *error* is recorded and can be rebuilt."""
    record = record_of(error, retryable=False)
    return Failure.of(record.type, record.message[:MESSAGE_LIMIT], error_data(record, now()), error)
