"""Standard Python values from JSON values: the way back. What the tags mean is in `tags`."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

from attrs import frozen

from pyworkflow.codec.refusals import Refused, describe
from pyworkflow.codec.tags import looks_like_a_tag
from pyworkflow.codec.zones import zone


@frozen(eq=False)
class TagReader:
    """Reads what `TagWriter` wrote, into new containers throughout.

    Attributes:
        max_depth: How many levels of containers there may be.
    """

    max_depth: int

    def read(self, plain: Any) -> Any:
        """Return the value that a JSON value stands for.

        Raises:
            Refused: It cannot be read; the path is in it.
        """
        return self._read(plain, self.max_depth)

    def _read_items(self, plain: Any, depth: int) -> list[Any]:
        if not depth:
            raise Refused(f"what is nested deeper than {self.max_depth} levels is not read")
        out: list[Any] = []
        try:
            for item in plain:
                out.append(item if type(item) is str or type(item) is int else self._read(item, depth - 1))  # noqa: PERF401 -- its length tells where
        except Refused as refused:
            refused.within(len(out))
            raise
        return out

    def _read_dict(self, plain: dict[str, Any], depth: int) -> Any:
        if not depth:
            raise Refused(f"what is nested deeper than {self.max_depth} levels is not read")
        if len(plain) == 1 and looks_like_a_tag(plain):
            ((tag, body),) = plain.items()
            return self._read_tag(tag, body, depth)
        out: dict[str, Any] = {}
        key = ""
        try:
            for key, item in plain.items():
                out[key] = item if type(item) is str or type(item) is int else self._read(item, depth - 1)
        except Refused as refused:
            refused.within(key)
            raise
        return out

    def _read_tag(self, tag: str, body: Any, depth: int) -> Any:
        if tag in ("~set", "~frozenset", "~tuple") and type(body) is list:
            make: Callable[[list[Any]], Any] = {"~set": set, "~frozenset": frozenset, "~tuple": tuple}[tag]
            try:
                return make(self._read_items(body, depth))
            except TypeError as error:
                raise Refused(f"a damaged {tag!r}: {error}") from None
        if tag == "~dict" and type(body) is list and all(type(pair) is list and len(pair) == 2 for pair in body):  # noqa: PLR2004
            try:
                return {self._read(key, depth - 1): self._read(item, depth - 1) for key, item in body}
            except TypeError as error:
                raise Refused(f"a damaged {tag!r}: {error}") from None
        parse = _LEAVES.get(tag)
        if parse is None:
            if tag in ("~set", "~frozenset", "~tuple", "~dict"):
                raise Refused(f"a damaged {tag!r}")
            raise Refused(f"an unknown tag {tag!r}", "a newer version may have written it")
        try:
            return parse(body)
        except Exception as error:  # noqa: BLE001 -- the body can be anything, and so can the complaint
            raise Refused(f"a damaged {tag!r}: {error}") from None

    def _read(self, plain: Any, depth: int) -> Any:
        kind = type(plain)
        if kind is dict:
            return self._read_dict(plain, depth)
        if kind is list:
            return self._read_items(plain, depth)
        if kind in _JSON_SCALARS:
            return plain
        raise Refused(f"what is not JSON: {describe(plain)[0].removeprefix('cannot store ')}")


_JSON_SCALARS = frozenset({str, int, float, bool, type(None)})


def _zoned(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read_time(body: Any) -> Any:
        if type(body) is str:
            return parse(body)
        text, key, fold = body
        if key is None:
            return parse(text).replace(fold=fold)
        return parse(text).replace(tzinfo=zone(key), fold=fold)

    return read_time


def _text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read_text(body: Any) -> Any:
        if type(body) is not str:
            raise TypeError(f"expected a string, got {body!r:.40}")
        return parse(body)

    return read_text


def _timedelta(body: Any) -> timedelta:
    days, seconds, microseconds = body
    return timedelta(days, seconds, microseconds)


def _complex(body: Any) -> complex:
    real, imaginary = (_LEAVES["~float"](part["~float"]) if type(part) is dict else float(part) for part in body)
    return complex(real, imaginary)


_LEAVES: dict[str, Callable[[Any], Any]] = {
    "~int": _text(lambda text: int(text, 16)),
    "~float": {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.__getitem__,
    "~bytes": _text(lambda text: b64decode(text, validate=True)),
    "~bytearray": _text(lambda text: bytearray(b64decode(text, validate=True))),
    "~datetime": _zoned(datetime.fromisoformat),
    "~time": _zoned(time.fromisoformat),
    "~date": _text(date.fromisoformat),
    "~timedelta": _timedelta,
    "~decimal": _text(Decimal),
    "~uuid": _text(UUID),
    "~path": _text(Path),
    "~posixpath": _text(PurePosixPath),
    "~windowspath": _text(PureWindowsPath),
    "~complex": _complex,
}
