"""Just enough of an event loop to run one workflow the same way every time."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import UTC, datetime, timedelta
from random import Random
from threading import get_ident
from types import FrameType, GeneratorType
from typing import Any, NoReturn, Protocol, TypeVar

from pyworkflow.errors import NotInWorkflow
from pyworkflow.replay.mismatch import ends_its_process

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TASKS = vars(asyncio.tasks)
_WAIT = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]  # what asyncio.wait() awaits
_WAIT_FOR = asyncio.wait_for.__code__
if sys.version_info < (3, 13):
    _AS_COMPLETED = asyncio.as_completed.__code__
else:
    _AS_COMPLETED = asyncio.tasks._AsCompletedIterator.__init__.__code__

_LONGEST = timedelta.max.total_seconds()
"""What a timer of more seconds is recorded with: JSON has no infinity."""

_FUTURES = 1 << 19
"""Where the order of futures begins: a set with tasks and futures has the tasks first."""


class Lane:
    """Where in the tree of a workflow's tasks something was requested; the same on every replay and every Python."""

    __slots__ = ("_chance", "children", "ops", "path")

    def __init__(self, path: tuple[int, ...] = ()) -> None:
        self.path = path
        self.ops = 0
        self.children = 0
        self._chance: Random | None = None

    def child(self) -> Lane:
        """Return the lane of the next task started from this one."""
        self.children += 1
        return Lane((*self.path, self.children))

    def chance(self, seed: str) -> Random:
        """Return the lane's own source of random values."""
        if self._chance is None:
            self._chance = Random(f"{seed}/{self.path}")  # noqa: S311 -- replayed, not secret
        return self._chance


class WorkflowFuture(asyncio.Future[Any]):
    """A future that hashes by the order in which its run came to hash it, and not by its address.

    So a set of futures and tasks has one order, live and on every replay. `asyncio.wait`, `asyncio.as_completed` and
    `asyncio.TaskGroup` keep what they wait for in sets, and so do users
    (``test_what_is_kept_in_sets_has_the_same_order_on_every_replay``).
    """

    _order: int

    def __hash__(self) -> int:
        try:
            return self._order
        except AttributeError:
            self._order = order = self.get_loop().order_of_future()  # type: ignore[attr-defined]  # it is a ReplayLoop
            return order  # type: ignore[no-any-return]


class WorkflowTask(asyncio.Task[Any]):
    """A task that knows its lane and its context, and hashes by the order in which its run created it."""

    lane: Lane
    context: Context
    _order: int

    def __hash__(self) -> int:
        try:
            return self._order
        except AttributeError:  # asyncio hashes a task while it is created
            self._order = order = self.get_loop().order_of_task  # type: ignore[attr-defined]  # it is a ReplayLoop
            return order  # type: ignore[no-any-return]


class TimerOwner(Protocol):
    """What turns the loop's timers into something durable."""

    def start_timer(self, handle: asyncio.TimerHandle, delay: float) -> None:
        """Have `ReplayLoop.fire` called with *handle* after *delay* seconds."""

    def stop_timer(self, handle: asyncio.TimerHandle) -> None:
        """Forget *handle*; it was cancelled."""


class ReplayLoop(asyncio.AbstractEventLoop):
    """Runs what is ready, first in, first out. There is no clock and no I/O.

    So the order in which a workflow's tasks run follows from its code and its history alone. What needs more is refused
    (``test_a_workflow_that_does_what_belongs_into_a_step_gets_a_clear_error``).

    Attributes:
        owner: What keeps its timers; None once it is closed: then they go nowhere.
        now: The time, which whoever runs it sets.
        main: The first task: the workflow itself, which is as good as all that the loop is for.
        root: The lane of that task.
        drops: Asynchronous generators that are left early are dropped at their next ``await``: rules of 0.1.0.
        finishing: The tasks that run the rest of asynchronous generators that were left early.
        base: The order of what hashes by its order begins here. It follows from the run's seed: all tasks of a process
            are in one set of asyncio's, where those of thousands of runs would have the same few hashes.
    """

    base = 0
    drops = False

    def __init__(self) -> None:
        self.owner: TimerOwner | None = None
        self.now = datetime.fromtimestamp(0, UTC)
        self.main: WorkflowTask | None = None
        self.root = Lane()
        self._ready: deque[asyncio.Handle] = deque()
        self.finishing: set[WorkflowTask] = set()
        self._tasks: set[WorkflowTask] = set()
        self._created = 0
        self._hashed = _FUTURES
        self._batch: tuple[FrameType, dict[int, WorkflowTask]] | None = None

    def run(self, items: Iterable[T], act: Callable[[T], None]) -> None:
        """Call *act* with one item after the other, and run what is ready after each.

        Meanwhile this is the running loop of the thread, with no current task: the worker's own loop and task, which
        called, are as they were afterwards (``test_feeding_inside_a_running_loop_leaves_it_as_it_was``). Its hooks for
        asynchronous generators are replaced too, or it would close those of the workflow when it is closed itself.
        """
        outer = asyncio._get_running_loop()
        task = None if outer is None else asyncio.current_task(outer)
        if task is not None:
            asyncio._leave_task(outer, task)  # type: ignore[arg-type]
        asyncio._set_running_loop(self)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, self._left)
        ready = self._ready
        try:
            for item in items:
                act(item)
                while ready:
                    handle = ready.popleft()
                    if not handle._cancelled:
                        handle._run()
        except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets just these two through
            raise ends_its_process(error) from error
        finally:
            asyncio._set_running_loop(outer)
            sys.set_asyncgen_hooks(*hooks)
            if task is not None:
                asyncio._enter_task(outer, task)  # type: ignore[arg-type]

    def lane(self) -> Lane:
        """Return the lane of the task that is running, or the root where it is a bare callback that runs."""
        task = asyncio.current_task(self)
        return task.lane if isinstance(task, WorkflowTask) else self.root

    def fire(self, handle: asyncio.TimerHandle) -> None:
        """Make a timer ready whose time has come."""
        self._ready.append(handle)

    def close(self) -> None:
        """Unwind every coroutine now, so that garbage collection does not do it at some other time."""
        self.drops = True
        unwound: set[WorkflowTask] = set()
        while left := [task for task in self._tasks if not task.done() and task not in unwound]:
            unwound.update(left)  # a ``finally`` block may have created more
            self.run([left], self._unwind)
        self._tasks.clear()
        self.finishing.clear()
        self._ready.clear()
        self._batch = None
        self.owner = self.main = None  # they hold the loop, and only the garbage collector would free the two

    def _left(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Run the rest of an asynchronous generator that was left early, in a task of its own, as asyncio does.

        One that the garbage collector found is dropped: when that comes by does not follow from history.
        """
        if _collecting == get_ident() or asyncio._get_running_loop() is not self:
            return
        if self.drops:
            with suppress(BaseException):
                generator.aclose().__await__().send(None)
            return
        task = self.create_task(generator.aclose())
        self.finishing.add(task)
        task.add_done_callback(self.finishing.discard)

    def _unwind(self, tasks: Sequence[WorkflowTask]) -> None:
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            try:
                task.context.run(task.get_coro().close)  # as itself, or its steps would be plain calls
            except BaseException:
                logger.debug("a workflow raised while its machine was closed", exc_info=True)
        for task in tasks:
            task.cancel()  # it and what it waits for hold each other
        self._ready.clear()  # a closed coroutine is not resumed

    # -- what asyncio asks of a loop ---------------------------------------------

    def create_future(self) -> WorkflowFuture:
        if (caller := sys._getframe(1)).f_code is _WAIT:
            _check_order(caller.f_locals["fs"])
        return WorkflowFuture(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> WorkflowTask:  # type: ignore[override]
        asked_by = _asked_by()
        if asked_by is not None and asked_by.f_code is not _WAIT_FOR:
            return self._of_batch(asked_by, coro)
        options.pop("eager_start", None)
        context = options.pop("context", None) or copy_context()
        parent = self.lane()
        if asked_by is None:
            self._created += 1
        task = WorkflowTask(coro, loop=self, context=context, **options)
        task.context = context
        if self.main is None:
            self.main, task.lane = task, self.root
        else:
            # Python 3.11 wraps what wait_for() is given into a task of its own, later versions await it in place.
            task.lane = parent.child() if asked_by is None else parent
            task.add_done_callback(self._tasks.discard)
        self._tasks.add(task)
        return task

    def _of_batch(self, asked_by: FrameType, coro: Coroutine[Any, Any, Any]) -> WorkflowTask:
        """Return the task of *coro*, one of those that `asyncio.as_completed` was given.

        It makes a set of them and asks for their tasks in the order of that, which is one of addresses. So the first
        time that it asks, the tasks of all are created in the order in which they were given.
        """
        if self._batch is None or self._batch[0] is not asked_by:
            given = asked_by.f_locals["fs" if "fs" in asked_by.f_locals else "aws"]
            if not isinstance(given, Sequence):
                msg = (
                    "asyncio.as_completed() has to be given a list in a workflow; only a list keeps its order on replay"
                )
                raise NotInWorkflow(msg)
            self._batch = asked_by, {}
            for one in {id(one): one for one in given}.values():
                if not isinstance(one, asyncio.Future):
                    self._batch[1][id(one)] = self.create_task(one if asyncio.iscoroutine(one) else _wrapped(one))
        tasks, key = self._batch[1], id(coro)
        if key not in tasks:  # asyncio has made a coroutine, a generator before Python 3.12, of another awaitable
            frame = coro.gi_frame if isinstance(coro, GeneratorType) else coro.cr_frame  # type: ignore[attr-defined]
            key = id(frame.f_locals["awaitable"])
            coro.close()
        task = tasks.pop(key)
        if not tasks:
            self._batch = None
        return task

    @property
    def order_of_task(self) -> int:
        """The order of the task that was created last."""
        return self.base + self._created

    def order_of_future(self) -> int:
        """Return the order of the next future that is hashed for the first time."""
        self._hashed += 1
        return self.base + self._hashed

    def call_soon(  # type: ignore[override]  # typeshed ties callback and args together
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if math.isnan(delay):
            raise ValueError("Invalid delay: NaN (not a number)")  # as asyncio words it
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        if delay <= 0:
            self._ready.append(handle)
        elif self.owner is not None:
            self.owner.start_timer(handle, min(delay, _LONGEST))
        return handle

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if self.owner is not None:
            self.owner.stop_timer(handle)

    def time(self) -> float:
        return self.now.timestamp()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        logger.debug("%s", context.get("message", "an error in a workflow's loop"), exc_info=context.get("exception"))

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    get_debug = staticmethod(bool)  # False, without a Python frame: each future and each handle calls it

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False


_collecting = 0
"""The thread in which the garbage collector is at work; 0: none."""


def _collects(phase: str, _: dict[str, int]) -> None:
    global _collecting  # noqa: PLW0603 -- there is one collector a process
    _collecting = get_ident() if phase == "start" else 0


gc.callbacks.append(_collects)


def _asked_by() -> FrameType | None:
    """Return the frame of the function of asyncio that asks for a task and needs more than the next lane, if any."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals is _TASKS:
        if frame.f_code is _AS_COMPLETED or (frame.f_code is _WAIT_FOR and sys.version_info < (3, 12)):
            return frame
        frame = frame.f_back
    return None


async def _wrapped(awaitable: Any) -> Any:
    return await awaitable


def _check_order(waited_for: Iterable[Any]) -> None:
    for one in waited_for:
        if not isinstance(one, WorkflowFuture | WorkflowTask):
            msg = (
                f"asyncio.wait() was given a {type(one).__name__}, which has no order in a set on replay; wait for a "
                "task that awaits it, made by asyncio.create_task()"
            )
            raise NotInWorkflow(msg)


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        msg = (
            f"a workflow cannot use the loop's {name}(): it would not be replayed after a crash; put this into a @step"
        )
        raise NotInWorkflow(msg)

    return refuse


for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(ReplayLoop):
        setattr(ReplayLoop, _name, _refusing(_name))
