"""The signature of a workflow or step: its arguments and its result, encoded by their annotations."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, cast

from attrs import define, field, frozen

from pyworkflow.codec import Codec, Decoder, Encoder, keeper
from pyworkflow.errors import Unstorable
from pyworkflow.events import Plain

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@frozen
class _Slot:
    """A parameter, or the result. *note* says what is wrong with its annotation, if anything is."""

    what: str
    encode: Encoder
    decode: Decoder
    keeps: Callable[[Any], bool]
    note: str = ""

    def blame(self, error: Unstorable) -> Unstorable:
        return type(error)(f"{self.what}: {error}{self.note}")


@frozen
class _Compiled:
    """The parameters of a function by the ways in which arguments reach them."""

    positional: tuple[_Slot, ...]
    required: int  # so many of them have no default
    more: _Slot | None  # *args
    by_name: Mapping[str, _Slot]
    rest: _Slot | None  # **kwargs
    needs_names: bool  # there is a keyword-only parameter without a default
    result: _Slot
    signature: inspect.Signature
    single: Callable[[Any], bool] | None  # `keeps` of the only parameter, which most steps have


@define(eq=False)
class Signature:
    """How the calls and the results of one function are stored.

    Annotations are looked up at the first use, so they may name what is defined later. One that cannot be resolved,
    because its name is imported under ``TYPE_CHECKING`` only or is local to another function, counts as `Any`.
    Whatever does not fit raises `Unstorable`, which names the argument or the result, and *what* it is of.
    """

    function: Callable[..., Any]
    codec: Codec
    what: str
    _made: _Compiled | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, function: Callable[..., Any], codec: Codec, what: str) -> Signature:
        """Return the signature of *function*; *what* is what messages call it, such as ``step 'charge_card'``."""
        return cls(function, codec, what)

    # -- calls ---------------------------------------------------------------------------

    def encode_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Plain, Plain]:
        """Return the arguments as JSON: a list and a dict.

        Raises:
            TypeError: The call does not fit the signature.
            Unstorable: An argument cannot be stored.
        """
        made = self._made or self._compile()
        if made.single is not None and len(args) == 1 and not kwargs and made.single(args[0]):
            return [args[0]], {}
        self._check(made, args, kwargs)
        out: list[Any] = []
        slot: _Slot | None = None
        try:
            for slot, value in zip(made.positional, args, strict=False):
                out.append(slot.encode(value))
            if made.more is not None:
                slot = made.more
                out += [slot.encode(value) for value in args[len(made.positional) :]]
            if not kwargs:
                return out, {}
            named = {}
            for name, value in kwargs.items():
                slot = _named(made, name)
                named[name] = slot.encode(value)
        except Unstorable as error:
            raise cast("_Slot", slot).blame(error) from error.__cause__
        return out, named

    def keeps_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether the call fits, and its arguments come out of storage as the same objects."""
        made = self._made or self._compile()
        positional = made.positional
        if made.single is not None and len(args) == 1 and not kwargs:
            return made.single(args[0])
        if kwargs or made.needs_names or not made.required <= len(args) <= len(positional):
            return False
        for slot, value in zip(positional, args):  # noqa: B905, SIM110 -- faster so, and this is all about that
            if not slot.keeps(value):
                return False
        return True

    def decode_call(self, args: Plain, kwargs: Plain) -> tuple[list[Any], dict[str, Any]]:
        """Return what `encode_call` encoded, or what a client sent.

        Raises:
            TypeError: The call does not fit the signature, which may have changed since.
            Unstorable: An argument does not fit its annotation.
        """
        made = self._made or self._compile()
        if type(args) is not list or type(kwargs) is not dict:
            raise Unstorable(f"the arguments of {self.what} have to be a list and a dict")
        if made.single is not None and len(args) == 1 and not kwargs and made.single(args[0]):
            return [args[0]], {}
        self._check(made, args, kwargs)
        out: list[Any] = []
        slot: _Slot | None = None
        try:
            for slot, plain in zip(made.positional, args, strict=False):
                out.append(slot.decode(plain))
            if made.more is not None:
                slot = made.more
                out += [slot.decode(plain) for plain in args[len(made.positional) :]]
            named = {}
            for name, plain in kwargs.items():
                slot = _named(made, name)
                named[name] = slot.decode(plain)
        except Unstorable as error:
            raise cast("_Slot", slot).blame(error) from error.__cause__
        return out, named

    def round_trip_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments as a step would see them after they were stored."""
        return self.decode_call(*self.encode_call(args, kwargs))

    def _check(self, made: _Compiled, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        fits = made.required <= len(args) and (len(args) <= len(made.positional) or made.more is not None)
        if fits and not kwargs and not made.needs_names:
            return
        try:
            made.signature.bind(*args, **kwargs)
        except TypeError as error:
            msg = f"{self.what} cannot be called like this: {error}; it is {self.function.__name__}{made.signature}"
            raise TypeError(msg) from None

    # -- results -------------------------------------------------------------------------

    def keeps_result(self, value: Any) -> bool:
        """Whether *value* comes out of storage as the same object, so that nothing need be encoded where it stays."""
        return (self._made or self._compile()).result.keeps(value)

    def encode_result(self, value: Any) -> Plain:
        """Return *value* as JSON.

        Raises:
            Unstorable: It cannot be stored.
        """
        slot = (self._made or self._compile()).result
        try:
            return slot.encode(value)
        except Unstorable as error:
            raise slot.blame(error) from error.__cause__

    def decode_result(self, plain: Plain) -> Any:
        """Return what `encode_result` encoded.

        Raises:
            Unstorable: It does not fit the annotation.
        """
        slot = (self._made or self._compile()).result
        try:
            return slot.decode(plain)
        except Unstorable as error:
            raise slot.blame(error) from error.__cause__

    def round_trip_result(self, value: Any) -> Any:
        """Return *value* as a workflow would see it after it was stored."""
        return self.decode_result(self.encode_result(value))

    # -- compiling -----------------------------------------------------------------------

    def _compile(self) -> _Compiled:
        signature = inspect.signature(self.function)
        hints, unresolved = _hints(self.function)
        slots: dict[str, _Slot] = {}
        for name, parameter in signature.parameters.items():
            annotation = hints.get(name, Any)
            if typing.get_origin(annotation) is typing.Unpack:  # **kwargs: Unpack[SomeTypedDict]
                annotation = Any
            if parameter.default is None and annotation is not Any:
                annotation = typing.Optional[annotation]  # noqa: UP045 -- a value, and not every annotation knows |
            slots[name] = self._slot(f"argument {name!r} of {self.what}", annotation, unresolved.get(name))
        result = self._slot(f"the result of {self.what}", hints.get("return", Any), unresolved.get("return"))
        parameters = signature.parameters.values()
        by_position = [parameter for parameter in parameters if parameter.kind in _BY_POSITION]
        by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        self._made = _Compiled(
            positional=tuple(slots[parameter.name] for parameter in by_position),
            required=sum(parameter.default is Parameter.empty for parameter in by_position),
            more=next((slots[p.name] for p in parameters if p.kind is Parameter.VAR_POSITIONAL), None),
            by_name={p.name: slots[p.name] for p in parameters if p.kind in by_name},
            rest=next((slots[p.name] for p in parameters if p.kind is Parameter.VAR_KEYWORD), None),
            needs_names=any(p.kind is Parameter.KEYWORD_ONLY and p.default is Parameter.empty for p in parameters),
            result=result,
            signature=signature,
            single=slots[by_position[0].name].keeps if len(parameters) == len(by_position) == 1 else None,
        )
        return self._made

    def _slot(self, what: str, annotation: Any, unresolved: str | None) -> _Slot:
        note = f" (its annotation counts as Any: {unresolved})" if unresolved else ""
        codec = self.codec
        return _Slot(what, codec.encoder(annotation), codec.decoder(annotation), keeper(annotation), note)


def required_parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters of *function* that every call has to give."""
    parameters = inspect.signature(function).parameters.values()
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is Parameter.empty
        and parameter.kind not in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
    ]


def _named(made: _Compiled, name: str) -> _Slot:
    return made.by_name.get(name) or cast("_Slot", made.rest)


def _hints(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the annotations of *function*, and why some of them, which are left out, cannot be resolved."""
    with suppress(Exception):  # an annotation can be any expression; if one fails, look at each alone
        return typing.get_type_hints(function, include_extras=True), {}
    hints, unresolved = {}, {}
    inner = inspect.unwrap(function)
    for name, annotation in inner.__annotations__.items():
        alone = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints.update(typing.get_type_hints(alone, inner.__globals__, include_extras=True))
        except Exception as error:  # noqa: BLE001 -- the same
            unresolved[name] = f"{annotation!r} cannot be resolved, {error}"
    return hints, unresolved
