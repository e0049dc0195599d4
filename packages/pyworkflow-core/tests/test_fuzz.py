"""Whatever is typed or found in a file: it is read, or refused by an exception that the documentation names.

``PYWORKFLOW_FUZZ=100000`` tries as many of each.
"""

from __future__ import annotations

import io
import json
import os
import shlex
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyworkflow import App, wire
from pyworkflow.authoring.primitives import when
from pyworkflow.cli import main
from pyworkflow.cli.view.output import Exit
from pyworkflow.codec.exceptions import record_of
from pyworkflow.config.config_string import Spec
from pyworkflow.config.durations import delta, seconds
from pyworkflow.errors import ConfigError, StorageError
from pyworkflow.events import (
    CallStep,
    Completed,
    Failed,
    Fired,
    OpenHook,
    Requested,
    Retrying,
    RunStarted,
    StartChild,
    StartTimer,
)
from pyworkflow.inspection.export import from_json, to_json
from pyworkflow.model import Run
from pyworkflow.plugins.kinds import RETRY_POLICY, STORAGE

MANY = int(os.environ.get("PYWORKFLOW_FUZZ", "2000"))
T0 = datetime(2026, 1, 1, tzinfo=UTC)

many = settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck), derandomize=MANY == 2000)
slow = pytest.mark.timeout(3600)

words = st.sampled_from(
    ["local", "memory", "sqlite", "exponential", "fixed", "none", "://", "?", "&", "=", "%", "%00", "%zz", "base",
     "cap", "lease", "sweep", "1s", "-1", "nan", "1e309", "..", "/", "\0", "@", ":", "password", "secret", "user:pw@h",
     "∞"]
)  # fmt: skip
config_strings = st.one_of(st.text(max_size=60), st.lists(words, max_size=8).map("".join))


@slow
@many
@given(config_strings)
def test_a_config_string_is_read_or_refused(text: str) -> None:
    with suppress(ConfigError):
        spec = Spec.parse(text)
        assert Spec.parse(str(spec)).name == spec.name


@slow
@many
@given(config_strings, st.sampled_from(["exponential", "fixed", "none", "memory", ""]))
def test_a_backend_is_made_or_refused(text: str, name: str) -> None:
    with suppress(ConfigError):
        plugins.make(STORAGE if name == "memory" else RETRY_POLICY, name + text)


plugins = App(storage="memory://").plugins

pieces = st.sampled_from(["1", "0", "-", ".", "5", "h", "m", "s", "ms", "day", "days", " ", "P", "T", "e9", "\u0663"])
durations = st.one_of(
    st.text(max_size=20),
    st.lists(pieces, max_size=6).map("".join),
    st.floats(),
    st.integers(),
    st.timedeltas(),
    st.datetimes(),
    st.none(),
    st.booleans(),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=2),
)


@slow
@many
@given(durations)
def test_a_duration_is_read_or_refused(value: Any) -> None:
    for read in (seconds, delta, when):
        with suppress(ConfigError):
            read(value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
EVENTS = [
    RunStarted(T0, "flow", [1], {"a": None}, "seed"),
    Requested(T0, CallStep(1, "step", [], {})),
    Requested(T0, StartTimer(2, "sleep", 1.5)),
    Requested(T0, OpenHook(3, "hook", "0" * 64, delay=3.0)),
    Requested(T0, StartChild(4, "flow", [], {})),
    Retrying(T0, 1, 1, record_of(OSError("no")), T0 + timedelta(1)),
    Completed(T0, 1, {"x": 1}),
    Failed(T0, 4, record_of(ValueError("x"))),
    Fired(T0, 2),
]


@st.composite
def changed(draw: Any, value: Any) -> Any:
    """Draw a JSON value that was *value* before something of it was replaced, left out, or put in twice."""
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 5)):
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: draw(changed(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value) - 1))
        if not draw(st.integers(0, 5)):
            return [*value, value[at]]
        return [*value[:at], draw(changed(value[at])), *value[at + 1 :]]
    return draw(plain)


@slow
@many
@given(st.one_of(changed(json.loads(wire.dumps(EVENTS))).map(json.dumps), st.text(), st.binary()))
def test_stored_events_are_read_or_refused(text: str | bytes) -> None:
    with suppress(StorageError):
        for event in wire.loads(text):
            wire.dumps([event])


EXPORTED = to_json(Run("run-1", "flow", T0, length=len(EVENTS)), EVENTS)


@slow
@many
@given(st.one_of(changed(json.loads(EXPORTED)).map(json.dumps), st.text(), st.binary()))
def test_an_exported_run_is_read_or_refused(text: str | bytes) -> None:
    with suppress(ConfigError):
        run, events = from_json(text)
        assert run.length == len(events)


arguments = st.lists(
    st.one_of(
        st.sampled_from(
            ["runs", "list", "show", "history", "cancel", "terminate", "retry", "purge", "export", "import", "hooks",
             "schedules", "plugins", "replay", "check", "storage", "completion", "--help", "-h", "--version", "-v",
             "--json", "--storage", "memory://", "sqlite:///no/such/folder/x.db", "--runtime", "local", "--status",
             "completed", "--limit", "-1", "0", "--output", "-", "--", "no-such-run", "send", "bash", "--before"]
        ),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),  # no system passes NUL
    ),
    max_size=5,
)  # fmt: skip


@slow
@many
@given(arguments)
def test_a_command_line_ends_with_an_exit_code_that_is_documented(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    # What waits for something, or starts a server, is not for here.
    words = [word for word in words if word not in {"worker", "run", "init"}]
    folder, out = tmp_path_factory.getbasetemp() / "command-lines", io.StringIO()
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(out):
        patched.chdir(folder)
        patched.setenv("PYWORKFLOW_STORAGE", "memory://")
        code = main(words)
    said = f"pyworkflow {shlex.join(words)}: {code}: {out.getvalue()}"
    assert code in {code for code in Exit if code != Exit.INTERNAL}, said
    wanted = any(word.startswith("-v") for word in words)  # then tracebacks are shown
    assert wanted or "Traceback" not in out.getvalue(), said
    assert not list(Path(folder).glob("pyworkflow.db*"))
