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

from pyworkflow.codec.codec import INT64, SHORT, Codec, Decoder, Encoder, kept_types
from pyworkflow.errors import Unstorable
from pyworkflow.events import Plain

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@frozen
class _Slot:
    """A parameter, or the result. *note* says what is wrong with its annotation, if anything is."""

    what: str
    encode: Encoder
    decode: Decoder
    kept: frozenset[type]  # by `kept_types`
    note: str = ""

    def blame(self, error: Unstorable) -> Unstorable:
        return type(error)(f"{self.what}: {error}{self.note}")


@frozen
class _Compiled:
    """The parameters of a function by the ways in which arguments reach them."""

    positional: tuple[_Slot, ...]
    kept: tuple[frozenset[type], ...]  # those of the positional ones
    required: int  # so many of them have no default
    counts: range  # so many arguments by position make a call, if all are of the positional ones
    more: _Slot | None  # *args
    by_name: Mapping[str, _Slot]
    rest: _Slot | None  # **kwargs
    needs_names: bool  # there is a keyword-only parameter without a default
    result: _Slot
    signature: inspect.Signature


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
        """Whether the call fits, and its arguments come out of storage as the same objects; then encode nothing."""
        made = self._made or self._compile()
        if kwargs or len(args) not in made.counts:
            return False
        for value, kinds in zip(args, made.kept):  # noqa: B905 -- faster so: nothing is called for an argument
            kind = type(value)
            if kind not in kinds:
                return False
            if kind is int:
                if abs(value) >= INT64:
                    return False
            elif kind is str and len(value) >= SHORT:
                return False
        return True

    def decode_call(self, args: Plain, kwargs: Plain) -> tuple[list[Any], dict[str, Any]]:
        """Return what `encode_call` encoded, or what a client sent.

        Raises:
            TypeError: The call does not fit the signature, which may have changed since.
            Unstorable: An argument does not fit its annotation.
        """
        if type(args) is not list or type(kwargs) is not dict:
            raise Unstorable(f"the arguments of {self.what} have to be a list and a dict")
        made = self._made or self._compile()
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
        kind = type(value)
        if kind not in (self._made or self._compile()).result.kept:
            return False
        if kind is int:
            return bool(abs(value) < INT64)
        return kind is not str or len(value) < SHORT

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
        required = sum(parameter.default is Parameter.empty for parameter in by_position)
        needs_names = any(p.kind is Parameter.KEYWORD_ONLY and p.default is Parameter.empty for p in parameters)
        by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        self._made = _Compiled(
            positional=tuple(slots[parameter.name] for parameter in by_position),
            kept=tuple(slots[parameter.name].kept for parameter in by_position),
            required=required,
            counts=range(required, 0 if needs_names else len(by_position) + 1),
            more=next((slots[p.name] for p in parameters if p.kind is Parameter.VAR_POSITIONAL), None),
            by_name={p.name: slots[p.name] for p in parameters if p.kind in by_name},
            rest=next((slots[p.name] for p in parameters if p.kind is Parameter.VAR_KEYWORD), None),
            needs_names=needs_names,
            result=result,
            signature=signature,
        )
        return self._made

    def _slot(self, what: str, annotation: Any, unresolved: str | None) -> _Slot:
        note = f" (its annotation counts as Any: {unresolved})" if unresolved else ""
        codec = self.codec
        return _Slot(what, codec.encoder(annotation), codec.decoder(annotation), kept_types(annotation), note)


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
