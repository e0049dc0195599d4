"""Workflows and steps as the decorators make them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cached_property, update_wrapper
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from attrs import Factory, define, frozen

from pyworkflow.authoring.context import ContinueAsNew, step_context, workflow_context
from pyworkflow.codec import Codec
from pyworkflow.codec.signature import Signature
from pyworkflow.errors import DefinitionError, WorkflowTimeout

if TYPE_CHECKING:
    from pyworkflow.authoring.schedule import Schedule
    from pyworkflow.events import Plain
    from pyworkflow.ports import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")


@frozen
class StepOptions:
    """How a step runs; None means: as configured.

    Attributes:
        retries: How many attempts may follow the first one.
        retry: The policy for the pauses between attempts: an object, or a config string.
        timeout: Seconds that an attempt may take.
        heartbeat: Seconds within which an attempt has to call ``current_step().heartbeat()`` again and again.
        at_most_once: Never begin a second attempt after the worker of the first one was lost.
        undo: The step that undoes this one.
        queue: Only workers that serve this queue run it, on runtimes that have queues.
    """

    retries: int | None = None
    retry: RetryPolicy | str | None = None
    timeout: float | None = None
    at_most_once: bool = False
    queue: str = ""
    heartbeat: float | None = None
    undo: Step[..., Any] | None = None


class _Definition:
    kind = "definition"

    def __init__(self, function: Callable[..., Any], name: str | None, registry: Registry) -> None:
        _check_function(function, self.kind)
        self.function = function
        self.name = name or function.__qualname__
        self.registry = registry
        self._declared = function  # what the signature is of, also where a test puts another function in its place
        update_wrapper(self, function)  # type: ignore[arg-type]  # subclasses can be called

    def signature_for(self, codec: Codec) -> Signature:
        """Return how its arguments and its result are stored by *codec*."""
        found: Signature | None = codec.signatures.get(self)
        if found is None:
            found = codec.signatures[self] = Signature.of(self._declared, codec, f"{self.kind} {self.name!r}")
        return found

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
        self.is_direct = self.is_async and options.timeout is None and options.heartbeat is None
        if options.undo is not None:
            from pyworkflow.authoring.compensation import check_undo  # as below: few steps have one

            check_undo(self, options.undo)
        registry.add_step(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Request it, in a workflow; elsewhere call the function itself."""
        context = workflow_context.get()
        if context is None or step_context.get() is not None:
            return self.function(*args, **kwargs)  # type: ignore[no-any-return]
        if self.options.undo is not None:
            from pyworkflow.authoring.compensation import call_undoable

            return call_undoable(context, self, args, kwargs)
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
        timeout: float | None = None,
        schedule: Schedule | None = None,
        call: Callable[..., Coroutine[Any, Any, Any]] | None = None,
    ) -> None:
        super().__init__(function, name, registry)
        self.call = call
        self.runtime = runtime
        self.durable = durable
        self.timeout = timeout
        self.schedule = schedule
        registry.add_workflow(self)

    @cached_property
    def fingerprint(self) -> str:
        """Tells versions of the function's code apart, but for comments and layout; empty where there is no source."""
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(self.function)))
        except (OSError, TypeError, SyntaxError):
            return ""
        return blake2b(ast.dump(tree).encode(), digest_size=8).hexdigest()

    async def body(self, args: Plain, kwargs: Plain) -> Plain:
        """Run the function itself on encoded arguments; return its encoded result."""
        context = workflow_context.get()
        assert context is not None  # noqa: S101 -- whoever runs it has set one
        signature = self.signature_for(context.codec)
        decoded_args, decoded_kwargs = signature.decode_call(args, kwargs)
        try:
            if self.timeout is None:
                return signature.encode_result(await self.function(*decoded_args, **decoded_kwargs))
            return signature.encode_result(await self._in_time(decoded_args, decoded_kwargs))
        except ContinueAsNew as new:
            raise ContinueAsNew(*signature.encode_call(*new.args)) from None
        except (Exception, asyncio.CancelledError) as error:
            if context.undos:
                from pyworkflow.authoring.compensation import undo_all

                await undo_all(context, error)
            raise

    async def _in_time(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                return await self.function(*args, **kwargs)
        except TimeoutError:
            if not limit.expired():
                raise  # the function's own
            msg = f"workflow {self.name!r} took longer than its timeout of {self.timeout:g} s"
            raise WorkflowTimeout(msg) from None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Start a run, in a workflow as a child of it, and wait for its result."""
        context = workflow_context.get()
        if context is not None and step_context.get() is None:
            return context.call_child(self, args, kwargs)
        return self._call(args, kwargs)

    async def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        if self.call is None:
            msg = f"workflow {self.name!r} was declared without a decorator, so there is no application to call it on"
            raise DefinitionError(msg)
        return await self.call(self, args, kwargs)  # type: ignore[no-any-return]


@define(eq=False)
class Registry:
    """Workflows and steps by name; applications may share one."""

    workflows: dict[str, Workflow[..., Any]] = Factory(dict)
    steps: dict[str, Step[..., Any]] = Factory(dict)
    at_work: list[Callable[[Any, Any], Coroutine[Any, Any, None]]] = Factory(list)
    """Called with the application and a runtime of it when a process begins to work."""

    def add_workflow(self, workflow: Workflow[..., Any]) -> None:
        """Make *workflow* known.

        Raises:
            DefinitionError: Another one has its name.
        """
        _add(self.workflows, workflow, "workflow")

    def add_step(self, step: Step[..., Any]) -> None:
        """Make *step* known.

        Raises:
            DefinitionError: Another one has its name.
        """
        _add(self.steps, step, "step")


def _add(known: dict[str, Any], new: Any, what: str) -> None:
    old = known.get(new.name)
    if old is not None:
        from pyworkflow.authoring.same_definition import difference_of, place_of  # not needed by most programs

        if differs := difference_of(old.function, new.function):
            msg = f"two {what}s are named {new.name!r}: {place_of(old.function)} and {place_of(new.function)}{differs}"
            raise DefinitionError(msg.replace("{what}", what))
    known[new.name] = new


default_registry = Registry()
