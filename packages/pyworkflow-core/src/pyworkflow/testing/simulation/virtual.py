"""Processes that are simulated: an event loop and a clock each, on one schedule that a seed decides.

There is neither a thread nor a wall clock here. A process runs its callbacks first in, first out, as asyncio does;
which process takes the next turn is drawn, and time passes when nothing is ready. What happens is a function of the
seed alone.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from attrs import define, field

from pyworkflow.authoring.context import StepContext
from pyworkflow.clock import SystemClock

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_TURN = 20e-6  # seconds that a callback takes


@define(eq=False)
class Schedule:
    """Runs simulated processes, one callback at a time.

    Attributes:
        chance: Decides which process takes the next turn.
        now: The virtual time, in seconds.
        turns: How many callbacks were run.
        after_turn: Called after each callback with the process that ran it.
    """

    chance: Random
    now: float = 0.0
    turns: int = 0
    after_turn: Callable[[Process], None] = lambda _: None
    processes: list[Process] = field(factory=list)
    _timers: list[tuple[float, int, Process, asyncio.Handle, bool]] = field(factory=list)
    _made: int = 0

    def process(self, name: str, offset: float = 0.0) -> Process:
        """Start a process whose clock is *offset* seconds ahead."""
        process = Process(self, name, offset)  # type: ignore[abstract]  # there is no I/O
        self.processes.append(process)
        return process

    def at(self, when: float, process: Process, handle: asyncio.Handle, *, threaded: bool = False) -> None:
        """Run *handle* at *when*, on the event loop of *process* or, as a thread would, beside it."""
        heapq.heappush(self._timers, (when, self.number(), process, handle, threaded))

    def number(self) -> int:
        """Return the next number, for what has to have an order."""
        self._made += 1
        return self._made

    def run(self, main: Process, coroutine: Coroutine[Any, Any, Any], limit: float) -> Any:
        """Run everything until *coroutine*, a task of *main*, is done; return its result.

        Raises:
            TimeoutError: It is not done at virtual time *limit*.
        """
        task, timers, draw = main.create_task(coroutine), self._timers, self.chance.random
        try:
            while not task.done():
                now = self.now
                able = [process for process in self.processes if process.ready and process.stopped_until <= now]
                if able:
                    self._turn(able[0] if len(able) == 1 else able[int(draw() * len(able))])
                else:
                    self._wait(limit)
                if timers and timers[0][0] <= self.now:
                    self._ring()
        finally:
            asyncio._set_running_loop(None)
        return task.result()

    def _wait(self, limit: float) -> None:
        """Let time pass until something can happen."""
        times = [process.stopped_until for process in self.processes if process.ready]
        if self._timers:
            times.append(self._timers[0][0])
        if not times or min(times) > limit:
            raise TimeoutError(f"it is not over after {limit:g} s")
        self.now = max(self.now, min(times))

    def _turn(self, process: Process) -> None:
        handle = process.ready.popleft()
        self.now += _TURN
        self.turns += 1
        if not handle._cancelled:
            asyncio._set_running_loop(process)
            handle._run()
        self.after_turn(process)

    def _ring(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= self.now:
            _, _, process, handle, threaded = heapq.heappop(timers)
            if handle._cancelled or process.killed:
                continue
            if not threaded:
                process.ready.append(handle)
            elif process.frozen_until > self.now:
                self.at(process.frozen_until, process, handle, threaded=True)
            else:
                asyncio._set_running_loop(None)
                handle._run()


class _Future(asyncio.Future[Any]):
    """A future whose place in a set does not depend on where in memory it is."""

    def __init__(self, *, loop: Process) -> None:
        self.number = loop.schedule.number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number


class _Task(asyncio.Task[Any]):
    """A task, as `_Future`."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: Process, **options: Any) -> None:
        self.number = loop.schedule.number()
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


class Process(asyncio.AbstractEventLoop):
    """The event loop, and the clock, of a simulated process.

    Attributes:
        stopped_until: Until then no callback runs, but threads do: something blocks the event loop.
        frozen_until: Until then nothing of the process runs at all.
        complaints: What went wrong without anybody there to hear of it.
        begins: What a step calls when its body begins.
    """

    def __init__(self, schedule: Schedule, name: str, offset: float) -> None:
        self.schedule = schedule
        self.name = name
        self.offset = offset
        self.ready: deque[asyncio.Handle] = deque()
        self.stopped_until = 0.0
        self.frozen_until = 0.0
        self.killed = False
        self.complaints: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.on_kill: list[Callable[[], None]] = []
        self.begins: Callable[[StepContext], None] = lambda _: None

    def __repr__(self) -> str:
        return self.name

    def kill(self) -> None:
        """Take the process away, wherever it is; nothing of it ever runs again."""
        self.killed = True
        self.ready.clear()
        self.schedule.processes.remove(self)
        for tell in self.on_kill:
            tell()

    def hold(self, seconds: float, *, frozen: bool) -> None:
        """Let nothing run for *seconds*; with *frozen* no thread either."""
        self.stopped_until = self.schedule.now + seconds
        if frozen:
            self.frozen_until = self.stopped_until

    def bury(self) -> None:
        """Unwind what is left of the coroutines, unheard; to be called when the simulation is over."""
        asyncio._set_running_loop(self)
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                with suppress(BaseException):  # it is dead
                    task.get_coro().close()
        asyncio._set_running_loop(None)
        self.tasks.clear()

    # -- what asyncio asks of a loop ---------------------------------------------

    def time(self) -> float:
        return self.schedule.now

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        options.pop("eager_start", None)
        task = _Task(coro, loop=self, **options)
        self.tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]  # typeshed ties callback and args together
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.killed:
            self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.schedule.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.schedule.at(when, self, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Forget nothing: a cancelled handle is passed over when its time comes."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]  # noqa: ARG002 -- there are no threads
        """Call *func* at a later turn, for there are no threads here."""
        future = self.create_future()

        def call() -> None:
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 -- as an executor does
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_soon(call)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.killed:
            self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_exception_handler(self) -> None:
        return None

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.killed


class VirtualClock(SystemClock):
    """The clock of a simulated process; it may be wrong."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._seconds, self._now = 0.0, EPOCH

    def now(self) -> datetime:
        """Return what the process takes for the time."""
        now = self.process.schedule.now + self.process.offset
        if now != self._seconds:
            self._seconds, self._now = now, EPOCH + timedelta(seconds=now)
        return self._now


class Pulse:
    """What `pyworkflow.engine.heartbeat.Heartbeat` is, without a thread of its own."""

    def __init__(self, beat: Callable[[], object], last: Callable[[], object], interval: float) -> None:
        self._beat = beat
        self._last = last
        self._interval = interval
        self._stopped = False
        self._process: Process | None = None

    def start(self) -> None:
        """Beat from now on."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Process)
        self._process = loop
        self._later(self._interval)

    def _later(self, pause: float) -> None:
        process = self._process
        assert process is not None
        when = process.schedule.now + pause
        process.schedule.at(when, process, asyncio.TimerHandle(when, self._once, (), process), threaded=True)

    def _once(self) -> None:
        if self._stopped:
            return
        try:
            self._beat()
        except Exception:  # noqa: BLE001 -- as the real one
            self._later(self._interval / 4)
        else:
            self._later(self._interval)

    def stop(self) -> None:
        """Beat no more, and release."""
        self._stopped = True
        with suppress(Exception):  # as the real one
            self._last()
