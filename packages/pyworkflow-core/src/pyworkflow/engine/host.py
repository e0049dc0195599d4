"""What a runtime asks of the application that it serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Registry, Step
    from pyworkflow.clock import Clock
    from pyworkflow.codec import Codec
    from pyworkflow.events import Event
    from pyworkflow.model import Run
    from pyworkflow.ports import DurableRuntime, RetryPolicy, Runtime, Storage

Listener = Callable[["Run", Sequence["Event"]], None]
"""Called with a run and events of it; must not raise."""


class Host(Protocol):
    """An application, as far as a runtime knows it; `pyworkflow.App` is the one there is.

    Attributes:
        registry: The workflows and steps of the application.
        clock: Tells the time.
    """

    registry: Registry
    clock: Clock

    @property
    def codec(self) -> Codec:
        """The codec, which knows the converters of the application's plugins."""

    @property
    def settings(self) -> Any:
        """The settings, as `pyworkflow.configure` resolved them."""

    @property
    def storage(self) -> Storage:
        """The storage, which may not be open yet."""

    async def open_storage(self) -> Storage:
        """Return the storage, open."""

    def workflows_of(self, runtime: Runtime) -> list[str]:
        """Return the names of the workflows that run on *runtime*, or on another one of its kind."""

    def retry_policy(self, step: Step[..., Any]) -> tuple[RetryPolicy, int]:
        """Return the retry policy of *step*, and how many retries it has."""

    def observer(self) -> Listener | None:
        """Return what tells plugins of events; None: nobody listens."""

    def historian(self) -> Listener | None:
        """Return what tells plugins of runs that ended, with their whole history; None: nobody listens."""

    async def begin_work(self, runtime: DurableRuntime) -> None:
        """Do what has to be done when a process begins to work on *runtime*."""

    async def start(
        self,
        workflow: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        run_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Start a run and return a handle of it."""

    async def call(self, workflow: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Start a run, wait for its end, and return its result."""
