"""What a caller holds of a run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pyworkflow.authoring.context import outside_workflow
from pyworkflow.codec import Codec
from pyworkflow.config.durations import delta, seconds
from pyworkflow.errors import Unsupported
from pyworkflow.events import RunContinued
from pyworkflow.model import Status

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from pyworkflow.authoring.definitions import Workflow
    from pyworkflow.engine.engine_loop import EngineLoop
    from pyworkflow.events import Event
    from pyworkflow.model import Run
    from pyworkflow.ports import DurableRuntime, Runtime

R = TypeVar("R")
T = TypeVar("T")


class RunHandle(Generic[R]):
    """A run, by its id; holding a handle keeps nothing alive, and dropping it stops nothing.

    Attributes:
        id: The run's id.
        runtime: The runtime that it is asked of.
        workflow: Its workflow, if that is known in this process.
    """

    def __init__(
        self,
        run_id: str,
        runtime: Runtime,
        workflow: Workflow[..., R] | None,
        codec: Codec | None = None,
        engine_loop: EngineLoop | None = None,
    ) -> None:
        """Make a handle; *codec* reads the result of *workflow*, by default one without converters of plugins.

        The runtime is asked on *engine_loop*, by default on the loop of the caller.
        """
        self.id = run_id
        self.runtime = runtime
        self.workflow = workflow
        self._codec = codec
        self._engine_loop = engine_loop

    async def _at_engine(self, call: Coroutine[Any, Any, T]) -> T:
        return await (call if self._engine_loop is None else self._engine_loop.run(call))

    def __repr__(self) -> str:
        return f"<run {self.id!r}>"

    async def result(self, timeout: float | str | timedelta | None = None) -> R:  # noqa: ASYNC109 -- part of the public API
        """Wait for the end of the run and return its result.

        Args:
            timeout: How long to wait at most; the run goes on when it has passed.

        Raises:
            TimeoutError: The run has not ended by then.
            RunCancelled, RunTerminated: It ended without a result.
            RunBlocked: It cannot go on before somebody has looked at it.
            Exception: What the workflow raised, as the class it was, if that is loaded in this process.
        """
        outside_workflow("result() of a run's handle")
        limit = None if timeout is None else seconds(timeout)
        try:
            async with asyncio.timeout(limit) as scope:
                value = await self._at_engine(self.runtime.result(self.id))
        except TimeoutError:
            if not scope.expired():
                raise  # the workflow's own
            msg = f"run {self.id!r} has not ended within {limit:g} s; it goes on"
            raise TimeoutError(msg) from None
        if self.workflow is None:
            return cast("R", value)  # as JSON
        return cast("R", self.workflow.signature_for(self._codec or Codec()).decode_result(value))

    async def run(self) -> Run:
        """Return what is known of the run now: its status, workflow, times and length.

        Raises:
            Unsupported: It is transient, or its runtime keeps no records.
        """
        outside_workflow("run() of a run's handle")
        return await self._at_engine(recorded(self.runtime).run(self.id))

    async def newest(self) -> Run:
        """Return what is known of the run, or of the one that it goes on as, if it has continued as a new one.

        Raises:
            Unsupported: It is transient, or its runtime keeps no records.
        """
        run = await self.run()
        while run.status is Status.CONTINUED:
            _, events = await self._at_engine(recorded(self.runtime).history(run.id))
            end = events[-1]
            assert isinstance(end, RunContinued)  # noqa: S101 -- what the status says
            run = await self._at_engine(recorded(self.runtime).run(end.run_id))
        return run

    async def history(self) -> Sequence[Event]:
        """Return the events of the run.

        Raises:
            Unsupported: It is transient, or its runtime keeps no records.
        """
        outside_workflow("history() of a run's handle")
        return (await self._at_engine(recorded(self.runtime).history(self.id)))[1]

    async def cancel(self, reason: str = "", *, grace: float | str | timedelta | None = None) -> None:
        """Ask the run to stop; see `pyworkflow.cancel`."""
        outside_workflow("cancel() of a run's handle")
        await self._at_engine(self.runtime.cancel(self.id, reason, None if grace is None else delta(grace)))


def recorded(runtime: Runtime) -> DurableRuntime:
    """Return *runtime* if it records its runs.

    Raises:
        Unsupported: It does not.
    """
    if (records := runtime.records) is not None:
        return records
    msg = f"{type(runtime).__name__} keeps no records of its runs; only durable runs can be looked at afterwards"
    raise Unsupported(msg)
