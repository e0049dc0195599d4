"""What holds the settings, the plugins, the storage and the runtimes of an application together."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast
from weakref import WeakSet

from pyworkflow.authoring.context import step_context
from pyworkflow.authoring.definitions import Workflow, default_registry
from pyworkflow.clock import SystemClock
from pyworkflow.codec import Codec
from pyworkflow.config.config_string import Spec
from pyworkflow.engine.engine_loop import EngineLoop
from pyworkflow.errors import DefinitionError
from pyworkflow.handle import RunHandle, recorded
from pyworkflow.ids import checked_id
from pyworkflow.plugins.kinds import RETRY_POLICY, RUNTIME, STORAGE
from pyworkflow.plugins.manager import Plugins
from pyworkflow.plugins.modes import settle_mode
from pyworkflow.plugins.settings import resolve
from pyworkflow.ports import StartRequest, Storage

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry, Step
    from pyworkflow.clock import Clock
    from pyworkflow.events import Event
    from pyworkflow.model import Page, Run, RunQuery, Status
    from pyworkflow.plugins.settings import Settings
    from pyworkflow.ports import DurableRuntime, Mode, RetryPolicy, Runtime

R = TypeVar("R")
T = TypeVar("T")
logger = logging.getLogger(__name__)

DEFAULT_STORAGE = "sqlite:///pyworkflow.db"  # a durable run is never silently kept in memory only


@lru_cache
def _kind(runtime: str) -> str:
    """Return what the runtime of a config string is offered as; each sweep asks, for each workflow."""
    return Spec.parse(runtime).name


class App:
    """Settings, and the backends that were made by them. The functions of the package use a default one.

    Args:
        registry: The workflows and steps; by default those of the decorators.
        clock: By default the machine's.
        settings: As for `pyworkflow.configure`.

    Attributes:
        engine_loop: The event loop of this process on which runs are executed.
    """

    def __init__(self, *, registry: Registry | None = None, clock: Clock | None = None, **settings: Any) -> None:
        self.registry = registry or default_registry
        self.clock: Clock = clock or SystemClock()
        self.plugins = Plugins()
        self._explicit: dict[str, Any] = {}
        self._settings: Settings | None = None
        self._storage: Storage | None = None
        self._opened = False
        self._runtimes: dict[str, Runtime] = {}
        self._policies: dict[str, RetryPolicy] = {}
        self._modes: dict[tuple[str, bool | None], Mode] = {}
        self._prepared = False
        self._codec: Codec | None = None
        self._making = threading.RLock()
        self.engine_loop = EngineLoop(self._close_here, self._is_idle, self._leave)
        _apps.add(self)
        if settings:
            self.configure(**settings)

    # -- settings --------------------------------------------------------------------

    def configure(self, **settings: Any) -> None:
        """Set what is named, on top of what was set before; backends made by earlier settings are dropped.

        Raises:
            ConfigError: A setting is unknown, or its value makes no sense; nothing is changed then.
        """
        explicit = self._explicit | settings
        resolved = resolve(explicit, plugins=self.plugins)
        if self._runtimes:
            logger.warning(
                "configure() was called while runs were in progress; runs already started keep the previous storage "
                "and runtime"
            )
        self._explicit, self._settings, self._modes = explicit, resolved, {}
        self._storage, self._opened, self._runtimes, self._policies = None, False, {}, {}
        self._prepared, self._codec = False, None

    @property
    def settings(self) -> Settings:
        """The settings: what was given to `configure`, then the environment, then ``pyproject.toml``."""
        if self._settings is None:
            self._settings = resolve(self._explicit, plugins=self.plugins)
        return self._settings

    @property
    def codec(self) -> Codec:
        """What stores values: as the settings say, and with the converters of the plugins."""
        if self._codec is None:
            codec = Codec(allow_nan=self.settings.allow_nan)
            self.plugins.converters(codec.converter)
            self._codec = codec
        return self._codec

    def _prepare(self) -> None:
        """Check what depends on settings and plugins; once."""
        if not self._prepared:
            self.codec  # noqa: B018 -- a broken converter is reported now, not when the first value is stored
            self._policy(self.settings.default_retry)  # likewise a wrong retry policy
            self._prepared = True

    # -- backends ----------------------------------------------------------------------

    @property
    def storage(self) -> Storage:
        """The storage, which may not be open yet."""
        if self._storage is None:
            with self._making:
                chosen = self.settings.storage or DEFAULT_STORAGE
                if self._storage is None and isinstance(chosen, Storage):
                    self._storage = chosen
                elif self._storage is None:
                    self._storage = self.plugins.make(STORAGE, chosen, offered={"app": self})
        return self._storage

    async def open_storage(self) -> Storage:
        """Return the storage, open."""
        self.engine_loop.adopt()
        storage = self.storage
        if not self._opened:
            await storage.open()
            self._opened = True
        return storage

    def runtime(self, name: str | None = None) -> Runtime:
        """Return the runtime of a config string; the default one if that is None."""
        text = name or self.settings.default_runtime
        with self._making:
            if text not in self._runtimes:
                self._prepare()
                self._runtimes[text] = self.plugins.make(RUNTIME, text, app=self)
            return self._runtimes[text]

    def workflows_of(self, runtime: Runtime) -> list[str]:
        """Return the names of the workflows that run on *runtime*, or on another one of its kind."""
        default = self.settings.default_runtime
        kinds = {_kind(text) for text, one in self._runtimes.items() if one is runtime or one.records is runtime}
        return [
            name
            for name, workflow in self.registry.workflows.items()
            if not kinds or _kind(workflow.runtime or default) in kinds
        ]

    def recorded(self, runtime: str | None = None) -> DurableRuntime:
        """Return a runtime that records its runs.

        Raises:
            Unsupported: It does not.
        """
        return recorded(self.runtime(runtime))

    def retry_policy(self, step: Step[..., Any]) -> tuple[RetryPolicy, int]:
        """Return the retry policy of *step*, and how many retries it has."""
        settings, options = self.settings, step.options
        chosen = settings.default_retry if options.retry is None else options.retry
        return self._policy(chosen), settings.default_retries if options.retries is None else options.retries

    def _policy(self, chosen: RetryPolicy | str) -> RetryPolicy:
        if not isinstance(chosen, str):
            return chosen
        if chosen not in self._policies:
            self._policies[chosen] = self.plugins.make(RETRY_POLICY, chosen)
        return self._policies[chosen]

    def observer(self) -> Callable[[Run, Sequence[Event]], None] | None:
        """Return what tells plugins of events; None: nobody listens."""
        listeners = self.plugins.observers()
        if not listeners:
            return None

        def observe(run: Run, events: Sequence[Event]) -> None:
            for event in events:
                for listener in listeners:
                    listener(run, event)  # logs its own errors

        return observe

    def historian(self) -> Callable[[Run, Sequence[Event]], None] | None:
        """Return what tells plugins of runs that ended; None: nobody listens."""
        listeners = self.plugins.historians()
        if not listeners:
            return None

        def tell(run: Run, history: Sequence[Event]) -> None:
            for listener in listeners:
                listener(run, history)  # logs its own errors

        return tell

    # -- runs --------------------------------------------------------------------------

    async def start(
        self,
        workflow: Workflow[..., R],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        begin: bool | None = None,
    ) -> RunHandle[R]:
        """Start a run of *workflow*; see `pyworkflow.start`."""
        return await self.engine_loop.run(self._start(workflow, args, kwargs or {}, (run_id, idempotency_key), begin))

    async def _start(
        self, workflow: Workflow[..., R], args: Sequence[Any], kwargs: dict[str, Any], *options: Any
    ) -> RunHandle[R]:
        runtime, request = self._request(workflow, args, kwargs, *options)
        return RunHandle(await runtime.start(request), runtime, workflow, self.codec, self.engine_loop)

    async def call(
        self, workflow: Workflow[..., R], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> R:
        """Start a run of *workflow*, wait for its end, and return its result."""
        return await self.engine_loop.run(self._call(workflow, args, kwargs or {}))

    async def _call(self, workflow: Workflow[..., R], args: Sequence[Any], kwargs: dict[str, Any]) -> R:
        runtime, request = self._request(workflow, args, kwargs)
        return workflow.signature_for(self.codec).decode_result(await runtime.call(request))  # type: ignore[no-any-return]

    def _request(
        self,
        workflow: Workflow[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        names: tuple[str | None, str | None] = (None, None),  # run id and idempotency key
        begin: bool | None = None,  # noqa: FBT001 -- private
    ) -> tuple[Runtime, StartRequest]:
        if not isinstance(workflow, Workflow):
            msg = f"{workflow!r} is not a workflow; put @workflow on it"
            raise DefinitionError(msg)
        self._prepare()
        name = workflow.runtime or self.settings.default_runtime
        mode = self._modes.get((name, workflow.durable)) or self._mode(name, workflow.durable)
        plain_args, plain_kwargs = workflow.signature_for(self.codec).encode_call(tuple(args), kwargs)
        run_id, idempotency_key = names
        if run_id is not None:
            checked_id(run_id, "run id")
        if idempotency_key is not None:
            checked_id(idempotency_key, "idempotency key")
        begins = self.settings.begin if begin is None else begin
        return self.runtime(name), StartRequest(workflow, plain_args, plain_kwargs, mode, *names, begins)

    def _mode(self, runtime: str, durable: bool | None) -> Mode:  # noqa: FBT001 -- as the workflow says it
        mode = settle_mode(
            self.plugins.runtime(runtime), runtime, durable=durable, default_durable=self.settings.default_durable
        )
        return self._modes.setdefault((runtime, durable), mode)

    async def resume_hook(self, token: str, payload: Any = None) -> str:
        """Send a payload to a hook; see `pyworkflow.resume_hook`."""
        self._prepare()
        return await self.ask(lambda runtime: runtime.resume_hook(token, payload))

    async def runs(self, query: RunQuery) -> Page:
        """Return runs, the newest first."""
        return await self.ask(lambda runtime: recorded(runtime).runs(query))

    async def purge(self, before: datetime, statuses: Sequence[Status]) -> int:
        """Delete runs that ended before *before*; return how many."""
        return await self.ask(lambda runtime: recorded(runtime).purge(before, statuses))

    async def ask(self, question: Callable[[Runtime], Coroutine[Any, Any, T]], runtime: str | None = None) -> T:
        """Ask a runtime, by default the default one, on the event loop on which it lives."""

        async def answer() -> T:
            return await question(self.runtime(runtime))

        return await self.engine_loop.run(answer())

    def worker(self, *, runtime: str | None = None, grace: float = 10.0) -> AbstractAsyncContextManager[None]:
        """Return a context in which this process works; on leaving, running steps get *grace* seconds."""
        self.recorded(runtime)  # what is wrong with it is raised at once
        return self._working(runtime, grace)

    @asynccontextmanager
    async def _working(self, name: str | None, grace: float) -> AsyncIterator[None]:
        runtime = await self.engine_loop.run(self._begun(name))
        try:
            yield
        finally:
            if not self.engine_loop.is_elsewhere:  # else that loop closes it
                await runtime.close(grace)

    async def _begun(self, name: str | None) -> DurableRuntime:
        runtime = self.recorded(name)
        await runtime.work()
        await self.begin_work(runtime)
        return runtime

    async def begin_work(self, runtime: DurableRuntime) -> None:
        """Do what is to be done when a process begins to work on *runtime*, such as having schedules looked after."""
        self._prepare()
        for begin in self.registry.at_work:
            await begin(self, runtime)

    async def close(self, grace: float = 0.0) -> None:
        """Release the runs held by this event loop, or by the thread for sync code, and close the storage.

        The engine of another event loop, which still runs, is left alone: that loop closes it.
        """
        if self.engine_loop.is_own_thread:
            await self.engine_loop.end_thread()
        elif not self.engine_loop.is_elsewhere:
            await self._close_here(grace)

    def _is_idle(self) -> bool:
        return all(runtime.is_idle for runtime in self._runtimes.values())

    def _leave(self, grace: float = 0.0) -> Coroutine[Any, Any, None]:
        """Have the next use make new runtimes; return what closes those that there are."""
        runtimes, self._runtimes = self._runtimes, {}

        async def close() -> None:
            for runtime in runtimes.values():
                await runtime.close(grace)

        return close()

    async def _close_here(self, grace: float = 0.0) -> None:
        await self._leave(grace)
        if self._storage is not None and self._opened:
            self._opened = False
            await self._storage.close()

    def forget(self) -> None:
        """Forget the backends of the parent: this is a forked child. Nothing of them is closed or written."""
        _inherited.append((self._runtimes, self._storage))
        self._storage, self._opened, self._runtimes = None, False, {}
        self._making = threading.RLock()
        self.plugins.forget()
        self.engine_loop.forget()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


_default: App | None = None
_making_default = threading.Lock()
_apps: WeakSet[App] = WeakSet()
_inherited: list[Any] = []
"""What a forked child has of its parent: collecting it would close files and connections that are the parent's."""


def _after_fork() -> None:
    global _making_default  # noqa: PLW0603 -- another thread of the parent may have held it
    _making_default = threading.Lock()
    for app in _apps:
        app.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def default_app() -> App:
    """Return the app behind the functions of the package: in a step its own, else one that is made on first use."""
    step = step_context.get()
    if step is not None and step.app is not None:
        return cast("App", step.app)
    global _default  # noqa: PLW0603 -- the one place where there is one
    if _default is None:
        with _making_default:
            _default = _default or App()
    return _default


def set_default_app(app: App | None) -> App | None:
    """Put *app* behind the functions of the package; return the one before. None: a new one on next use."""
    global _default
    before, _default = _default, app
    return before
