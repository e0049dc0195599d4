"""What a workflow or a step sees of the run it belongs to: two context variables, and what they may hold."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import datetime
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from attrs import define, field, frozen

from pyworkflow.errors import NotInWorkflow, WorkflowError

if TYPE_CHECKING:
    from pyworkflow.authoring.inbox import Inbox
    from pyworkflow.codec import Codec
    from pyworkflow.codec.signature import Signature
    from pyworkflow.events import Plain


class ContinueAsNew(BaseException):
    """Leaves a workflow that goes on as a new run; its args are the new run's arguments."""


@frozen
class HookSpec:
    """What a workflow says of a hook; it expires after *delay* seconds or at *until*, if it does.

    With *own*, its token is the workflow's own, and not one by default.
    """

    name: str
    typed: bool = False
    many: bool = False
    delay: float | None = None
    until: datetime | None = None
    own: bool = False


class Definition(Protocol):
    """A workflow or step, as far as a context needs it."""

    name: str
    function: Callable[..., Any]

    def signature_for(self, codec: Codec) -> Signature:
        """Return how its arguments and its result are stored by *codec*."""


@frozen
class Undo:
    """A step, bound to its arguments, that undoes one that was completed."""

    step: Definition
    kwargs: dict[str, Any]


def token_digest(token: str) -> str:
    """Return what is stored of a hook's token."""
    return sha256(token.encode()).hexdigest()


class WorkflowContext(Protocol):
    """How a workflow reaches what runs it; one implementation replays, another one does not.

    Attributes:
        run_id: The run's id.
        undos: What to do, last first, if the run fails or is cancelled.
    """

    run_id: str
    undos: list[Undo]

    @property
    def codec(self) -> Codec:
        """Return the codec of the application."""

    def call_step(self, step: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Return a coroutine that requests *step* and gives its result."""

    def call_child(
        self, workflow: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Return a coroutine that runs *workflow* as a child and gives its result."""

    def start_child(
        self,
        workflow: Definition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        run_id: str | None,
        key: str | None,
    ) -> Coroutine[Any, Any, str]:
        """Return a coroutine that starts a run of *workflow* on its own and gives its id."""

    def new_token(self) -> str:
        """Return a token that nobody can guess."""

    def open_hook(self, spec: HookSpec, token: str, encode: Callable[[Any], Plain]) -> Inbox:
        """Open a hook; *encode* refuses payloads that do not fit it."""

    def describe(self, attributes: dict[str, Plain]) -> None:
        """Say something of the run."""

    @property
    def is_replaying(self) -> bool:
        """Whether the workflow only does again what it did before."""

    def patched(self, change: str) -> bool:
        """Whether the run knows a change of the code."""

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """End the run and go on as a new one."""

    def sleep(self, delay: float | None, until: datetime | None) -> Coroutine[Any, Any, None]:
        """Return a coroutine that ends *delay* seconds from now, or at *until*."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""

    def chance(self) -> Random:
        """Return the source of random values."""


workflow_context: ContextVar[WorkflowContext | None] = ContextVar("pyworkflow_workflow", default=None)


def in_workflow(name: str) -> WorkflowContext:
    """Return the context of the workflow that this code belongs to.

    Raises:
        WorkflowError: It does not belong to any; *name* is what it called.
    """
    context = workflow_context.get()
    if context is None or step_context.get() is not None:
        msg = f"pyworkflow.{name}() was called outside a workflow, where it means nothing"
        raise WorkflowError(msg)
    return context


def outside_workflow(what: str) -> None:
    """Refuse to do I/O in a workflow.

    Raises:
        NotInWorkflow: This code belongs to a workflow.
    """
    if workflow_context.get() is not None and step_context.get() is None:
        msg = f"{what} was called in a workflow: it would not be replayed after a crash; put this into a @step"
        raise NotInWorkflow(msg)


@define
class StepContext:
    """The attempt of a step that is running.

    Attributes:
        run_id: The run that asked for the step.
        step: The step's name.
        attempt: The number of this attempt, from 1.
        op: The number of the operation that it is an attempt of.
        cancelled: Nobody waits for the result any more. A sync step, which cannot be interrupted, may look at it.
        on_heartbeat: What `heartbeat` does.
        app: The application that the functions of the package stand for here; None: the default one.
        is_transient: The run is not recorded, and anybody may have chosen its id.
    """

    run_id: str
    step: str
    attempt: int
    op: int
    cancelled: bool = field(default=False)
    on_heartbeat: Callable[[], None] | None = field(default=None, repr=False)
    app: Any = field(default=None, repr=False)
    is_transient: bool = False

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts, over crashes too, and for nothing else: hand it to services that take one.

        That of a transient run is never that of a durable one.
        """
        return f"{'transient/' if self.is_transient else ''}{self.run_id}/{self.op}"

    def heartbeat(self) -> None:
        """Show that the attempt goes on; for steps that were declared with ``heartbeat=``. From any thread."""
        if self.on_heartbeat is not None:
            self.on_heartbeat()


step_context: ContextVar[StepContext | None] = ContextVar("pyworkflow_step", default=None)
