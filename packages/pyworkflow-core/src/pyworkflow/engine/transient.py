"""Transient runs: the workflow runs on the event loop itself; nothing is stored and nothing is replayed."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from attrs import define, field

from pyworkflow.authoring.context import (
    ContinueAsNew,
    Definition,
    HookSpec,
    StepContext,
    Undo,
    step_context,
    token_digest,
    workflow_context,
)
from pyworkflow.authoring.inbox import Inbox
from pyworkflow.clock import sleep_until
from pyworkflow.codec.exceptions import rebuild, record_of
from pyworkflow.engine.step_runner import StepThreads, attempt, is_being_thrown_away, next_delay
from pyworkflow.errors import HookExpired, HookTaken
from pyworkflow.events import Plain, Posted
from pyworkflow.replay.mismatch import ends_its_process

if TYPE_CHECKING:
    from pyworkflow.authoring.definitions import Workflow
    from pyworkflow.codec import Codec
    from pyworkflow.engine.host import Host


@define(eq=False)
class TransientRun:
    """What a workflow sees of a transient run: real steps, real sleeps, and the errors of a durable one."""

    run_id: str
    app: Host
    threads: StepThreads
    hooks: MutableMapping[str, Inbox] = field(factory=dict)
    undos: list[Undo] = field(factory=list, init=False)
    codec: Codec = field(init=False)
    _ops: int = field(default=0, init=False)
    _opened: list[Inbox] = field(factory=list, init=False)
    _posted: list[Posted] = field(factory=list, init=False)
    _chance: random.Random = field(factory=random.SystemRandom, init=False)

    def __attrs_post_init__(self) -> None:
        self.codec = self.app.codec

    async def run(self, workflow: Workflow[..., Any], args: Any, kwargs: Any) -> Any:
        """Run *workflow* on encoded arguments; return its encoded result, or raise what it raises."""
        token, outside = workflow_context.set(self), step_context.set(None)
        try:
            while True:
                try:
                    return await workflow.body(args, kwargs)
                except ContinueAsNew as new:
                    args, kwargs = new.args
                    self.undos.clear()
                    self._posted += self._close_hooks()
                except (SystemExit, KeyboardInterrupt) as error:
                    raise ends_its_process(error) from error
        finally:
            self._close_hooks()
            step_context.reset(outside)
            workflow_context.reset(token)

    async def call_step(self, step: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry *step* out here, with the values and the errors that a durable run would see."""
        self._ops = op = self._ops + 1
        codec, number = self.codec, 0
        signature = codec.signatures.get(step) or step.signature_for(codec)
        kept = signature.keeps_call(args, kwargs)
        plain_args, plain_kwargs = ([], {}) if kept else signature.encode_call(args, kwargs)
        while True:
            number += 1
            try:
                call_args, call_kwargs = (args, kwargs) if kept else signature.decode_call(plain_args, plain_kwargs)
                context = StepContext(self.run_id, step.name, number, op, app=self.app, is_transient=True)
                threads = None if step.is_async else self.threads.executor()
                result = await attempt(step, call_args, call_kwargs, context, threads)
                if signature.keeps_result(result):
                    return result
                value = signature.encode_result(result)
            except BaseException as error:
                is_cancelled = isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling()  # type: ignore[union-attr]
                if is_cancelled or is_being_thrown_away(error):
                    raise
                policy, retries = self.app.retry_policy(step)
                delay = next_delay(policy, retries, number, error, self.now())
                if delay is None:
                    raise rebuild(record_of(error, retryable=False)) from None
                await asyncio.sleep(delay)
            else:
                return signature.decode_result(value)

    async def call_child(self, workflow: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run *workflow* as its own kind of run, and wait for it."""
        return await self.app.call(workflow, args, kwargs)

    async def start_child(
        self,
        workflow: Definition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        run_id: str | None,
        key: str | None,
    ) -> str:
        """Start a run of *workflow*."""
        handle = await self.app.start(workflow, args, kwargs, run_id=run_id, idempotency_key=key)
        return str(handle.id)

    def new_token(self) -> str:
        """Return 256 random bits."""
        return secrets.token_urlsafe(32)

    def open_hook(self, spec: HookSpec, token: str, encode: Callable[[Any], Plain]) -> Inbox:
        """Open a hook in this process."""
        digest = token_digest(token)
        inbox = Inbox(encode, spec.many, spec.name, digest, spec.own)
        if digest in self.hooks:
            inbox.fail(HookTaken(f"the token of hook {spec.name!r} is in use by another open hook", digest))
            return inbox
        self._opened.append(inbox)
        for posted in [posted for posted in self._posted if inbox.wants(posted)]:
            self._posted.remove(posted)
            inbox.put(posted.value)
            if not inbox.many:
                return inbox
        self.hooks[digest] = inbox
        inbox.on_close = lambda: self._close(digest)
        if spec.delay is not None or spec.until is not None:
            delay = spec.delay if spec.until is None else (spec.until - self.now()).total_seconds()
            asyncio.get_running_loop().call_later(max(0.0, delay or 0.0), self._expire, spec.name, digest, inbox)
        return inbox

    def _close_hooks(self) -> list[Posted]:
        """Close all hooks; return the payloads that nobody read, for the workflow that continues."""
        opened, self._opened = self._opened, []
        for inbox in opened:
            if self.hooks.get(inbox.token) is inbox:
                self._close(inbox.token)
        return [Posted(self.now(), box.name, box.token, value) for box in opened for value in box.unread()]

    def _close(self, digest: str) -> None:
        self.hooks.pop(digest, None)

    def _expire(self, name: str, digest: str, inbox: Inbox) -> None:
        if self.hooks.get(digest) is inbox:
            self._close(digest)
            inbox.fail(HookExpired(f"hook {name!r} was sent nothing in time"))

    def describe(self, attributes: dict[str, Plain]) -> None:
        """Forget it: nothing is known of a transient run to anybody else."""

    @property
    def is_replaying(self) -> bool:
        """Return False: nothing is replayed."""
        return False

    def patched(self, change: str) -> bool:
        """Return True: no run of an older version of the code is in progress."""
        return bool(change)

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """Begin the workflow again."""
        raise ContinueAsNew(args, kwargs)

    async def sleep(self, delay: float | None, until: datetime | None) -> None:
        """Sleep on the event loop, and never too short."""
        if until is not None:
            await sleep_until(until)
        else:
            await asyncio.sleep(max(0.0, delay or 0.0))

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""
        return datetime.now(UTC)

    def chance(self) -> random.Random:
        """Return the system's source of random values."""
        return self._chance
