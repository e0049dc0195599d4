"""What a workflow may ask for, as replay carries it out."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from pyworkflow.authoring.context import ContinueAsNew, Definition, HookSpec, token_digest
from pyworkflow.authoring.inbox import Inbox
from pyworkflow.errors import WorkflowError
from pyworkflow.events import CallStep, Command, OpenHook, Plain, StartChild, StartTimer
from pyworkflow.replay.operations import Listener, Pending

if TYPE_CHECKING:
    from pyworkflow.replay.loop import ReplayLoop


class Asking(ABC):
    """The `WorkflowContext` of a run that is replayed: each method that waits is an operation of the run."""

    run_id: str
    _loop: ReplayLoop
    _main: asyncio.Task[Any] | None
    _now: datetime
    _seed: str
    _replaying: bool
    _patches: dict[str, bool]
    _new_patches: list[str]
    _knows: Callable[[str], bool] | None
    _said: list[dict[str, Plain]]

    @abstractmethod
    def ask(self, kind: type[Command], *fields: Any) -> asyncio.Future[Any]:
        """Ask for an operation: a command of *kind*, with these fields after its number."""

    @abstractmethod
    def enlist(self, listener: Listener, kind: type[Command], fields: tuple[Any, ...]) -> Pending:
        """Note that the current task asks for an operation; it is numbered once the workflow has come to rest."""

    @abstractmethod
    def abandon(self, pending: Pending) -> None:
        """Note that nobody waits for *pending* any more."""

    async def call_step(self, step: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a step carried out; its result, or its error, is what was recorded."""
        signature = step.signature
        plain_args, plain_kwargs = signature.encode_call(args, kwargs)
        return signature.decode_result(await self.ask(CallStep, step.name, plain_args, plain_kwargs))

    async def sleep(self, delay: float | None, until: datetime | None) -> None:
        """Wait for a durable timer; a time that has passed already is none."""
        if (until is not None and until > self.now()) or (delay is not None and delay > 0):
            await self.ask(StartTimer, "sleep", delay, until)

    async def call_child(self, workflow: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a run of *workflow* started, and wait for its result or its error."""
        signature = workflow.signature
        plain_args, plain_kwargs = signature.encode_call(args, kwargs)
        return signature.decode_result(await self.ask(StartChild, workflow.name, plain_args, plain_kwargs))

    async def start_child(
        self,
        workflow: Definition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        run_id: str | None,
        key: str | None,
    ) -> str:
        """Have a run of *workflow* started; return its id once it is there."""
        plain_args, plain_kwargs = workflow.signature.encode_call(args, kwargs)
        named = workflow.name, plain_args, plain_kwargs, run_id or "", key
        started: str = await self.ask(StartChild, *named, True)  # noqa: FBT003 -- detached
        return started

    def new_token(self) -> str:
        """Return a token for a hook that nobody can guess, and replay can."""
        lane = self._loop.lane()
        place = f"{lane.path}/{lane.ops}".encode()
        return urlsafe_b64encode(blake2b(place, key=self._seed.encode()[:64], digest_size=32).digest()).decode()[:43]

    def open_hook(self, spec: HookSpec, token: str, encode: Callable[[Any], Plain]) -> Inbox:
        """Open a hook; its payloads arrive in what is returned."""
        digest = token_digest(token)
        inbox = Inbox(encode, spec.many, spec.name, digest, spec.own)
        fields = spec.name, digest, spec.typed, spec.many, spec.delay, spec.until
        pending = self.enlist(inbox, OpenHook, fields)
        inbox.on_close = lambda: self.abandon(pending)
        return inbox

    def describe(self, attributes: dict[str, Plain]) -> None:
        """Say something of the run."""
        self._said.append(attributes)

    @property
    def is_replaying(self) -> bool:
        """Whether the workflow only does again what it did before."""
        return self._replaying

    def patched(self, change: str) -> bool:
        """Whether this run knows *change*: always, unless it went past this place before the code was changed."""
        known = self._patches.get(change)
        if known is None:
            known = self._patches[change] = not self._replaying if self._knows is None else self._knows(change)
            if known:
                self._new_patches.append(change)
        return known

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """End this run and go on as a new one."""
        if asyncio.current_task(self._loop) is not self._main:
            msg = "continue_as_new() was called in a task; call it in the workflow's own function, once its tasks ended"
            raise WorkflowError(msg)
        raise ContinueAsNew(args, kwargs)

    def now(self) -> datetime:
        """Return the time of the event that the workflow saw last."""
        return self._now

    def chance(self) -> Random:
        """Return the random source of the current task."""
        return self._loop.lane().chance(self._seed)
