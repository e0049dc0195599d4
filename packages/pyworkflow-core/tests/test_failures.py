import asyncio
import json
import sys
from datetime import timedelta

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyworkflow.codec.exceptions import rebuild, record_of
from pyworkflow.errors import FatalError, RetryableError, StepFailed
from pyworkflow.events import ErrorRecord

CALLS = []


class TwoArguments(Exception):
    def __init__(self, a, b):
        CALLS.append(a)
        super().__init__(f"{a} and {b}")
        self.a = a


class NoSuper(Exception):
    def __init__(self, a, b):
        self.total = a + b


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(code)
        self.code = code


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class PrintsItsState(Exception):
    def __init__(self, order):
        super().__init__()
        self.order = order

    def __str__(self):
        return f"order {self.order}"


class NeedsTheUnstorable(Exception):
    def __init__(self, callback):
        super().__init__()
        self.callback = callback

    def __str__(self):
        return f"failed in {self.callback.__name__}"


class WithNew(Exception):
    def __new__(cls, code):
        CALLS.append(code)
        return super().__new__(cls, code)


class Meta(type):
    def __call__(cls, *args):
        CALLS.append(args)
        return super().__call__(*args)


class WithMeta(Exception, metaclass=Meta):
    pass


@attrs.frozen
class Frozen(Exception):
    code: int
    text: str = "x"


@attrs.define
class Slotted(Exception):
    code: int


class NotFound(FileNotFoundError):
    pass


class OwnOSError(OSError):
    def __init__(self, code):
        super().__init__(code, "own text")
        self.code = code


class Group(ExceptionGroup):
    def derive(self, excs):
        return Group(self.message, excs)


class Stop(BaseException):
    pass


class Thing:
    def __repr__(self):
        return "<thing>"

    def __str__(self):
        return "the thing"


class BadRepr:
    def __repr__(self):
        raise RuntimeError("no")


def raised(error):
    try:
        raise error  # noqa: TRY301 -- to give it a traceback
    except BaseException as caught:  # noqa: BLE001 -- the same
        return caught


def caused(error, cause):
    try:
        raise error from cause  # noqa: TRY301 -- to give it a cause
    except BaseException as caught:  # noqa: BLE001 -- the same
        return caught


def local_class():
    class Local(ValueError):
        pass

    return Local("local")


def from_decoding():
    try:
        b"\xff".decode()
    except UnicodeDecodeError as error:
        return error


def from_opening():
    try:
        open("/does/not/exist")  # noqa: PTH123, SIM115
    except OSError as error:
        return error


def with_state():
    error = ValueError("x")
    error.code = (1, timedelta(seconds=1))
    error.callback = len
    return error


def with_note():
    error = ValueError("x")
    error.add_note("try harder")
    return error


def deep():
    def again(n):
        if n:
            again(n - 1)
        raise ValueError("deep " * 10)

    try:
        again(200)
    except ValueError as error:
        return error


TABLE = {
    "plain": (ValueError("no", 1), ValueError),
    "no arguments": (ValueError(), ValueError),
    "KeyError": (KeyError("k"), KeyError),
    "two-argument __init__": (TwoArguments(1, 2), TwoArguments),
    "no super().__init__": (NoSuper(1, 2), NoSuper),
    "keyword-only __init__": (KeywordOnly(code=5), KeywordOnly),
    "str() raises": (Unprintable("x"), StepFailed),
    "str() needs its state": (PrintsItsState([1, 2]), PrintsItsState),
    "str() needs what cannot be stored": (NeedsTheUnstorable(len), StepFailed),
    "own __new__": (WithNew(3), WithNew),
    "metaclass": (WithMeta(3), WithMeta),
    "frozen attrs": (Frozen(1), Frozen),
    "slotted attrs": (Slotted(1), Slotted),
    "local class": (local_class(), StepFailed),
    "BaseException": (Stop("x"), StepFailed),
    "KeyboardInterrupt": (KeyboardInterrupt(), StepFailed),
    "SystemExit": (SystemExit(3), StepFailed),
    "StopIteration": (StopIteration(1), StepFailed),
    "CancelledError": (asyncio.CancelledError("x"), StepFailed),
    "UnicodeDecodeError": (from_decoding(), UnicodeDecodeError),
    "FileNotFoundError": (from_opening(), FileNotFoundError),
    "subclass of OSError": (NotFound(2, "gone", "a.txt"), NotFound),
    "OSError with its own __init__": (OwnOSError(13), OwnOSError),
    "ImportError": (ImportError("no module", name="x", path="/x"), ImportError),
    "unstorable argument": (ValueError(Thing()), ValueError),
    "argument without repr": (ValueError("x", BadRepr()), ValueError),
    "state": (with_state(), ValueError),
    "note": (with_note(), ValueError),
    "group": (ExceptionGroup("several", [ValueError("a"), TypeError("b")]), ExceptionGroup),
    "own group": (Group("several", [ValueError("a"), Group("inner", [KeyError("b")])]), Group),
    "group of BaseExceptions": (BaseExceptionGroup("several", [KeyboardInterrupt()]), StepFailed),
    "huge message": (ValueError("x" * 100_000), ValueError),
    "huge argument": (ValueError(b"x" * 100_000), ValueError),
    "huge traceback": (deep(), ValueError),
    "ours": (FatalError("no"), FatalError),
    "ours with state": (RetryableError("later", retry_after=timedelta(minutes=1)), RetryableError),
    "StepFailed without a record": (StepFailed("x"), StepFailed),
}


@pytest.mark.parametrize("error, expected", TABLE.values(), ids=TABLE)
def test_each_kind_comes_back_as_far_as_it_can(error, expected):
    record = record_of(raised(error))
    calls = len(CALLS)
    back = rebuild(record)
    assert type(back) is expected
    assert len(CALLS) == calls, "no code of the user's ran"
    str(back)
    if expected is not StepFailed:
        assert str(back) == record.message


@pytest.mark.parametrize("error, expected", TABLE.values(), ids=TABLE)
def test_recorded_again_it_is_the_same(error, expected):
    first = record_of(error)
    again = record_of(raised(rebuild(first)))
    assert (again.type, again.message, again.args, again.state) == (first.type, first.message, first.args, first.state)
    assert [(one.type, one.message) for one in again.group] == [(one.type, one.message) for one in first.group]


@pytest.mark.parametrize("error, expected", TABLE.values(), ids=TABLE)
def test_a_record_is_small_json(error, expected):
    text = json.dumps(attrs.asdict(record_of(raised(error))), allow_nan=False)
    assert len(text) < 50_000


def test_attributes_come_back():
    assert rebuild(record_of(TwoArguments(1, 2))).a == 1
    assert rebuild(record_of(NoSuper(1, 2))).total == 3
    assert rebuild(record_of(Frozen(7))).code == 7
    assert rebuild(record_of(Slotted(7))).code == 7
    assert rebuild(record_of(with_state())).code == (1, timedelta(seconds=1))
    assert not hasattr(rebuild(record_of(with_state())), "callback")
    assert rebuild(record_of(RetryableError("x", retry_after="30s"))).retry_after == "30s"
    missing = rebuild(record_of(from_opening()))
    assert (missing.errno, missing.filename) == (2, "/does/not/exist")
    assert rebuild(record_of(OwnOSError(13))).errno == 13
    decoding = rebuild(record_of(from_decoding()))
    assert (decoding.object, decoding.start) == (b"\xff", 0)
    imported = rebuild(record_of(ImportError("x", name="n", path="/p")))
    assert (imported.name, imported.path) == ("n", "/p")


def test_an_unstorable_argument_prints_as_it_did():
    back = rebuild(record_of(ValueError(Thing())))
    assert str(back) == "the thing"
    assert repr(back) == "ValueError(<thing>)"


def test_the_members_of_a_group_come_back():
    back = rebuild(record_of(TABLE["own group"][0]))
    assert str(back) == "several (2 sub-exceptions)"
    assert type(back.exceptions[1].exceptions[0]) is KeyError
    matched, rest = back.split(ValueError)
    assert str(matched.exceptions[0]) == "a"
    assert type(rest) is Group


def test_causes_come_back():
    back = rebuild(record_of(caused(ValueError("outer"), caused(KeyError("inner"), local_class()))))
    assert type(back.__cause__) is KeyError
    assert type(back.__cause__.__cause__) is StepFailed
    assert back.__cause__.__cause__.record.message == "local"
    assert type(rebuild(record_of(caused(Frozen(1), KeyError("k")))).__cause__) is KeyError


def test_a_context_counts_as_cause_unless_it_is_suppressed():
    def fail(*, hide):
        try:
            raise KeyError("inner")  # noqa: TRY301 -- to have a context
        except KeyError:
            if hide:
                raise ValueError("outer") from None
            raise ValueError("outer")  # noqa: B904

    with pytest.raises(ValueError, match="outer") as shown:
        fail(hide=False)
    assert record_of(shown.value).cause.type == "builtins:KeyError"
    with pytest.raises(ValueError, match="outer") as hidden:
        fail(hide=True)
    assert record_of(hidden.value).cause is None


def test_a_cycle_and_a_long_chain_of_causes_end():
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    assert record_of(a).cause.cause is None
    last = ValueError("0")
    for number in range(1000):
        last = caused(ValueError(number), last)
    depth, record = 0, record_of(last)
    while record is not None:
        depth, record = depth + 1, record.cause
    assert depth < 20


def test_a_group_of_groups_stays_small():
    errors = [ValueError(n) for n in range(100)]
    for _ in range(4):
        errors = [ExceptionGroup("many", errors) for _ in range(20)]
    record = record_of(ExceptionGroup("all", errors))
    assert len(json.dumps(attrs.asdict(record))) < 400_000
    str(rebuild(record))


def test_the_traceback_is_kept_as_a_note():
    record = record_of(raised(ValueError("x")))
    assert "in raised" in record.traceback
    back = rebuild(record)
    assert back.__notes__ == [f"Recorded traceback:\n{record.traceback}"]
    assert rebuild(record_of(raised(back))).__notes__[0].count("Recorded traceback") >= 1
    long = record_of(deep()).traceback
    assert len(long) <= 8000
    assert long.endswith("deep deep \n")


def test_a_users_notes_come_back_once():
    twice = rebuild(record_of(rebuild(record_of(with_note()))))
    assert [note for note in twice.__notes__ if note == "try harder"] == ["try harder"]


def test_step_failed_carries_the_record_and_gives_it_back():
    record = record_of(local_class())
    back = rebuild(record)
    assert back.record == record
    assert "local_class.<locals>.Local: local" in str(back)
    assert record_of(raised(back), retryable=False) == attrs.evolve(record, retryable=False)


def test_whether_it_may_be_retried_is_recorded():
    assert record_of(ValueError()).retryable
    assert not record_of(ValueError(), retryable=False).retryable


@pytest.mark.parametrize(
    "name",
    [
        "nowhere:Error",
        "os:system",
        "builtins:int",
        "builtins:print",
        "",
        ":",
        "json",
        "sys:modules.os",
        "builtins:BaseException",
    ],
)
def test_a_name_that_is_no_loaded_exception_is_step_failed(name):
    assert type(rebuild(ErrorRecord(name, "m", ["m"]))) is StepFailed


def test_nothing_is_imported():
    name = "wave"
    sys.modules.pop(name, None)
    assert type(rebuild(ErrorRecord(f"{name}:Error", "m", ["m"]))) is StepFailed
    assert name not in sys.modules


plains = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("~repr"), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(
    [
        "UnicodeDecodeError",
        "OSError",
        "SyntaxError",
        "ExceptionGroup",
        "StopIteration",
        "ImportError",
        "KeyError",
        "Warning",
    ]
).map("builtins:{}".format)
states = st.dictionaries(
    st.sampled_from(["args", "__class__", "__dict__", "__notes__", "__cause__", "filename", "errno", "msg", "x"]),
    plains,
)


@settings(max_examples=200, deadline=None)
@given(names, plains, plains | states)
def test_reading_any_record_raises_nothing(name, args, state):
    record = ErrorRecord(name, "m", args, state, cause=ErrorRecord(name, "m", args, state))
    error = rebuild(record)
    str(error)
    repr(error)
    record_of(error)
