"""What a workflow may use besides steps: sleep, time, chance, and waiting for several things in a fixed order."""

from __future__ import annotations

import asyncio
import math
import uuid as _uuid
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Self, TypeVar

from pyworkflow.authoring.context import StepContext, in_workflow, step_context, workflow_context
from pyworkflow.config.durations import seconds
from pyworkflow.errors import ConfigError, WorkflowError

T = TypeVar("T")

_MAX_TEXT = 1000


async def sleep(duration: float | str | timedelta | datetime) -> None:
    """Sleep; in a durable run the wake time is stored, and the sleep survives crashes and costs nothing.

    Args:
        duration: Seconds, ``"1h30m"``, a `timedelta`, or the aware `datetime` to wake at. What is zero, negative or
            past returns at once. There is no upper bound but the year 9999.

    Raises:
        ConfigError: *duration* is none of these.
    """
    delay, until = when(duration)
    context = workflow_context.get()
    if context is not None and step_context.get() is None:
        await context.sleep(delay, until)
    elif until is not None:
        from pyworkflow.clock import sleep_until  # outside workflows only: most who declare workflows never need it

        await sleep_until(until)
    else:
        await asyncio.sleep(max(0.0, delay or 0.0))


def when(duration: float | str | timedelta | datetime) -> tuple[float | None, datetime | None]:
    """Return how many seconds that is, or until when.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(duration, datetime):
        if duration.tzinfo is None:
            msg = f"{duration.isoformat()} is a naive datetime; say in which time zone, e.g. tzinfo=UTC"
            raise ConfigError(msg)
        try:
            return None, duration.astimezone(UTC)
        except OverflowError:
            msg = f"{duration.isoformat()} is not a time from the year 1 to 9999 in UTC"
            raise ConfigError(msg) from None
    return seconds(duration), None


def now() -> datetime:
    """Return the time, aware, in UTC; in a durable run that of the last event, so that replay sees the same."""
    context = workflow_context.get()
    return datetime.now(UTC) if context is None or step_context.get() is not None else context.now()


def random() -> float:
    """Return a random number from 0 up to, and without, 1; in a durable run the same one on every replay."""
    return in_workflow("random").chance().random()


def uuid4() -> _uuid.UUID:
    """Return a random UUID; in a durable run the same one on every replay. Not for secrets."""
    return _uuid.UUID(int=in_workflow("uuid4").chance().getrandbits(128), version=4)


def set_attributes(**attributes: str | float | bool) -> None:
    """Say something of this run that people can see, and search for by `list_runs`; what was said before stays.

    Args:
        attributes: Texts of up to 1000 characters, numbers, or booleans.

    Raises:
        ConfigError: One is something else.
    """
    context = in_workflow("set_attributes")
    for name, value in attributes.items():
        if not isinstance(value, str | int | float) or (isinstance(value, str) and len(value) > _MAX_TEXT):
            msg = f"the attribute {name!r} of a run is a text of up to {_MAX_TEXT} characters, a number or a boolean"
            raise ConfigError(msg)
        if isinstance(value, float) and not math.isfinite(value):
            msg = f"the attribute {name!r} of a run is {value}; give a finite number"
            raise ConfigError(msg)
    context.describe(dict(attributes))


def set_status(text: str) -> None:
    """Say in a few words what this run is doing; the same as ``set_attributes(status=text)``."""
    set_attributes(status=text)


def patched(change: str) -> bool:
    """Whether this run knows *change*, a name of yours for a change of the workflow's code.

    True for runs that come to this place for the first time, and recorded for them; False for runs that went past it
    before the code was changed. Put the old code into the other branch; once no such run is left, delete the branch
    and the call.
    """
    return in_workflow("patched").patched(change)


async def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """End this run and go on as a new one of the same workflow, with these arguments and an empty history.

    For workflows that go on for ever. What the run waits for is abandoned; whoever waits for its result gets that of
    the last run of the chain.

    Raises:
        WorkflowError: It was called outside a workflow, or in a task of one.
    """
    in_workflow("continue_as_new").continue_as_new(args, kwargs)


def current_step() -> StepContext:
    """Return the attempt of the step that this code belongs to.

    Raises:
        WorkflowError: It does not belong to any.
    """
    context = step_context.get()
    if context is None:
        msg = "current_step() was called outside a step that a workflow called"
        raise WorkflowError(msg)
    return context


async def wait(
    aws: Iterable[asyncio.Future[T]],
    *,
    timeout: float | None = None,  # noqa: ASYNC109 -- as in asyncio
    return_when: str = asyncio.ALL_COMPLETED,
) -> tuple[list[asyncio.Future[T]], list[asyncio.Future[T]]]:
    """Wait as `asyncio.wait` does, but in a fixed order; returns a list of the done and one of the pending ones.

    Args:
        aws: Tasks or futures; their order is kept.
        timeout: Seconds after which to return what is done by then.
        return_when: ``FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED``, from `asyncio`.

    Raises:
        ValueError: There is nothing to wait for, or *return_when* is none of the three.
        TypeError: Something is a coroutine; make a task of it with `asyncio.create_task`.
    """
    futures = list(dict.fromkeys(aws))
    if any(asyncio.iscoroutine(future) for future in futures):
        msg = "wait() takes tasks and futures; wrap coroutines by asyncio.create_task()"
        raise TypeError(msg)
    if not futures:
        msg = "wait() was given nothing to wait for"
        raise ValueError(msg)
    if return_when not in {asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED}:
        msg = f"return_when={return_when!r} is none of FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED"
        raise ValueError(msg)
    changed = asyncio.Event()

    def notice(_: asyncio.Future[T]) -> None:
        if _enough(futures, return_when):
            changed.set()

    for future in futures:
        future.add_done_callback(notice)
    try:
        if not _enough(futures, return_when):
            async with asyncio.timeout(timeout):
                await changed.wait()
    except TimeoutError:
        pass
    finally:
        for future in futures:
            future.remove_done_callback(notice)
    return [future for future in futures if future.done()], [future for future in futures if not future.done()]


def _enough(futures: Sequence[asyncio.Future[Any]], return_when: str) -> bool:
    done = [future for future in futures if future.done()]
    if len(done) == len(futures):
        return True
    if return_when == asyncio.FIRST_EXCEPTION:
        return any(not future.cancelled() and future.exception() is not None for future in done)
    return return_when == asyncio.FIRST_COMPLETED and bool(done)


class as_completed(Iterator[Awaitable[T]]):  # noqa: N801 -- reads like the asyncio function it stands for
    """Iterate over awaitables in the order in which they end, as `asyncio.as_completed` does, the same on every replay.

    Works with ``for`` (each item is to be awaited) and with ``async for`` (each item is the ended task).

    Args:
        aws: Coroutines, tasks or futures; they are started in the order given.
        timeout: Seconds for all of them; then the next item raises `TimeoutError`.
    """

    def __init__(self, aws: Iterable[Awaitable[T]], *, timeout: float | None = None) -> None:
        self._ended: asyncio.Queue[asyncio.Future[T] | None] = asyncio.Queue()
        tasks = [asyncio.ensure_future(aw) for aw in aws]
        self._left = len(tasks)
        for task in tasks:
            task.add_done_callback(self._ended.put_nowait)
        loop = asyncio.get_running_loop()
        self._timer = None if timeout is None else loop.call_later(timeout, self._ended.put_nowait, None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Awaitable[T]:
        if not self._left:
            raise StopIteration
        self._left -= 1
        return self._result()

    async def _result(self) -> T:
        return (await self._next())[0].result()

    async def _next(self) -> tuple[asyncio.Future[T]]:
        ended = await self._ended.get()
        if ended is None:
            self._ended.put_nowait(None)
            raise TimeoutError
        if not self._left and self._timer is not None:
            self._timer.cancel()
        return (ended,)

    def __aiter__(self) -> AsyncIterator[asyncio.Future[T]]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[asyncio.Future[T]]:
        while self._left:
            self._left -= 1
            yield (await self._next())[0]
