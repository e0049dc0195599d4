"""What one command works with: the application as the global options want it, an event loop, and signals."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from attrs import define

from pyworkflow.app import DEFAULT_STORAGE, App, default_app
from pyworkflow.config.masking import masked
from pyworkflow.plugins.settings import resolve
from pyworkflow.ports import DurableRuntime, Storage

T = TypeVar("T")


@define
class Session:
    """The global options, and what follows from them.

    Attributes:
        storage: Overrides the configured storage.
        runtime: Overrides the configured default runtime.
        verbosity: How often ``-v`` was given.
    """

    storage: str | None = None
    runtime: str | None = None
    verbosity: int = 0

    def app(self, **settings: Any) -> App:
        """Return the default application, which the user's modules may have configured, under the global options."""
        app = default_app()
        given = {"storage": self.storage, "default_runtime": self.runtime, **settings}
        given = {key: value for key, value in given.items() if value is not None}
        if given:
            app.configure(**given)
        return app

    def ask(self, question: Callable[[DurableRuntime], Coroutine[Any, Any, T]]) -> T:
        """Put a question to the runtime that keeps the runs; no worker is started for it."""
        app = self.app()

        async def asked() -> T:
            async with app:
                return await question(app.recorded())

        return asyncio.run(asked())

    def log(self) -> None:
        """Show the log, if ``-v`` asks for it; else it is left to the user's modules."""
        if self.verbosity:
            level = logging.INFO if self.verbosity == 1 else logging.DEBUG
            logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    def command(self, app: App, words: str) -> str:
        """Return a command line to suggest, with the options that it needs in order to mean the same runs."""
        options = ""
        settings = app.settings
        usual = resolve({}, plugins=app.plugins)  # what another process finds without any option
        if isinstance(settings.storage, str) and settings.storage != usual.storage:
            options += f" --storage {quoted(settings.storage)}"
        if settings.default_runtime != usual.default_runtime:
            options += f" --runtime {quoted(settings.default_runtime)}"
        return f"pyworkflow{options} {words}"


def quoted(text: str) -> str:
    """Return *text* as a word of a shell command, masked."""
    import shlex

    return shlex.quote(masked(text))


def described(app: App) -> str:
    """Return what the application's storage is, masked."""
    storage = app.settings.storage
    if isinstance(storage, Storage):
        return type(storage).__name__
    return masked(storage or DEFAULT_STORAGE)


def place_of(app: App, runtime: str | None = None) -> str:
    """Return where a runtime, by default the default one, keeps its runs, masked."""
    records = app.runtime(runtime).records
    return (None if records is None else records.place) or described(app)


@contextmanager
def on_signal(react: Callable[[], object]) -> Iterator[list[int]]:
    """Call *react* on the running event loop at the first SIGINT or SIGTERM; the second one ends the process at once.

    Yields a list that holds the number of the first signal once it came.
    """
    loop, seen = asyncio.get_running_loop(), list[int]()

    def handle(number: int, _frame: FrameType | None) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        loop.call_soon_threadsafe(react)

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    # Plain handlers, not those of the event loop: the second signal has to work while a step blocks the loop.
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> None:
    """End the process now if threads would keep it: a sync step cannot be interrupted, and nobody waits for it.

    For when everything is closed already. Returns if nothing holds the process.
    """
    for thread in threading.enumerate():
        if thread is threading.current_thread() or thread.daemon:
            continue
        thread.join(0.2)
        if thread.is_alive():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
