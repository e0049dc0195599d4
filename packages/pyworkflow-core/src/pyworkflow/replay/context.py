"""What a workflow may ask of the run that it is replayed in."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import ref

from pyworkflow.authoring.context import ContinueAsNew, Definition, HookSpec, Undo, token_digest
from pyworkflow.authoring.inbox import Inbox
from pyworkflow.errors import WorkflowError
from pyworkflow.events import RULES, CallStep, OpenHook, Plain, StartChild, StartTimer

if TYPE_CHECKING:
    from pyworkflow.codec import Codec
    from pyworkflow.replay.loop import ReplayLoop
    from pyworkflow.replay.operations import Operations
    from pyworkflow.replay.patches import Patches


class ReplayContext:
    """The `WorkflowContext` of a run that is replayed: each method that waits requests an operation.

    It knows nothing of the machine: what the machine and the workflow share is in the objects that both hold.

    Attributes:
        run_id: What the workflow sees as its run.
        codec: That of the application.
        undos: What to do, last first, if the run fails or is cancelled.
        seed: What chance and the tokens of hooks follow from.
        is_replaying: Whether the workflow only does again what it did before.
        described: The attributes that the workflow has set and that history does not have.
        rules: As `RunStarted.rules`.
    """

    def __init__(self, run_id: str, codec: Codec, loop: ReplayLoop, operations: Operations, patches: Patches) -> None:
        self.run_id = run_id
        self.codec = codec
        self.undos: list[Undo] = []
        self.seed = ""
        self.is_replaying = False
        self.described: list[dict[str, Plain]] = []
        self.rules = RULES
        self._loop = loop
        self._operations = operations
        self._patches = patches

    async def call_step(self, step: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a step run; its result, or its error, is what was recorded."""
        codec = self.codec
        signature = codec.signatures.get(step) or step.signature_for(codec)
        call: tuple[Plain, Plain] = [*args], {}
        if not signature.keeps_call(args, kwargs):
            call = signature.encode_call(args, kwargs)
        result = await self._operations.add(CallStep, (step.name, *call))
        return result if signature.keeps_result(result) else signature.decode_result(result)

    async def sleep(self, delay: float | None, until: datetime | None) -> None:
        """Wait for a durable timer; a time that has passed already is none."""
        if (until is not None and until > self.now()) or (delay is not None and delay > 0):
            await self._operations.add(StartTimer, ("sleep", delay, until))

    async def call_child(self, workflow: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Have a run of *workflow* started, and wait for its result or its error."""
        signature = workflow.signature_for(self.codec)
        plain_args, plain_kwargs = signature.encode_call(args, kwargs)
        return signature.decode_result(
            await self._operations.add(StartChild, (workflow.name, plain_args, plain_kwargs))
        )

    async def start_child(
        self,
        workflow: Definition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        run_id: str | None,
        key: str | None,
    ) -> str:
        """Have a run of *workflow* started; return its id once it exists."""
        plain_args, plain_kwargs = workflow.signature_for(self.codec).encode_call(args, kwargs)
        detached = True
        fields = workflow.name, plain_args, plain_kwargs, run_id or "", key, detached
        started: str = await self._operations.add(StartChild, fields)
        return started

    def new_token(self) -> str:
        """Return a token for a hook that nobody can guess, and replay can."""
        lane = self._loop.lane()
        place = f"{lane.path}/{lane.ops}".encode()
        return urlsafe_b64encode(blake2b(place, key=self.seed.encode()[:64], digest_size=32).digest()).decode()[:43]

    def open_hook(self, spec: HookSpec, token: str, encode: Callable[[Any], Plain]) -> Inbox:
        """Open a hook; its payloads arrive in what is returned."""
        digest = token_digest(token)
        inbox = Inbox(encode, spec.many, spec.name, digest, spec.own, drops=not self.rules)
        fields = spec.name, digest, spec.typed, spec.many, spec.delay, spec.until
        opened = ref(self._operations.add(OpenHook, fields, inbox))  # it holds the inbox: no circle of references

        def abandon() -> None:
            if (pending := opened()) is not None:  # else it was answered
                pending.cancel()

        inbox.on_close = abandon
        return inbox

    def describe(self, attributes: dict[str, Plain]) -> None:
        """Set attributes of the run."""
        self.described.append(attributes)

    def patched(self, change: str) -> bool:
        """Whether this run knows *change*: always, unless it went past this place before the code was changed."""
        return self._patches.ask(change, replaying=self.is_replaying)

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """End this run and go on as a new one."""
        if asyncio.current_task(self._loop) is not self._loop.main:
            msg = "continue_as_new() was called in a task; call it in the workflow's own function, once its tasks ended"
            raise WorkflowError(msg)
        raise ContinueAsNew(args, kwargs)

    def now(self) -> datetime:
        """Return the time of the event that the workflow saw last."""
        return self._loop.now

    def chance(self) -> Random:
        """Return the random source of the current task."""
        return self._loop.lane().chance(self.seed)
