"""Workflows in a test: in memory, with a clock of their own, and with steps that a test puts in their place."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from attrs import define, field

from pyworkflow.app import App, set_default_app
from pyworkflow.authoring.definitions import Registry, Step, Workflow, default_registry
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.config.coercion import did_you_mean
from pyworkflow.config.durations import delta
from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.errors import ConfigError, WorkflowError
from pyworkflow.handle import RunHandle
from pyworkflow.model import Status
from pyworkflow.testing.clock import VirtualClock

R = TypeVar("R")

_FAR = "3650d"
_GRACE = 0.05
"""Seconds of real time after which a step that still runs no longer keeps virtual time from going on."""

_PATIENCE = 10.0
"""Seconds of real time for a step, if no time on the clock brings anything."""


@define(eq=False)
class Double:
    """What stands for a step in a test.

    Attributes:
        name: The step's name.
        calls: The arguments of each attempt so far.
    """

    name: str
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(factory=list)
    _answers: list[Any] = field(factory=list)
    _function: Callable[..., Any] | None = None

    def returns(self, *values: Any) -> Double:
        """Give these values, one for each attempt; the last one for all further ones."""
        self._answers, self._function = [*values], None
        return self

    def raises(self, *errors: BaseException, then: Any = None) -> Double:
        """Raise these errors, one for each attempt, and then return *then*."""
        self._answers, self._function = [*errors, then], None
        return self

    def calls_to(self, function: Callable[..., Any]) -> Double:
        """Call *function*, sync or async, with the step's arguments."""
        self._function = function
        return self

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Be the step."""
        self.calls.append((args, kwargs))
        if self._function is not None:
            result = self._function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        answer = self._answers[min(len(self.calls), len(self._answers)) - 1] if self._answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer


class WorkflowEnvironment:
    """Runs durable workflows in memory, on a clock that stands still until the test lets time pass.

    Use it as an async context manager; within it the functions of the package use it too. Results are what they
    would be on any storage, since everything goes through history; a sleep of 30 days takes milliseconds.

    Args:
        start: The time at first, aware; by default the beginning of 2026.
        replay: Rebuild each workflow from its history before each decision, to test that it can be.
        schedules: Start scheduled workflows when they are due.
        settings: As for `pyworkflow.configure`.
    """

    def __init__(
        self, *, start: datetime | None = None, replay: bool = False, schedules: bool = False, **settings: Any
    ) -> None:
        self.clock = VirtualClock() if start is None else VirtualClock(start)
        self.storage = MemoryStorage()
        self._registry = Registry(
            dict(default_registry.workflows),
            dict(default_registry.steps),
            default_registry.at_work,
        )
        runtime = f"local?sweep={_FAR}&lease=7300d&replay={replay}"
        self._settings = {"storage": self.storage, "default_durable": True, "default_runtime": runtime, **settings}
        self._schedules = schedules
        self._before: App | None = None
        self.app = self._made()

    def _made(self) -> App:
        return App(registry=self._registry, clock=self.clock, **self._settings)

    async def __aenter__(self) -> Self:
        self._before = set_default_app(self.app)
        if self._schedules:
            await self._runtime.work()
            await self.app.begin_work(self._runtime)
            await self.settle()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        set_default_app(self._before)
        await self.app.close()

    # -- runs ----------------------------------------------------------------------------

    async def start(self, workflow: Workflow[..., R], *args: Any, **kwargs: Any) -> RunHandle[R]:
        """Start a run, and return its handle once nothing more happens before time passes."""
        handle = await self.app.start(workflow, args, kwargs)
        await self.settle()
        return handle

    async def run(self, workflow: Workflow[..., R], *args: Any, **kwargs: Any) -> R:
        """Start a run and return its result; see `result`."""
        return await self.result(await self.app.start(workflow, args, kwargs))

    async def result(self, handle: RunHandle[R]) -> R:
        """Let time pass until a run ends, and return its result, or raise its error.

        Raises:
            WorkflowError: It waits for something that no time brings, such as a payload for a hook.
        """
        while True:
            await self.settle()
            run = await self._runtime.control.newest(handle.id)
            if run.status is not Status.RUNNING:
                return await handle.result()
            due = await self._next()
            if due is None and self._state() == "steps":
                await self._wait_for_steps(run.id)
                continue
            if due is None:
                hooks = ", ".join(repr(hook.name) for hook in await self.storage.hooks(run.id))
                waits = f"a payload for hook {hooks}" if hooks else "something from outside"
                msg = f"run {run.id!r} waits for {waits}, and no time will bring that"
                raise WorkflowError(msg)
            self.clock.move(due)

    async def resume_hook(self, token: str, payload: Any = None) -> None:
        """Send a payload to a hook, and return once nothing more happens before time passes."""
        await self.app.resume_hook(token, payload)
        await self.settle()

    # -- time ----------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The time on the clock."""
        return self.clock.now()

    async def skip(self, duration: float | str | timedelta) -> None:
        """Let time pass; everything that comes due meanwhile happens, at its time and in its order."""
        until = self.now + delta(duration)
        await self.settle()
        while (due := await self._next()) is not None and due <= until:
            self.clock.move(due)
            await self.settle()
        self.clock.move(until)
        await self.settle()

    async def settle(self) -> None:
        """Return once nothing more happens before time passes."""
        loop = asyncio.get_running_loop()
        await self._runtime.work()
        quiet, until = 0, loop.time() + _GRACE
        while quiet < 10:
            state = self._state()
            quiet = quiet + 1 if state == "quiet" or (state == "steps" and loop.time() > until) else 0
            if state == "busy":
                until = loop.time() + _GRACE
            await asyncio.sleep(0.001 if state == "steps" else 0)

    async def _wait_for_steps(self, run_id: str) -> None:
        """Wait in real time, as there is nothing else to wait for, until a step ends."""
        until = asyncio.get_running_loop().time() + _PATIENCE
        before = self._steps()
        while self._steps() == before and self._state() == "steps":
            if asyncio.get_running_loop().time() > until:
                msg = (
                    f"run {run_id!r} waits for a step that has not ended within {_PATIENCE:g} s of real time; put a "
                    "double in its place, or give it a timeout"
                )
                raise WorkflowError(msg)
            await asyncio.sleep(0.005)

    def _steps(self) -> set[asyncio.Task[None]]:
        worker = self._runtime.worker_here
        held = [] if worker is None else worker.advancer.runs.values()
        return {task for execution in held for task in execution.running.values()}

    def _state(self) -> str:
        worker = self._runtime.worker_here
        if worker is None or not self.clock.all_wait:
            return "busy"
        if worker.is_idle:
            return "quiet"
        return "steps" if worker.only_waits_for_steps else "busy"

    async def _next(self) -> datetime | None:
        worker = self._runtime.worker_here
        held = None if worker is None else worker.tick(self.now)
        free = await self.storage.due()
        lease = self.now + timedelta(days=3000)  # later than that is only the end of a lease
        times = [time for time in (held, free) if time is not None and time < lease]
        return min(times, default=None)

    # -- steps ---------------------------------------------------------------------------

    def step(self, step: Step[..., Any] | str) -> Double:
        """Put a double in the place of a step; it returns None by default.

        Raises:
            ConfigError: No step has this name.
        """
        name = step if isinstance(step, str) else step.name
        known = default_registry.steps.get(name)
        if known is None:
            msg = f"there is no step {name!r}{did_you_mean(name, default_registry.steps)}"
            raise ConfigError(msg)
        double, stand_in = Double(name), copy.copy(known)
        stand_in.function, stand_in.is_async = double, True
        self._registry.steps[name] = stand_in
        return double

    # -- crashes -------------------------------------------------------------------------

    async def crash(self) -> None:
        """Lose the process, as by a kill -9, and go on in a new one, which takes its runs over."""
        if (worker := await self._runtime.crash()) is not None:
            self.storage.lose(worker, self.now)
        self.app = self._made()
        set_default_app(self.app)
        await self.settle()

    @property
    def _runtime(self) -> StoredRuntime:
        runtime = self.app.recorded()
        assert isinstance(runtime, StoredRuntime)
        return runtime
