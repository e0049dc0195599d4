"""Config strings, and backends made by them."""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from pyworkflow.config.config_string import Lazy, Spec, build
from pyworkflow.config.durations import Duration
from pyworkflow.errors import ConfigError

if TYPE_CHECKING:
    from nowhere import Unknown


# -- config strings -------------------------------------------------------------


@pytest.mark.parametrize(
    "text,spec",
    [
        ("local", Spec("local")),
        ("durable-lambda", Spec("durable-lambda")),
        ("memory://", Spec("memory")),
        ("memory?", Spec("memory")),
        ("sqlite:///workflows.db", Spec("sqlite", "/workflows.db")),
        ("sqlite:////abs.db", Spec("sqlite", "//abs.db")),
        ("sqlite:///my%20file%3F.db?synchronous=normal", Spec("sqlite", "/my file?.db", {"synchronous": "normal"})),
        ("dynamodb://table?region=eu-west-1", Spec("dynamodb", "table", {"region": "eu-west-1"})),
        ("fixed?delay=5s&", Spec("fixed", "", {"delay": "5s"})),
        ("x?a=b=c&d=&e=1+1%26%C3%A4", Spec("x", "", {"a": "b=c", "d": "", "e": "1+1&ä"})),
        ("x?url=redis://h:1/0", Spec("x", "", {"url": "redis://h:1/0"})),
    ],
)
def test_config_string_is_taken_apart(text, spec):
    assert Spec.parse(text) == spec


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "'' is not a config string; write name, name?option=value or name://place"),
        ("./workflows.db", "'./workflows.db' is not a config string"),
        ("sqlite:workflows.db", "'sqlite:workflows.db' is not a config string"),
        ("C:\\work\\x.db", "is not a config string"),
        ("://x", "is not a config string"),
        (Path("x.db"), "is not a config string"),
        (None, "None is not a config string"),
        ("x?a", "the option 'a' is not of the form option=value"),
        ("x?=a", "is not of the form option=value"),
        ("x?a=1&a=2", "the option 'a' is given twice"),
        ("x?a=1&%61=2", "the option 'a' is given twice"),
        ("x?a=%ff", "write % as %25"),
        ("x://a%00b", "has a NUL character"),
    ],
)
def test_what_is_no_config_string_is_refused(text, message):
    with pytest.raises(ConfigError) as caught:
        Spec.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text,shown",
    [
        ("redis://user:hunter2@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("redis://user:hun%40ter2/x@host", "redis://user:***@host"),
        ("redis://user@host", "redis://user@host"),
        ("x?password=hunter2&a=1", "x?password=***&a=1"),
        ("x?API_KEY=hunter2&session-token=hunter2", "x?API_KEY=***&session-token=***"),
        ("x?broker=redis%3A%2F%2Fuser%3Ahunter2%40host", "x?broker=redis://user:***@host"),
        ("x://h:1/a?b=c%26d", "x://h:1/a?b=c%26d"),
    ],
)
def test_secrets_are_not_shown(text, shown):
    spec = Spec.parse(text)
    assert str(spec) == shown
    assert repr(spec) == f"Spec({shown!r})"
    for broken in (f"{text}{'&' if '?' in text else '?'}b=1&b=2", f"!{text}"):
        with pytest.raises(ConfigError) as caught:
            Spec.parse(broken)
        assert "hunter2" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_config_string_or_a_config_error(text):
    for candidate in (text, f"x?{text}", f"x://{text}", f"x?password={text}"):
        try:
            spec = Spec.parse(candidate)
        except ConfigError:
            continue
        assert str(spec)
        assert spec.hide("") == ""


@given(
    st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True),
    st.text(st.characters(exclude_characters="\0@", exclude_categories=["Cs"])),
    st.dictionaries(st.sampled_from(["a", "b%", "c&", "d=", "é"]), st.text(st.characters(exclude_characters="\0@"))),
)
def test_what_is_written_is_read_back(name, place, options):
    spec = Spec(name, place, options)
    if "***" not in str(spec):
        assert Spec.parse(str(spec)) == spec


# -- backends -------------------------------------------------------------------


class Level(enum.StrEnum):
    LOW = "low"
    HIGH = "high"


@frozen
class Everything:
    place: str
    flag: bool = False
    count: int = 0
    ratio: float = 0.0
    pause: timedelta = timedelta(0)
    wait: Duration = 0
    mode: Literal["full", "none", 3] = "none"
    level: Level = Level.LOW
    path: Path | None = None
    text: str | None = None
    either: int | str = 0
    names: tuple[str, ...] = ()
    numbers: list[int] = field(factory=list)
    anything: Any = None


def made(text, factory=Everything, **given):
    return build(factory, Spec.parse(text), "storage", **given)


@pytest.mark.parametrize(
    "option,value",
    [
        ("flag=true", True),
        ("flag=1", True),
        ("flag=FALSE", False),
        ("flag=off", False),
        ("count=-3", -3),
        ("ratio=1", 1.0),
        ("pause=1h30m", timedelta(minutes=90)),
        ("wait=5s", timedelta(seconds=5)),
        ("mode=full", "full"),
        ("mode=3", 3),
        ("level=high", Level.HIGH),
        ("path=a/b", Path("a/b")),
        ("text=1", "1"),
        ("either=1", 1),
        ("either=one", "one"),
        ("names=a, b", ("a", "b")),
        ("numbers=1,2", [1, 2]),
        ("anything=x", "x"),
    ],
)
def test_option_is_read_as_its_annotation_says(option, value):
    result = getattr(made(f"x://here?{option}"), option.partition("=")[0])
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "option,needed",
    [
        ("flag=maybe", "true or false"),
        ("count=1.5", "a whole number"),
        ("count=" + "9" * 5000, "a whole number"),
        ("ratio=inf", "a number"),
        ("pause=soon", "a duration such as 30s or 1h30m"),
        ("mode=half", "one of full, none, 3"),
        ("level=mid", "one of low, high"),
        ("path=", "a path"),
        ("numbers=1,x", "a list of a whole number"),
    ],
)
def test_ill_typed_option_is_refused_with_what_there_is(option, needed):
    with pytest.raises(ConfigError) as caught:
        made(f"x://?{option}")
    assert f"storage 'x': option {option.partition('=')[0]!r} is " in str(caught.value)
    assert f", but has to be {needed}; its options are: flag (true or false); count (a whole number)" in str(
        caught.value
    )
    assert len(str(caught.value)) < 800


def test_unknown_option_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"storage 'x' has no option 'cuont' \(did you mean 'count'\?\); its options are: "
    ):
        made("x?cuont=1")


def test_missing_option_is_named():
    def factory(*, region: str) -> str:
        return region

    with pytest.raises(
        ConfigError, match=r"storage 'x' needs the option 'region'; its options are: region \(text, required\)"
    ):
        made("x", factory)


def test_place_is_given_to_whom_takes_one():
    assert made("x://here").place == "here"
    assert made("x").place == ""


def test_place_is_no_option():
    with pytest.raises(ConfigError, match="has no option 'place'"):
        made("x?place=y")


def test_what_is_given_besides_is_no_option():
    def factory(app: object, size: int = 1) -> tuple[object, int]:
        return app, size

    assert made("x?size=2", factory, app="App") == ("App", 2)
    with pytest.raises(ConfigError, match="has no option 'app'; its options are: size"):
        made("x?app=y", factory, app="App")


def test_what_is_offered_is_given_to_whom_takes_it():
    def taking(place: str, *, app: object) -> tuple[str, object]:
        return place, app

    assert build(taking, Spec.parse("acme://here"), "storage", offered={"app": 7}) == ("here", 7)
    assert build(Path, Spec.parse("acme"), "storage", offered={"app": 7}) == Path()
    with pytest.raises(ConfigError, match=r"has no option 'app'; it takes no options"):
        build(taking, Spec.parse("acme://here?app=8"), "storage", offered={"app": 7})


def test_function_method_partial_and_dataclass_serve_as_factories():
    class Thing:
        @classmethod
        def make(cls, size: int = 0) -> int:
            return size

    def two(first: str, size: int) -> tuple[str, int]:
        return first, size

    assert made("x?size=2", Thing.make) == 2
    assert made("x?size=2", functools.partial(two, "a")) == ("a", 2)


def test_annotation_for_type_checkers_alone_takes_text():
    def factory(thing: Unknown | None = None) -> Any:
        return thing

    assert made("x?thing=1", factory) == "1"


def test_factory_of_any_keyword_gets_text():
    def factory(size: int = 0, **more: Any) -> Mapping[str, Any]:
        return {"size": size, **more}

    assert made("x?size=1&other=2", factory) == {"size": 1, "other": "2"}


def test_lazy_factory_is_imported_when_needed():
    assert made("x?delay=5s", Lazy("pyworkflow.backends.retries:Fixed")).pause == timedelta(seconds=5)
    assert Lazy("pyworkflow.backends.retries:Fixed")("5s").pause == timedelta(seconds=5)


def test_missing_driver_is_said():
    def factory() -> None:
        import no_such_driver  # noqa: F401 -- as a plugin's factory does

    with pytest.raises(
        ConfigError, match=r"storage 'x' cannot be used, .* not installed: No module named 'no_such_driver'"
    ):
        made("x", factory)


def test_refusal_of_the_factory_names_the_backend():
    def factory(size: int = 0) -> None:
        msg = f"{size} is odd"
        raise ValueError(msg)

    with pytest.raises(ConfigError, match=r"^storage 'x': 3 is odd$") as caught:
        made("x?size=3", factory)
    assert isinstance(caught.value.__cause__, ValueError)


def test_secret_is_hidden_in_the_refusal_of_the_factory():
    def factory(place: str, password: int | str = "") -> None:
        msg = f"cannot log in at {place} with {password}"
        raise ValueError(msg)

    with pytest.raises(ConfigError) as caught:
        made("x://user:hunter2@host?password=swordfish", factory)
    assert str(caught.value) == "storage 'x': cannot log in at user:***@host with ***"
    assert caught.value.__cause__ is None


def test_ill_typed_secret_is_hidden():
    def factory(token: int = 0) -> int:
        return token

    with pytest.raises(ConfigError, match=r"option 'token' is \*\*\*, but has to be a whole number"):
        made("x?token=hunter2", factory)
