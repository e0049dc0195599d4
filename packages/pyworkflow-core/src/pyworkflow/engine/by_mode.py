"""Durable and transient runs of one runtime: each has a runtime of its own, and the mode of a run chooses."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import Any

from pyworkflow.engine.runtime import StoredRuntime
from pyworkflow.events import Plain
from pyworkflow.ports import Mode, Runtime, StartRequest


class TransientRuntime(Runtime):
    """A runtime of transient runs, which knows those that it started."""

    @abstractmethod
    def knows(self, run_id: str) -> bool:
        """Whether it started this run, and can be asked for its result."""

    def has_hook(self, token: str) -> bool:  # noqa: ARG002 -- for those that have hooks
        """Whether one of its runs takes payloads for this token."""
        return False


class RuntimeByMode(Runtime):
    """A durable and a transient runtime under one name.

    Attributes:
        durable: Has the durable runs.
        transient: Has the transient runs.
    """

    def __init__(self, durable: StoredRuntime, transient: TransientRuntime) -> None:
        self.durable = durable
        self.transient = transient

    @property
    def records(self) -> StoredRuntime:
        """The durable runtime."""
        return self.durable

    @property
    def is_idle(self) -> bool:
        """Whether both are."""
        return self.durable.is_idle and self.transient.is_idle

    def _of(self, mode: Mode) -> Runtime:
        return self.durable if mode is Mode.DURABLE else self.transient

    def _having(self, run_id: str) -> Runtime:
        return self.transient if self.transient.knows(run_id) else self.durable

    async def start(self, request: StartRequest) -> str:
        """Start a run of either mode."""
        return await self._of(request.mode).start(request)

    async def call(self, request: StartRequest) -> Plain:
        """Start a run of either mode and wait for its end."""
        return await self._of(request.mode).call(request)

    async def result(self, run_id: str) -> Plain:
        """Wait for the end of a run of either mode."""
        return await self._having(run_id).result(run_id)

    async def cancel(self, run_id: str, reason: str = "", grace: timedelta | None = None) -> None:
        """Ask a run of either mode to stop; a transient one is not terminated after *grace*."""
        await self._having(run_id).cancel(run_id, reason, grace)

    async def resume_hook(self, token: str, payload: Any) -> str:
        """Send a payload to a hook of a run of either mode; return the id of its run."""
        runtime: Runtime = self.transient if self.transient.has_hook(token) else self.durable
        return await runtime.resume_hook(token, payload)

    async def close(self, grace: float = 0.0) -> None:
        """Close both."""
        await self.durable.close(grace)
        await self.transient.close(grace)
