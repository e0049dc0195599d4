"""Backends by config string: ``local``, ``sqlite:///workflows.db``, ``exponential?base=1s&cap=60s``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from attrs import Factory, frozen

from pyworkflow.config.coercion import did_you_mean, parameters, read
from pyworkflow.config.masking import MASK, is_secret, masked, password, shown
from pyworkflow.errors import ConfigError

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_FORMS = "write name, name?option=value or name://place?option=value, such as local or sqlite:///workflows.db"


@frozen(repr=False, str=False)
class Spec:
    """A config string, taken apart and percent-decoded. As text it is masked.

    Attributes:
        name: What a plugin offers the backend as.
        place: What stands after ``name://`` and before ``?``: ``"/workflows.db"`` for ``sqlite:///workflows.db``.
        options: What stands after ``?``, still as text. A ``+`` is a plus.
    """

    name: str
    place: str = ""
    options: Mapping[str, str] = Factory(dict)

    @classmethod
    def parse(cls, text: Any) -> Spec:
        """Take a config string apart.

        Raises:
            ConfigError: It is not one; the message is masked.
        """
        if not isinstance(text, str):
            msg = f"{shown(text)} is not a config string; {_FORMS}"
            raise ConfigError(msg)
        head, _, query = text.partition("?")
        name, _, place = head.partition("://")
        if not _NAME.fullmatch(name):
            msg = f"{shown(text)} is not a config string; {_FORMS}"
            raise ConfigError(msg)
        options: dict[str, str] = {}
        for part in filter(None, query.split("&")):
            key, equals, value = part.partition("=")
            key = _decoded(key, text)
            if not equals or not key:
                msg = f"in {shown(text)} the option {shown(key or part)} is not of the form option=value"
                raise ConfigError(msg)
            if key in options:
                msg = f"in {shown(text)} the option {key!r} is given twice"
                raise ConfigError(msg)
            options[key] = _decoded(value, text)
        return cls(name, _decoded(place, text), options)

    def __str__(self) -> str:
        place = _quoted(masked(f"{self.name}://{self.place}"), "%?") if self.place else self.name
        options = (
            f"{_quoted(key, '%&=')}={MASK if is_secret(key) else _quoted(masked(value), '%&')}"
            for key, value in self.options.items()
        )
        return "?".join(filter(None, (place, "&".join(options))))

    def __repr__(self) -> str:
        return f"Spec({str(self)!r})"

    def hide(self, text: str) -> str:
        """Return *text*, such as an error that a driver raised, without the secrets of this config string."""
        options = [value for key, value in self.options.items() if is_secret(key)]
        passwords = map(password, (f"{self.name}://{self.place}", *self.options.values()))
        for secret in sorted(filter(None, (*options, *passwords)), key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text


def _decoded(part: str, whole: str) -> str:
    try:
        result = unquote(part, errors="strict")
    except UnicodeDecodeError:
        msg = f"in the config string {shown(whole)} a percent sign does not begin a UTF-8 character; write % as %25"
        raise ConfigError(msg) from None
    if "\0" in result:
        msg = f"the config string {shown(whole)} has a NUL character in it"
        raise ConfigError(msg)
    return result


def _quoted(part: str, special: str) -> str:
    for character in special:  # begins with the percent sign
        part = part.replace(character, f"%{ord(character):02X}")
    return part


@frozen
class Lazy:
    """A factory that imports what it stands for, ``module:name``, when it is first needed."""

    target: str

    def load(self) -> Callable[..., Any]:
        """Import the factory itself."""
        module, _, name = self.target.partition(":")
        factory: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return factory

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Import the factory and call it."""
        return self.load()(*args, **kwargs)


def build(
    factory: Callable[..., T], spec: Spec, kind: str, *, offered: Mapping[str, Any] | None = None, **given: Any
) -> T:
    """Call *factory* with *given*, with the place if it takes one, and with the options as its annotations say.

    Args:
        factory: What a plugin offers under the name in *spec*.
        spec: The config string.
        kind: What errors call it: ``storage``, ``runtime``, ``retry policy``.
        offered: What it is called with if it has a parameter of that name.
        given: What the factory is called with besides.

    Raises:
        ConfigError: It has no such option, an option does not fit its annotation, one is missing, the factory refuses
            them, or its driver is not installed.
    """
    what = f"{kind} {spec.name!r}"
    try:
        if isinstance(factory, Lazy):
            factory = factory.load()
        if offered:
            takes, _ = parameters(factory)
            given |= {name: value for name, value in offered.items() if name in takes}
        return factory(**given, **_options(factory, spec, given, what))
    except ImportError as error:
        msg = f"{what} cannot be used, as something it needs is not installed: {error}"
        raise ConfigError(msg) from error
    except ConfigError as error:
        if str(error).startswith(what):
            raise
        raise _refused(error, spec, what) from None
    except (TypeError, ValueError) as error:
        raise _refused(error, spec, what) from _unless_secret(error, spec)


def _options(factory: Callable[..., Any], spec: Spec, taken: Collection[str], what: str) -> dict[str, Any]:
    known, open_ended = parameters(factory)
    for name in taken:
        known.pop(name, None)
    given: dict[str, Any] = {}
    if known.pop("place", None) is not None:
        given["place"] = spec.place
    elif spec.place:
        msg = f"{what} takes no place, but {str(spec)!r} gives it {shown(spec.place)}"
        raise ConfigError(msg)
    listed = "; ".join(f"{name} ({parameter})" for name, parameter in known.items())
    takes = f"its options are: {listed}" if known else "it takes no options"
    for name, value in spec.options.items():
        if name in taken or (name not in known and not open_ended):
            msg = f"{what} has no option {name!r}{did_you_mean(name, known)}; {takes}"
            raise ConfigError(msg)
        try:
            given[name] = read(value, known[name].type, f"option {name!r}") if name in known else value
        except ConfigError as error:
            msg = f"{what}: {error}; {takes}"
            raise ConfigError(msg) from None
    missing = [name for name, parameter in known.items() if parameter.required and name not in given]
    if missing:
        msg = f"{what} needs the option {', '.join(map(repr, missing))}; {takes}"
        raise ConfigError(msg)
    return given


def _refused(error: Exception, spec: Spec, what: str) -> ConfigError:
    return ConfigError(f"{what}: {spec.hide(str(error))}")


def _unless_secret(error: Exception, spec: Spec) -> Exception | None:
    """Return *error* as a cause to show, or None if its text would show a secret."""
    return error if spec.hide(str(error)) == str(error) else None
