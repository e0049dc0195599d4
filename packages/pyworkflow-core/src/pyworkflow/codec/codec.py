"""The `Codec`: both steps together, compiled for each annotation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_origin

from attrs import define, field

from pyworkflow.codec.refusals import Refused, TooLarge, name_of
from pyworkflow.codec.tag_reader import TagReader
from pyworkflow.codec.tag_writer import TagWriter, cycle_in
from pyworkflow.errors import PayloadTooLarge, Unstorable
from pyworkflow.events import Plain

if TYPE_CHECKING:
    from cattrs import Converter

SHORT = 1000
INT64 = 1 << 63
_READ_DEPTH = 200  # at least: what was stored under a larger limit is read under a smaller one

Encoder = Callable[[Any], Plain]
Decoder = Callable[[Plain], Any]


@define(eq=False, slots=False)
class Codec:
    """Turns values into JSON values and back; nothing is executed or imported on the way back.

    Attributes:
        allow_nan: Whether NaN and infinities may be stored.
        max_bytes: About how long the JSON of one value may be.
        max_depth: How deep containers may be nested in one another.
    """

    allow_nan: bool = True
    max_bytes: int = 2_000_000
    max_depth: int = 40
    _encoders: dict[Any, Encoder] = field(factory=dict, init=False, repr=False)
    _decoders: dict[Any, Decoder] = field(factory=dict, init=False, repr=False)
    signatures: dict[Any, Any] = field(factory=dict, init=False, repr=False)
    """The `Signature` of each definition that was used with this codec; definitions are shared between codecs."""

    @cached_property
    def converter(self) -> Converter:
        """The cattrs converter. Register hooks before the codec is used; each gives what the codec can store."""
        # cattrs takes its time to import, and many need none
        from pyworkflow.codec.converters import strict_converter

        return strict_converter()

    @cached_property
    def _writer(self) -> TagWriter:
        return TagWriter(self.allow_nan, self.max_bytes, self.max_depth)

    @cached_property
    def _reader(self) -> TagReader:
        return TagReader(max(self.max_depth, _READ_DEPTH))

    def encoder(self, annotation: Any = Any) -> Encoder:
        """Return the function that turns values of type *annotation* into JSON values.

        It raises `Unstorable` (`PayloadTooLarge`), with the path to what cannot be stored.
        """
        return cast("Encoder", _compiled(self._encoders, annotation, self._make_encoder))

    def decoder(self, annotation: Any = Any) -> Decoder:
        """Return the function that turns JSON values into values of type *annotation*.

        It raises `Unstorable`, with the path to what does not fit.
        """
        return cast("Decoder", _compiled(self._decoders, annotation, self._make_decoder))

    # -- out -----------------------------------------------------------------------------

    def _make_encoder(self, annotation: Any) -> Encoder:
        if _is_any(annotation):
            return _fast_any(self._guarded(self._writer.write))
        if annotation in _SCALARS:
            return _fast_scalar(annotation, self._guarded(self._by_annotation(annotation)))
        return self._guarded(self._by_annotation(annotation))

    def _by_annotation(self, annotation: Any) -> Callable[[Any], Any]:
        write = self._writer.write
        unstructure: Callable[[Any], Any] | None = None

        def encode(value: Any) -> Any:
            nonlocal unstructure
            if unstructure is None:
                unstructure = self.converter.get_unstructure_hook(annotation)
            return write(unstructure(value))

        return encode

    def _guarded(self, encode: Callable[[Any], Any]) -> Encoder:
        def guarded(value: Any) -> Plain:
            try:
                return cast("Plain", encode(value))
            except TooLarge as refused:
                raise PayloadTooLarge(str(refused)) from None
            except Refused as refused:
                raise Unstorable(str(refused)) from None
            except RecursionError:
                raise Unstorable(_too_deep(value, self.max_depth)) from None
            except NameError as error:
                raise Unstorable(f"an annotation inside its class cannot be resolved: {error}") from error
            except Exception as error:
                raise Unstorable(f"cannot store it: {type(error).__name__}: {error}") from error

        return guarded

    # -- in ------------------------------------------------------------------------------

    def _make_decoder(self, annotation: Any) -> Decoder:
        read = self._reader.read

        def decode_any(plain: Any) -> Any:
            try:
                return read(plain)
            except Refused as refused:
                raise Unstorable(f"cannot read {refused}") from None

        if _is_any(annotation):
            return _fast_any(decode_any)
        structured = self._structured(annotation, decode_any)
        return _fast_scalar(annotation, structured) if annotation in _SCALARS else structured

    def _structured(self, annotation: Any, decode_any: Callable[[Any], Any]) -> Callable[[Any], Any]:
        structure: Callable[[Any, Any], Any] | None = None

        def decode(plain: Any) -> Any:
            nonlocal structure
            value = decode_any(plain)
            try:
                if structure is None:
                    structure = self.converter.get_structure_hook(annotation)
                return structure(value, annotation)
            except Exception as error:  # noqa: BLE001 -- a class of the user's is made, which may raise anything
                msg = f"does not fit its annotation {name_of(annotation)}: {_problems(error)}"
                raise Unstorable(msg) from (None if isinstance(error, Refused) else error)

        return decode


def _is_any(annotation: Any) -> bool:
    return annotation is Any or annotation is object


_SCALARS: frozenset[Any] = frozenset({str, int, bool, NoneType})


def _compiled(cache: dict[Any, Any], annotation: Any, make: Callable[[Any], Any]) -> Any:
    annotation = NoneType if annotation is None else annotation
    try:
        function = cache.get(annotation)
    except TypeError:  # without a hash: Annotated[…] with a list, say, or the args of a ParamSpec
        inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else Any
        return _compiled(cache, inner, make)
    if function is None:
        function = cache[annotation] = make(annotation)
    return function


def _fast_any(slow: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def fast(value: Any) -> Any:
        kind = type(value)
        if kind is str:
            if len(value) < SHORT:
                return value
        elif kind is int:
            if abs(value) < INT64:
                return value
        elif kind is bool or value is None:
            return value
        return slow(value)

    return fast


def _fast_scalar(annotation: Any, slow: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if annotation is str:

        def fast(value: Any) -> Any:
            return value if type(value) is str and len(value) < SHORT else slow(value)
    elif annotation is int:

        def fast(value: Any) -> Any:
            return value if type(value) is int and abs(value) < INT64 else slow(value)
    else:

        def fast(value: Any) -> Any:
            return value if type(value) is annotation else slow(value)

    return fast


def kept_types(annotation: Any) -> frozenset[Any]:
    """Return the types whose values come out of storage as the same objects where they are annotated like that.

    Only short texts do, of fewer than `SHORT` characters, and integers of 64 bits, nearer to 0 than `INT64`.
    """
    if _is_any(annotation):
        return _SCALARS
    kept = NoneType if annotation is None else annotation
    return frozenset([scalar for scalar in _SCALARS if scalar is kept])


def _too_deep(value: Any, max_depth: int) -> str:
    if (cycle := cycle_in(value)) is not None:
        return str(cycle)
    return f"cannot store what is nested deeper than {max_depth} levels, or contains itself"


def _problems(error: BaseException) -> str:
    from pyworkflow.codec.converters import problems

    if isinstance(error, RecursionError):
        return "it is nested too deep"
    first, *more = problems(error)
    problem, _, path = first.rpartition(" @ ")
    where = f" at {path}" if path != "$" else ""
    return problem + where + (f" (and {len(more)} more)" if more else "")
