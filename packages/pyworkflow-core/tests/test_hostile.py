"""What comes out of a storage, a broker or a request runs no code, whatever it is made to look like.

``PYWORKFLOW_HOSTILE=100000`` makes as many of everything.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from attrs import frozen

import pyworkflow
from pyworkflow import App, wire, workflow
from pyworkflow.backends.memory import MemoryStorage
from pyworkflow.cli import main
from pyworkflow.cli.view.output import Exit
from pyworkflow.codec import Codec
from pyworkflow.codec.exceptions import rebuild
from pyworkflow.errors import ConfigError, RunNotFound, StorageError, Unstorable
from pyworkflow.events import Completed, ErrorRecord, RunStarted
from pyworkflow.inspection.export import from_json, to_json
from pyworkflow.model import Run

MANY = int(os.environ.get("PYWORKFLOW_HOSTILE", "2000"))
SOURCES = Path(__file__).parents[3]

T0 = datetime(2026, 1, 1, tzinfo=UTC)


# -- what a hook of the interpreter sees -------------------------------------------------------------

_RUNS_CODE = {
    "import", "exec", "compile", "marshal.loads", "pickle.find_class", "ctypes.dlopen", "subprocess.Popen", "open",
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.remove", "shutil.rmtree", "socket.connect",
}  # fmt: skip
_seen: list[list[str]] = []


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _seen and event in _RUNS_CODE:
        _seen[-1].append(f"{event} {args!r:.100}")


sys.addaudithook(_watch)  # stays for good, and does nothing while nobody looks


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Look at what the interpreter does, and let none of it be the import, opening or running of anything."""
    _seen.append([])
    try:
        yield
    finally:
        events = _seen.pop()
    assert events == []


def test_the_hook_sees_what_runs() -> None:
    with pytest.raises(AssertionError, match=r"os\.system"), nothing_runs():
        os.system("true")  # noqa: S605, S607 -- it is to be seen
    with pytest.raises(AssertionError, match="import"), nothing_runs():
        __import__("this_module_is_not_there") if "this_module_is_not_there" in sys.modules else _import_nothing()


def _import_nothing() -> None:
    with pytest.raises(ImportError):
        __import__("this_module_is_not_there")


# -- values ------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@frozen
class Order:
    name: str
    price: Decimal
    colour: Colour | None = None


TYPES = [
    Any, int, str, bytes, Decimal, datetime, date, time, timedelta, UUID, Path, Colour, Order, Order | Colour | None,
    list[Order], dict[str, Order], tuple[int, ...], set[str], frozenset[int], list[dict[str, Any]], int | str,
]  # fmt: skip

NAMES = [
    "os:system", "os.system", "builtins:eval", "builtins:exec", "builtins.__import__", "subprocess:Popen",
    "antigravity", "importlib",
    "pyworkflow.testing.simulation.faults:Faults", "__main__:x", "pickle:loads", "shutil:rmtree", "sys:exit",
    "posix:system",
    "os:path.__class__", "..", "", ":", "a:", ":a", "\0:\0", "os:system:os", "ctypes:CDLL", "code:interact",
    "builtins:SystemExit", "builtins:KeyboardInterrupt", "builtins:type", "site:main",
]  # fmt: skip

KEYS = [
    "~tuple", "~set", "~bytes", "~path", "~decimal", "~datetime", "~union", "~escaped", "~int", "~float", "~type", "~",
    "~enum", "~class", "~pickle", "~repr", "~~", "~dict", "~frozenset", "~uuid", "~zone", "__type__", "__class__",
    "__reduce__", "py/object", "py/reduce", "$type", "$ref", "!!python/object/apply", "type", "class", "kind", "module",
    "cloudpickle", "value", "args", "__proto__", "__dict__", "__init__", "~timedelta", "~date", "~time", "~complex",
]  # fmt: skip

TEXTS = [
    "", "x", "os.system", "cos\nsystem\n(S'true'\ntR.", "gASVHgAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu",
    "__import__('os').system('true')", "{0.__class__}", "%s%s%n", "${jndi:ldap://127.0.0.1/a}", "../../etc/passwd",
    "'; drop table runs; --", "NaN", "1e999999", "-0", "9" * 500, "\ud800", "\u202e", "\0", "a" * 5000, "P1D", "∞",
    "2026-01-01T00:00:00+00:00", "2026-13-45", "Europe/Berlin", "/etc/localtime", "0x41", "AAAA", "====",
]  # fmt: skip


def hostile(chance: Random, depth: int = 4) -> Any:
    """Return a JSON value that would like to be more than one."""
    roll = chance.random()
    if depth == 0 or roll < 0.3:
        numbers = [0, -1, 10**30, 1.5, float("inf"), float("nan"), True, None]
        return chance.choice([chance.choice(TEXTS), chance.choice(NAMES), chance.choice(numbers)])
    if roll < 0.75:
        size = chance.choice([1, 1, 1, 2, 3])
        keys = [chance.choice(KEYS) if chance.random() < 0.8 else chance.choice(TEXTS) for _ in range(size)]
        return {key: hostile(chance, depth - 1) for key in keys}
    return [hostile(chance, depth - 1) for _ in range(chance.randrange(4))]


def zoned(key: str) -> dict[str, Any]:
    return {"~datetime": ["2026-11-30T00:00:00", key, 0]}


def test_a_time_zone_that_is_not_there_is_not_looked_for_by_importing() -> None:
    decode = Codec().decoder()
    with pytest.raises(Unstorable, match="no time zone"):
        decode(zoned("Nowhere/Here"))
    with nothing_runs():
        for key in ("os", "no/such/zone", "zoneinfo/Europe", "tzdata/evil", "Europe/__init__"):
            with suppress(Unstorable):
                decode(zoned(key))


def test_decoding_hostile_values_runs_nothing_and_raises_only_what_it_says() -> None:
    codec, chance = Codec(), Random(1)
    decoders = [(kind, codec.decoder(kind)) for kind in TYPES]
    values = [hostile(chance) for _ in range(MANY)]
    for _, decode in decoders:  # what is compiled, and looked up, at first use
        for value in [*values[:100], zoned("Nowhere/Here")]:
            with suppress(Unstorable):
                decode(value)
    with nothing_runs():
        for value in values:
            _, decode = chance.choice(decoders)
            with suppress(Unstorable):
                decode(value)


def test_hostile_values_come_back_as_they_were() -> None:
    codec, chance = Codec(allow_nan=True), Random(2)
    encode, decode = codec.encoder(), codec.decoder()
    for _ in range(MANY):
        value = hostile(chance)
        assert repr(decode(json.loads(json.dumps(encode(value))))) == repr(value)


# -- errors of hostile types -------------------------------------------------------------------------


def test_errors_of_hostile_types_are_rebuilt_without_running_anything() -> None:
    chance = Random(3)
    records = [
        ErrorRecord(
            _mangled(chance.choice(NAMES), chance),
            chance.choice(TEXTS),
            [hostile(chance, 2) for _ in range(chance.randrange(3))],
            {chance.choice([*KEYS, "args", "__class__", "__cause__"]): hostile(chance, 2)},
            traceback=chance.choice(TEXTS),
        )
        for _ in range(max(1000, MANY // 2))
    ]
    for record in records[:50]:
        rebuild(record)
    with nothing_runs():
        errors = [rebuild(record) for record in records]
    assert all(isinstance(error, Exception) for error in errors)


def _mangled(name: str, chance: Random) -> str:
    if chance.random() < 0.5:
        return name
    at = chance.randrange(len(name) + 1)
    return name[:at] + chance.choice([".", ":", "__class__", "\0", " ", "é", name]) + name[at:]


# -- stored events, exported runs ----------------------------------------------------------------------


def events_text() -> str:
    return wire.dumps([RunStarted(T0, "flow", [1, {"a": "b"}], {}, "seed"), Completed(T0, 1, {"x": [1, None]})])


def damaged(text: str, chance: Random) -> str:
    """Return *text* with something else in it."""
    match chance.randrange(4):
        case 0:
            at = chance.randrange(len(text))
            return text[:at] + chr(chance.randrange(1, 0x2FF)) + text[at + 1 :]
        case 1:
            return text[: chance.randrange(len(text))]
        case 2:
            return json.dumps(_replaced(json.loads(text), chance), allow_nan=True)
        case _:
            return json.dumps(hostile(chance))


def _replaced(value: Any, chance: Random) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        return {**value, key: _replaced(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], _replaced(value[at], chance), *value[at + 1 :]]
    return hostile(chance, 2)


def documented(read: Callable[[Any], Any], good: str, error: type[Exception], seed: int) -> None:
    chance = Random(seed)
    texts = [damaged(good, chance) for _ in range(MANY)]
    for text in texts[:100]:
        with suppress(error):
            read(text)
    with nothing_runs():
        for text in texts:
            with suppress(error):
                read(text)


def test_damaged_events_are_refused_and_run_nothing() -> None:
    documented(wire.loads, events_text(), StorageError, 4)


def test_damaged_exports_are_refused_and_run_nothing() -> None:
    run = Run("run-1", "flow", T0, length=2)
    documented(from_json, to_json(run, wire.loads(events_text())), ConfigError, 5)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_nothing_but_bytes_that_are_refused(protocol: int) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    data = pickle.dumps(Evil(), protocol)
    with nothing_runs():
        for read, error in ((wire.loads, StorageError), (wire.loads_plain, StorageError), (from_json, ConfigError)):
            with pytest.raises(error):
                read(data)
        decoded = Codec().decoder()({"~bytes": data.hex(), "other": data.decode("latin-1")})
    assert type(decoded) is dict


def test_no_source_of_ours_reads_pickles_or_runs_text() -> None:
    words = ("import pickle", "from pickle", "cloudpickle", "import dill", "import shelve", "marshal.", "yaml.load(",
             "os.system(", "shell=True", "jsonpickle")  # fmt: skip
    # The one that evaluates: annotations of a factory, in the scope of the module that wrote them.
    allowed = {("coercion.py", "eval(")}
    found = []
    for path in SOURCES.glob("packages/*/src/**/*.py"):
        if "check" in path.parts or "testing" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        found += [(path.name, word) for word in words if word in text]
        found += [(path.name, f"{name}(") for name in ("eval", "exec") if _calls(text, name)]
    assert set(found) - allowed == set()


def _calls(text: str, name: str) -> bool:
    return any(f" {name}(" in f" {line}".replace("return ", " ") for line in text.splitlines() if "def " not in line)


# -- names ---------------------------------------------------------------------------------------------


def hostile_names(count: int = 200) -> list[str]:
    """Return names that mean something to shells, paths, SQL, logs and terminals."""
    parts = [
        "../", "..\\", "/etc/passwd", "C:\\", "\0", "\n", "\r\n", "\x1b[31m", "'", '"', "`", "$(true)", ";", "|", "&",
        "--", "-rf", "%00", "%2e%2e", "{}", "{0}", "<script>", "\u202e", "\ufeff", "é", "\u0663", "😀", " ", "", "~",
        "*", "?", "'; drop table runs; --", "#", "\\", "\x7f", "CON", "a" * 201, "\ud800", "run id",
    ]  # fmt: skip
    chance = Random(6)
    names = [*parts, *(part + "x" for part in parts), *("x" + part for part in parts)]
    while len(set(names)) < count:
        names.append("".join(chance.choice(parts) for _ in range(chance.randrange(1, 4))))
    return list(dict.fromkeys(names))


@workflow(name="hostile.nothing")
async def nothing() -> str:
    return "done"


@pytest.mark.asyncio
async def test_hostile_run_ids_and_keys_are_refused_at_the_door_or_are_plain_ids() -> None:
    plain = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:~-")
    refused = 0
    async with App(storage=MemoryStorage(), default_durable=True) as app:
        for name in hostile_names():
            fine = 0 < len(name) <= 200 and set(name) <= plain
            for given in ({"run_id": name}, {"idempotency_key": name}):
                try:
                    await app.start(nothing, **given)
                except (ConfigError, pyworkflow.WorkflowError) as error:
                    refused += 1
                    said = str(error)
                else:
                    said = ""
                assert bool(said) is not fine, name
                assert not {"\x1b", "\n", "\r", "\0"}.intersection(said)
            with pytest.raises((RunNotFound, ConfigError)):
                await app.recorded().run(f"{name}/nobody")
    assert refused > 200


@pytest.mark.parametrize("command", ["show", "history", "cancel", "export"])
def test_a_hostile_name_on_the_command_line_is_a_run_that_is_not_there(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in hostile_names():
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            code = main(["--storage", "memory://", "runs", command, "--", name])
        assert code not in {0, Exit.INTERNAL}, (name, out.getvalue())
        assert not {"\x1b", "\0", "\u202e"}.intersection(out.getvalue()), name
    assert not list(tmp_path.iterdir())
