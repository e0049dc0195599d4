"""Hooks: how a workflow waits for external events, of a person or another system."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from pyworkflow.authoring.context import HookSpec, in_workflow
from pyworkflow.authoring.primitives import when
from pyworkflow.errors import ConfigError, HookClosed, Unstorable
from pyworkflow.events import Plain

if TYPE_CHECKING:
    from pyworkflow.authoring.inbox import Inbox
    from pyworkflow.codec import Codec

T = TypeVar("T")

_MAX_TOKEN = 1000


class OpenedHook(Generic[T]):
    """A hook of a workflow: await it for its payload, or iterate over it if it takes many.

    Attributes:
        name: What it is called in histories.
        token: What a sender needs, with `pyworkflow.resume_hook`. Whoever knows it may send.
    """

    def __init__(self, name: str, token: str, inbox: Inbox, type_: Any, codec: Codec) -> None:
        self.name = name
        self.token = token
        self._inbox = inbox
        self._type = type_
        self._codec = codec

    def __repr__(self) -> str:
        return f"<hook {self.name!r}>"  # a token is a secret

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for a payload; of a hook that takes many, for the next one.

        Raises:
            HookExpired: None came in time.
            HookTaken: The token is in use by another open hook.
            HookClosed: The workflow has closed it, and no payload is left.
        """
        return self.take().__await__()

    async def take(self) -> T:
        """Wait for a payload, as awaiting the hook itself does."""
        payload = await self._inbox.take()
        try:
            return self._codec.decoder(self._type)(payload)  # type: ignore[no-any-return]
        except Unstorable as error:
            msg = f"the payload of hook {self.name!r} {error}"
            raise Unstorable(msg) from error.__cause__

    def __aiter__(self) -> AsyncIterator[T]:
        if not self._inbox.many:
            msg = f"hook {self.name!r} takes one payload; open it with many=True to iterate over several"
            raise ConfigError(msg)
        return _Payloads(self, self._inbox)

    def close(self) -> None:
        """Take no more payloads; sending one is an error then.

        Payloads that were sent before can still be awaited, and are iterated over; after them, waiting raises
        `HookClosed`.
        """
        self._inbox.close()


class _Payloads(Generic[T]):
    """The payloads of a hook one after the other; a wait that is interrupted, by a timeout say, does not end it."""

    def __init__(self, hook: OpenedHook[T], inbox: Inbox) -> None:
        self._hook = hook
        self._inbox = inbox
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._ended or self._inbox.is_over:
            raise StopAsyncIteration
        try:
            return await self._hook.take()
        except HookClosed:
            raise StopAsyncIteration from None
        except BaseException:
            self._ended = self._inbox.drops  # in a run of 0.1.0, where it was a generator
            raise


@overload
def hook(
    name: str,
    *,
    token: str | None = None,
    timeout: float | str | timedelta | datetime | None = None,
    many: bool = False,
) -> OpenedHook[Any]: ...
@overload
def hook(
    name: str,
    type_: type[T],
    *,
    token: str | None = None,
    timeout: float | str | timedelta | datetime | None = None,
    many: bool = False,
) -> OpenedHook[T]: ...
def hook(
    name: str,
    type_: Any = Any,
    *,
    token: str | None = None,
    timeout: float | str | timedelta | datetime | None = None,
    many: bool = False,
) -> OpenedHook[Any]:
    """Open a hook: somebody outside may now send the workflow a payload, before or after it waits for one.

    Args:
        name: What it is called in histories and lists.
        type_: What payloads have to be; one that does not fit is refused to its sender, and the hook stays open.
        token: What senders need; by default 256 random bits. An own one has to be unique among open hooks.
        timeout: How long it is open, counted from now, or until when; then waiting for it raises `HookExpired`.
        many: Take any number of payloads, in order, until it is closed or the run ends; else one.

    Raises:
        ConfigError: The name or the token is empty or too long, or *timeout* makes no sense.
        WorkflowError: It was called outside a workflow.
    """
    context = in_workflow("hook")
    for what, text in (("name", name), ("token", token)):
        if text is not None and not (isinstance(text, str) and 0 < len(text) <= _MAX_TOKEN):
            msg = f"the {what} of a hook is a text of 1 to {_MAX_TOKEN} characters"
            raise ConfigError(msg)
    delay, until = (None, None) if timeout is None else when(timeout)
    codec = context.codec
    encode = _typed_encoder(type_, codec)
    secret = context.new_token() if token is None else token
    spec = HookSpec(name, type_ is not Any, many, delay, until, own=token is not None)
    return OpenedHook(name, secret, context.open_hook(spec, secret, encode), type_, codec)


def _typed_encoder(type_: Any, codec: Codec) -> Callable[[Any], Plain]:
    """Return what encodes an instance of *type_*, or plain JSON values that make one, and refuses anything else."""
    encode, decode = codec.encoder(type_), codec.decoder(type_)
    if type_ is Any:
        return encode

    def fitting(payload: Any) -> Plain:
        if isinstance(payload, dict | list):  # from a request's body, say
            payload = decode(payload)
        plain = encode(payload)
        decode(plain)
        return plain

    return fitting
