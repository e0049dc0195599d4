"""Workflows and steps as the decorators make them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from attrs import frozen

from pyworkflow.context import step_context, workflow_context
from pyworkflow.errors import DefinitionError
from pyworkflow.signature import Signature

if TYPE_CHECKING:
    from pyworkflow.codec import Codec
    from pyworkflow.plain import Plain
    from pyworkflow.ports import RetryPolicy
    from pyworkflow.registry import Registry

P = ParamSpec("P")
R = TypeVar("R")


@frozen
class StepOptions:
    """How a step is carried out; None means: as configured.

    Attributes:
        retries: How many attempts may follow the first one.
        retry: The policy for the pauses between attempts: an object, or a config string.
        timeout: Seconds that an attempt may take.
        at_most_once: Never begin a second attempt after the worker of the first one was lost.
        queue: Only workers that serve this queue carry it out, on runtimes that have queues.
    """

    retries: int | None = None
    retry: RetryPolicy | str | None = None
    timeout: float | None = None
    at_most_once: bool = False
    queue: str = ""


class _Definition:
    kind = "definition"

    def __init__(self, function: Callable[..., Any], name: str | None, registry: Registry) -> None:
        _check_function(function, self.kind)
        self.function = function
        self.name = name or function.__qualname__
        self.registry = registry
        self._codec: Codec | None = None
        self._signature: Signature
        update_wrapper(self, function)  # type: ignore[arg-type]  # subclasses can be called

    @property
    def signature(self) -> Signature:
        """How its arguments and its result are stored."""
        codec = self.registry.codec
        if self._codec is not codec:
            self._signature = Signature.of(self.function, codec, f"{self.kind} {self.name!r}")
            self._codec = codec
        return self._signature

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r}>"


def _check_function(function: Any, kind: str) -> None:
    if not inspect.isfunction(function):
        msg = f"@{kind} goes on a function, not on {function!r}"
        raise DefinitionError(msg)
    *scope, name = function.__qualname__.split(".")
    if name == "<lambda>":
        msg = f"a {kind} needs a name to be found by after a crash, and a lambda has none; use def"
        raise DefinitionError(msg)
    if scope and scope[-1] != "<locals>":
        msg = (
            f"@{kind} does not go on a method: {function.__qualname__!r} could not be found again after a crash; "
            "declare a function of a module, and pass it what it needs as arguments"
        )
        raise DefinitionError(msg)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        msg = f"{kind} {function.__qualname__!r} is a generator; a {kind} returns one result"
        raise DefinitionError(msg)
    if kind == "workflow" and not inspect.iscoroutinefunction(function):
        msg = f"workflow {function.__qualname__!r} is not async; declare it with async def"
        raise DefinitionError(msg)


class Step(_Definition, Generic[P, R]):
    """A function under ``@step``: called in a workflow it is an operation of the run, elsewhere a plain call."""

    kind = "step"

    def __init__(self, function: Callable[P, Any], name: str | None, registry: Registry, options: StepOptions) -> None:
        super().__init__(function, name, registry)
        self.options = options
        self.is_async = inspect.iscoroutinefunction(function)
        registry.add_step(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Have it carried out, in a workflow; elsewhere call the function itself."""
        context = workflow_context.get()
        if context is None or step_context.get() is not None:
            return self.function(*args, **kwargs)  # type: ignore[no-any-return]
        return context.call_step(self, args, kwargs)


class Workflow(_Definition, Generic[P, R]):
    """A function under ``@workflow``: awaiting a call of it starts a run and waits for its result."""

    kind = "workflow"

    def __init__(
        self,
        function: Callable[P, Any],
        name: str | None,
        registry: Registry,
        *,
        runtime: str | None,
        durable: bool | None,
    ) -> None:
        super().__init__(function, name, registry)
        self.runtime = runtime
        self.durable = durable
        registry.add_workflow(self)

    async def body(self, args: Plain, kwargs: Plain) -> Plain:
        """Run the function itself on encoded arguments; return its encoded result."""
        decoded_args, decoded_kwargs = self.signature.decode_call(args, kwargs)
        return self.signature.encode_result(await self.function(*decoded_args, **decoded_kwargs))

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a run and wait for its result."""
        from pyworkflow.app import default_app  # the app knows workflows, not the other way round

        return await default_app().call(self, args, kwargs)
