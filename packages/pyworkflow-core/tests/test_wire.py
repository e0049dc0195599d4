import contextlib
import json
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyworkflow import wire
from pyworkflow.errors import StorageError
from pyworkflow.events import (
    Attempted,
    CallStep,
    CancelRequested,
    Command,
    Completed,
    ErrorRecord,
    Event,
    Failed,
    Fired,
    Requested,
    Retrying,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRetried,
    RunStarted,
    RunTerminated,
    StartTimer,
)
from pyworkflow.model import StepCall

AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
LATER = datetime(2026, 1, 3, tzinfo=UTC)
T = '"at":"2026-01-02T03:04:05.000006+00:00"'
ERROR = ErrorRecord("builtins:ValueError", "no", ["no"])
E = '{"type":"builtins:ValueError","message":"no","args":["no"]}'
DEEP = ErrorRecord("a:B", "m", [], {"x": 1}, "tb", retryable=False, cause=ERROR, group=(ERROR, ERROR))
D = (
    '{"type":"a:B","message":"m","args":[],"state":{"x":1},"traceback":"tb","retryable":false,'
    f'"cause":{E},"group":[{E},{E}]}}'
)
GOLDEN = [
    (RunStarted(AT, "w", [1], {}, "seed"), f'"run_started",{T},"workflow":"w","args":[1],"kwargs":{{}},"seed":"seed"'),
    (
        Requested(AT, CallStep(1, "s", ["é"], {"k": None})),
        f'"requested",{T},"command":{{"op":1,"name":"s","args":["\\u00e9"],"kwargs":{{"k":null}},"kind":"step"}}',
    ),
    (
        Requested(AT, StartTimer(2, "sleep", 1.5)),
        f'"requested",{T},"command":{{"op":2,"name":"sleep","delay":1.5,"kind":"timer"}}',
    ),
    (
        Requested(AT, StartTimer(2, "sleep", until=LATER)),
        f'"requested",{T},"command":{{"op":2,"name":"sleep","until":"2026-01-03T00:00:00+00:00","kind":"timer"}}',
    ),
    (Completed(AT, 1, {"~tuple": [1]}), f'"completed",{T},"op":1,"value":{{"~tuple":[1]}}'),
    (Failed(AT, 1, DEEP), f'"failed",{T},"op":1,"error":{D}'),
    (Fired(AT, 2), f'"fired",{T},"op":2'),
    (Attempted(AT, 1, 2), f'"attempted",{T},"op":1,"attempt":2'),
    (
        Retrying(AT, 1, 2, ERROR, LATER),
        f'"retrying",{T},"op":1,"attempt":2,"error":{E},"due":"2026-01-03T00:00:00+00:00"',
    ),
    (CancelRequested(AT), f'"cancel_requested",{T}'),
    (CancelRequested(AT, "why"), f'"cancel_requested",{T},"reason":"why"'),
    (RunCompleted(AT, None), f'"run_completed",{T},"value":null'),
    (RunFailed(AT, ERROR), f'"run_failed",{T},"error":{E}'),
    (RunFailed(AT, ERROR, 3), f'"run_failed",{T},"error":{E},"op":3'),
    (RunCancelled(AT), f'"run_cancelled",{T}'),
    (RunTerminated(AT, "why"), f'"run_terminated",{T},"reason":"why"'),
    (RunBlocked(AT, ERROR), f'"run_blocked",{T},"error":{E}'),
    (RunRetried(AT), f'"run_retried",{T}'),
    (RunRetried(AT, 5), f'"run_retried",{T},"cut":5'),
]


STORED_BY_0_1_0 = (
    "run_started requested completed failed fired received posted patched described abandoned child_continued "
    "handed_out attempted retrying cancel_requested run_completed run_failed run_cancelled run_terminated "
    "run_continued run_blocked run_retried"
)


def test_every_event_and_command_has_one_stored_name():
    for union, names in ((Event, wire.EVENT_NAMES), (Command, wire.COMMAND_NAMES)):
        assert names.keys() == {*get_args(union)}
        assert len({*names.values()}) == len(names)


def test_stored_names_are_those_of_0_1_0():
    assert " ".join(wire.EVENT_NAMES.values()) == STORED_BY_0_1_0
    assert " ".join(wire.COMMAND_NAMES.values()) == "step timer hook child"


@pytest.mark.parametrize("event, text", GOLDEN)
def test_the_text_of_each_event(event, text):
    written = wire.dumps([event])
    assert json.loads(written) == json.loads(f'{{"spec":1,"events":[{{"type":{text}}}]}}')
    assert wire.loads(written) == [event]


def test_events_are_compact_ascii_in_their_order():
    text = wire.dumps([Fired(AT, 1), Completed(AT, 2, "\ud800é")])
    assert text.isascii()
    fired = f'{{{T},"op":1,"type":"fired"}}'
    completed = f'{{{T},"op":2,"value":"\\ud800\\u00e9","type":"completed"}}'
    assert text == f'{{"spec":1,"events":[{fired},{completed}]}}'
    assert wire.loads(text.encode()) == wire.loads(text) == [Fired(AT, 1), Completed(AT, 2, "\ud800é")]


def test_values_pass_through_untouched():
    value = {"type": "completed", "kind": "step", "at": "2026-01-01", "~tuple": [], "deep": [{"op": None}]}
    (event,) = wire.loads(wire.dumps([Completed(AT, 1, value)]))
    assert event.value == value


def test_a_newer_spec_is_refused():
    with pytest.raises(StorageError, match=r"written by a newer pyworkflow \(spec 2; this one reads up to 1\)"):
        wire.loads('{"spec":2,"events":[{"type":"unheard of"}]}')


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "damaged JSON"),
        ("[]", "no spec"),
        ('{"events":[]}', "no spec"),
        ('{"spec":true,"events":[]}', "no spec"),
        ('{"spec":1}', "'events' is missing"),
        ('{"spec":1,"events":[1]}', "damaged events"),
        ('{"spec":1,"events":[{"type":"nonsense"}]}', "'nonsense' is missing or unknown"),
        ('{"spec":1,"events":[{"type":[]}]}', "damaged events"),
        ('{"spec":1,"events":[{"type":"fired","op":1}]}', "'at' is missing"),
        ('{"spec":1,"events":[{"type":"fired","at":"2026-01-01","op":1}]}', "has no time zone"),
        ('{"spec":1,"events":[{"type":"fired","at":7,"op":1}]}', "damaged events"),
        (f'{{"spec":1,"events":[{{"type":"fired",{T},"op":"1"}}]}}', "'1' is no int"),
        (f'{{"spec":1,"events":[{{"type":"fired",{T},"op":true}}]}}', "True is no int"),
        (f'{{"spec":1,"events":[{{"type":"requested",{T},"command":{{"kind":"x"}}}}]}}', "'x' is missing or unknown"),
        ("[" * 100_000, "damaged JSON"),
        (b"\xff", "damaged JSON"),
        ('{"spec":1,"events":[Infinity]}', "Infinity is not JSON"),
        ('{"spec":1,"events":[1e999]}', "1e999 is no number"),
    ],
)
def test_damaged_text_is_a_storage_error_that_says_what(text, message):
    with pytest.raises(StorageError, match=message):
        wire.loads(text)


@given(st.data())
def test_a_flipped_byte_is_read_or_is_a_storage_error(data):
    text = bytearray(wire.dumps([event for event, _ in GOLDEN]).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StorageError):
        wire.loads(bytes(text))


def test_a_command_without_its_fields_is_damaged():
    with pytest.raises(StorageError, match="'op' is missing"):
        wire.loads(f'{{"spec":1,"events":[{{"type":"requested",{T},"command":{{"kind":"step"}}}}]}}')


def test_plain_data_goes_to_text_and_back():
    assert wire.dumps_plain({"a": ["é", None]}) == '{"a":["\\u00e9",null]}'
    assert wire.loads_plain('{"a":["\\u00e9",null]}') == {"a": ["é", None]}
    with pytest.raises(StorageError):
        wire.loads_plain("{")


# -- calls of dispatched steps -------------------------------------------------------------------------

CALL = StepCall("charge", [1, "é"], {"to": {"~tuple": [None]}}, 2)
CALL_TEXT = '["charge",[1,"\\u00e9"],{"to":{"~tuple":[null]}},2]'


def test_the_text_of_a_step_call():
    assert wire.dumps_call(CALL) == CALL_TEXT
    assert wire.loads_call(CALL_TEXT) == wire.loads_call(CALL_TEXT.encode()) == CALL


def test_no_step_call_has_no_text():
    assert wire.dumps_call(None) is None
    assert wire.loads_call(None) is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "damaged JSON"),
        ("[" * 100_000, "damaged JSON"),
        (b"\xff", "damaged JSON"),
        ("null", "damaged call of a step: 'null'"),
        ("{}", "damaged call of a step: '{}'"),
        ('"four"', "damaged call of a step"),
        ("[]", "damaged call of a step"),
        ('["charge",[],{}]', "damaged call of a step"),
        ('["charge",[],{},1,1]', "damaged call of a step"),
        ("[7,[],{},1]", "damaged call of a step"),
        ('["charge",{},{},1]', "damaged call of a step"),
        ('["charge",[],[],1]', "damaged call of a step"),
        ('["charge",[],{},"1"]', "damaged call of a step"),
        ('["charge",[],{},true]', "damaged call of a step"),
        ('["charge",[],{},1.0]', "damaged call of a step"),
    ],
)
def test_a_damaged_step_call_is_a_storage_error_that_says_what(text, message):
    with pytest.raises(StorageError, match=message):
        wire.loads_call(text)


@given(st.data())
def test_a_step_call_with_a_flipped_byte_is_read_or_is_a_storage_error(data):
    text = bytearray(CALL_TEXT.encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StorageError):
        assert isinstance(wire.loads_call(bytes(text)), StepCall)


@given(
    st.text(),
    st.lists(st.integers() | st.text() | st.none()),
    st.dictionaries(st.text(), st.booleans() | st.floats(allow_nan=False, allow_infinity=False)),
    st.integers(1, 1 << 40),
)
def test_any_step_call_goes_to_text_and_back(name, args, kwargs, attempt):
    call = StepCall(name, args, kwargs, attempt)
    assert wire.loads_call(wire.dumps_call(call)) == call
