"""Runs steps: one attempt, from encoded arguments to the event that records its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import datetime
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from attrs import define, field

from pyworkflow.authoring.context import StepContext, step_context
from pyworkflow.codec.exceptions import record_of
from pyworkflow.config.durations import seconds
from pyworkflow.errors import FatalError, NotInWorkflow, RetryableError, RunBlocked, StepTimeout, Unstorable
from pyworkflow.events import CallStep, Completed, Failed, Retrying, later

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry, Step
    from pyworkflow.clock import Clock
    from pyworkflow.codec import Codec
    from pyworkflow.engine.host import Host
    from pyworkflow.model import StepCall
    from pyworkflow.ports import RetryPolicy

logger = logging.getLogger(__name__)

_NEVER_RETRIED = (FatalError, Unstorable, NotInWorkflow)


@define(eq=False)
class StepThreads:
    """The threads that sync steps run in: at most *limit* of them, made when the first sync step begins."""

    limit: int
    _pool: ThreadPoolExecutor | None = field(default=None, init=False)

    def executor(self) -> Executor:
        """Return the pool."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.limit, "pyworkflow-step")
        return self._pool

    def close(self) -> None:
        """Begin no more sync steps; those that run cannot be interrupted. The next use makes a new pool."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


@define(eq=False)
class StepRunner:
    """Runs the steps of durable runs.

    Args:
        policy: Returns the retry policy and the number of retries of a step.
        threads: Where sync steps run.
        app: The application that the functions of the package stand for in a step.
    """

    registry: Registry
    codec: Codec
    clock: Clock
    policy: Callable[[Step[..., Any]], tuple[RetryPolicy, int]]
    threads: StepThreads
    app: Host | None = None

    async def run(self, run_id: str, op: int, call: CallStep | StepCall, number: int) -> Completed | Failed | Retrying:
        """Run attempt *number* of operation *op*, a call of a step.

        Raises:
            RunBlocked: The step is not known in this process.
        """
        step = self.registry.steps.get(call.name)
        if step is None:
            msg = f"step {call.name!r} is not known in this process; import the module that declares it"
            raise RunBlocked(msg)
        try:
            signature = self.codec.signatures.get(step) or step.signature_for(self.codec)
            args, kwargs = call.args, call.kwargs
            if type(args) is not list or type(kwargs) is not dict or not signature.keeps_call(args, kwargs):
                args, kwargs = signature.decode_call(args, kwargs)
            context = StepContext(run_id, step.name, number, op, app=self.app)
            threads = None if step.is_async else self.threads.executor()
            value = await attempt(step, args, kwargs, context, threads)
            if not signature.keeps_result(value):
                value = signature.encode_result(value)
        except asyncio.CancelledError as cancelled:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            return self._failed(step, op, number, cancelled)
        except BaseException as error:
            if is_being_thrown_away(error):
                raise
            return self._failed(step, op, number, error)
        return Completed(self.clock.now(), op, value)

    def _failed(self, step: Step[..., Any], op: int, number: int, error: BaseException) -> Failed | Retrying:
        now = self.clock.now()
        policy, retries = self.policy(step)
        delay = next_delay(policy, retries, number, error, now)
        if delay is None:
            return Failed(now, op, record_of(error, retryable=False))
        return Retrying(now, op, number, record_of(error), later(now, delay))


async def attempt(
    step: Step[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], context: StepContext, threads: Executor | None
) -> Any:
    """Call the function of *step* once: on this loop if it is async, else in one of *threads*.

    Raises:
        StepTimeout: It took longer than the step's timeout.
        Exception: Whatever the function raises.
    """
    token = step_context.set(context)  # hides the workflow's
    try:
        if step.is_direct:
            return await step.function(*args, **kwargs)
        if step.options.timeout is None and step.options.heartbeat is None:
            return await _call(step, args, kwargs, threads)
        return await _in_time(step, args, kwargs, context, threads)
    except asyncio.CancelledError:
        context.cancelled = True
        raise
    finally:
        step_context.reset(token)


async def _in_time(
    step: Step[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], context: StepContext, threads: Executor | None
) -> Any:
    timeout, heartbeat = step.options.timeout, step.options.heartbeat
    loop = asyncio.get_running_loop()
    call: Awaitable[Any]
    deadline: float | None
    if step.is_async and heartbeat is None and timeout is not None:
        deadline, call = loop.time() + timeout, step.function(*args, **kwargs)
        if isinstance(call, CoroutineType):  # most are done before they wait for anything, and need no timer
            try:
                call = _Begun(call, call.send(None))
            except StopIteration as ended:
                return ended.value
    else:
        deadline, call = None if timeout is None else loop.time() + timeout, _call(step, args, kwargs, threads)
    limit, pulse = asyncio.timeout_at(deadline), asyncio.timeout(heartbeat)

    def beat() -> None:
        if heartbeat is not None and not pulse.expired():
            with suppress(RuntimeError):  # the attempt has ended meanwhile
                pulse.reschedule(loop.time() + heartbeat)

    context.on_heartbeat = lambda: _on_loop(loop, beat)
    try:
        async with limit, pulse:
            return await call
    except TimeoutError:
        if limit.expired():
            msg = f"took longer than its timeout of {timeout:g} s"
        elif pulse.expired():
            msg = f"gave no heartbeat for {heartbeat:g} s"
        else:
            raise  # the function's own
        context.cancelled = True
        raise StepTimeout(f"step {step.name!r}, attempt {context.attempt}, {msg}") from None


class _Begun:
    """The rest of a coroutine that has been begun by hand and now waits for *awaited*."""

    def __init__(self, call: CoroutineType[Any, Any, Any], awaited: Any) -> None:
        self._call = call
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        call, awaited = self._call, self._awaited
        while True:
            try:
                try:
                    sent = yield awaited
                except GeneratorExit:
                    call.close()
                    raise
                except BaseException as error:  # noqa: BLE001 -- whatever it is, it is for the coroutine
                    awaited = call.throw(error)
                else:
                    awaited = call.send(sent)
            except StopIteration as ended:
                return ended.value


def _on_loop(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits for the attempt any more
        loop.call_soon_threadsafe(function)


def is_being_thrown_away(error: BaseException) -> bool:
    """Whether *error* is that of a coroutine which nobody will resume, and not one that a step has raised."""
    if not isinstance(error, GeneratorExit):
        return False
    try:
        return asyncio.current_task() is None
    except RuntimeError:  # no loop runs any more
        return True


async def _call(step: Step[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], threads: Executor | None) -> Any:
    if step.is_async:
        return await step.function(*args, **kwargs)
    call = partial(copy_context().run, step.function, *args, **kwargs)
    result = await asyncio.get_running_loop().run_in_executor(threads, _caught, call)
    if type(result) is _Raised:
        try:
            raise result.error
        finally:
            del result  # its traceback holds this frame
    return result


@define
class _Raised:
    """What a sync step raised: futures take neither StopIteration nor GeneratorExit, so it comes as a result."""

    error: BaseException


def _caught(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 -- it is raised again
        return _Raised(error)


def next_delay(policy: RetryPolicy, retries: int, number: int, error: BaseException, now: datetime) -> float | None:
    """Return the seconds to wait after failed attempt *number*, or None: there is no other attempt."""
    if isinstance(error, _NEVER_RETRIED) or number > retries:
        return None
    try:
        if isinstance(error, RetryableError) and error.retry_after is not None:
            after = error.retry_after
            wait = (after - now).total_seconds() if isinstance(after, datetime) else seconds(after)
            return max(0.0, wait)
        delay = policy.delay(number, error)
        return None if delay is None else max(0.0, delay.total_seconds())
    except Exception:  # a policy of somebody else's may raise anything
        logger.exception("no delay can be had for attempt %s, so the step is not tried again after %r", number, error)
        return None
