"""Just enough of an event loop to run one workflow the same way every time."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from datetime import UTC, datetime
from random import Random
from typing import Any, NoReturn, Protocol

from pyworkflow.errors import NotInWorkflow

logger = logging.getLogger(__name__)

# These iterate over sets, so their order differs from run to run and from Python to Python.
_UNORDERED = {
    "_wait.<locals>._on_completion": "asyncio.wait() works on a set, so its order changes on replay; "
    "use pyworkflow.wait()",
    "as_completed.<locals>._on_completion": "asyncio.as_completed() works on a set, so its order changes on replay; "
    "use pyworkflow.as_completed()",
    "_AsCompletedIterator._handle_completion": "asyncio.as_completed() works on a set, so its order changes on replay; "
    "use pyworkflow.as_completed()",
}

# Python 3.11 wraps what wait_for() is given into a task of its own, later versions await it in place.
_WAIT_FOR = asyncio.wait_for.__code__ if sys.version_info < (3, 12) else None


class Lane:
    """Where in the tree of a workflow's tasks something was asked for; the same on every replay and every Python."""

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


class WorkflowTask(asyncio.Task[Any]):
    """A task that knows its lane and its context, and refuses to be waited for in random order."""

    lane: Lane
    context: Context

    def add_done_callback(self, fn: Callable[..., Any], /, *, context: Context | None = None) -> None:
        """As in `asyncio.Task`.

        Raises:
            NotInWorkflow: It is asyncio.wait() or asyncio.as_completed() that listens.
        """
        if refusal := _UNORDERED.get(getattr(fn, "__qualname__", "")):
            raise NotInWorkflow(refusal)
        super().add_done_callback(fn, context=context)


class _Handle(asyncio.Handle):
    """A handle that does not ask its loop whether it debugs: that takes longer than all else."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], loop: ReplayLoop, context: Context | None
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None


class TimerOwner(Protocol):
    """What turns the loop's timers into something durable."""

    def now(self) -> datetime:
        """Return the time that the loop's clock shows."""

    def start_timer(self, handle: asyncio.TimerHandle, delay: float) -> None:
        """Have `ReplayLoop.fire` called with *handle* after *delay* seconds."""

    def stop_timer(self, handle: asyncio.TimerHandle) -> None:
        """Forget *handle*; it was cancelled."""


class _Nobody:
    """Owns the loops of workflows that were put away; their timers go nowhere."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(0, UTC)

    def start_timer(self, handle: asyncio.TimerHandle, delay: float) -> None:
        pass

    def stop_timer(self, handle: asyncio.TimerHandle) -> None:
        pass


_NOBODY = _Nobody()


class ReplayLoop(asyncio.AbstractEventLoop):
    """Runs what is ready, first in, first out. There is no clock and no I/O: time is what its owner says it is."""

    def __init__(self, owner: TimerOwner) -> None:
        self._owner: TimerOwner = owner
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: set[WorkflowTask] = set()
        self.root = Lane()
        self._outer: asyncio.AbstractEventLoop | None = None
        self._outer_task: asyncio.Task[Any] | None = None
        self._outer_hooks: tuple[Any, Any] | None = None

    def __enter__(self) -> None:
        """Become the running loop of this thread, with no current task, until left."""
        self._outer = outer = asyncio._get_running_loop()
        self._outer_task = task = None if outer is None else asyncio.current_task(outer)
        if task is not None:
            asyncio._leave_task(outer, task)  # type: ignore[arg-type]
        asyncio._set_running_loop(self)
        hooks = sys.get_asyncgen_hooks()
        if hooks.firstiter is not None:  # or the outer loop would close the workflow's asynchronous generators
            self._outer_hooks = hooks.firstiter, hooks.finalizer
            sys.set_asyncgen_hooks(None, None)

    def __exit__(self, *_: object) -> None:
        outer, task = self._outer, self._outer_task
        asyncio._set_running_loop(outer)
        if self._outer_hooks is not None:
            sys.set_asyncgen_hooks(*self._outer_hooks)
            self._outer_hooks = None
        if task is not None:
            asyncio._enter_task(outer, task)  # type: ignore[arg-type]
        self._outer = self._outer_task = None

    def run_until_idle(self) -> None:
        """Run callbacks until none is ready; to be called while this is the running loop."""
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def lane(self) -> Lane:
        """Return the lane of the task that is running, or the root where it is a bare callback that runs."""
        task = asyncio.current_task(self)
        return task.lane if isinstance(task, WorkflowTask) else self.root

    def fire(self, handle: asyncio.TimerHandle) -> None:
        """Make a timer ready whose time has come."""
        self._ready.append(handle)

    def close(self) -> None:
        """Unwind every coroutine now, so that garbage collection does not do it at some other time."""
        if not all(task.done() for task in self._tasks):
            self._unwind()
        self._tasks.clear()
        self._ready.clear()
        self._owner = _NOBODY

    def _unwind(self) -> None:
        with self:
            for task in list(self._tasks):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                try:
                    task.context.run(task.get_coro().close)  # as itself, or its steps would be plain calls
                except BaseException:
                    logger.debug("a workflow raised while it was put away", exc_info=True)
            for task in self._tasks:
                task.cancel()  # it and what it waits for hold each other

    # -- what asyncio asks of a loop ---------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> WorkflowTask:  # type: ignore[override]
        options.pop("eager_start", None)
        parent = self.lane()
        context = options.pop("context", None) or copy_context()
        task = WorkflowTask(coro, loop=self, context=context, **options)
        task.context = context
        if not self._tasks:  # the workflow itself, which is as good as all that the loop is for
            task.lane = self.root
        else:
            task.lane = parent if _WAIT_FOR and _asked_by_wait_for() else parent.child()
            task.add_done_callback(self._tasks.discard)
        self._tasks.add(task)
        return task

    def call_soon(  # type: ignore[override]  # typeshed ties callback and args together
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        if delay <= 0:
            self._ready.append(handle)
        else:
            self._owner.start_timer(handle, delay)
        return handle

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._owner.stop_timer(handle)

    def time(self) -> float:
        return self._owner.now().timestamp()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        logger.debug("%s", context.get("message", "an error in a workflow's loop"), exc_info=context.get("exception"))

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False


def _asked_by_wait_for() -> bool:
    frame = sys._getframe(2)  # ensure_future(), which calls create_task()
    for _ in range(3):
        back = frame.f_back
        if back is None:
            return False
        if back.f_code is _WAIT_FOR:
            return True
        frame = back
    return False


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
