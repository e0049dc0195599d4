import asyncio
import collections
import contextlib
import json
import math
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Protocol, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyworkflow.codec import Codec
from pyworkflow.errors import PayloadTooLarge, Unstorable

codec = Codec()
BERLIN = ZoneInfo("Europe/Berlin")
T = TypeVar("T")
OrderId = NewType("OrderId", str)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Shape(StrEnum):
    ROUND = "round"


class Mixed(StrEnum):
    A = "a"


@attrs.frozen
class Item:
    name: str
    price: Decimal


@attrs.frozen
class Order:
    id: int
    items: list[Item]
    color: Color = Color.RED
    parent: "Order | None" = None
    meta: dict[str, Any] = attrs.Factory(dict)


@dataclass
class Point:
    x: float
    y: float = 0.0
    tags: set[str] = field(default_factory=set)


@attrs.frozen
class Box(Generic[T]):
    content: T


@attrs.frozen
class Leaf:
    value: int


@attrs.frozen
class Tree:
    left: "Tree | Leaf"
    right: "Tree | Leaf"


class Pair(NamedTuple):
    a: int
    b: str = "b"


class Options(TypedDict):
    color: Color
    size: NotRequired[int]


class Text(str):
    __slots__ = ()


class Named(Protocol):
    name: str


def round_trip(value, annotation=Any):
    text = json.dumps(codec.encoder(annotation)(value), allow_nan=False)
    return codec.decoder(annotation)(json.loads(text))


def same(a, b):  # noqa: PLR0911 -- a table
    """Whether both are equal and of the same types throughout; NaN equals NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, (float, complex, Decimal)):
        return repr(a) == repr(b)
    if isinstance(a, (datetime, time)):
        return a == b and a.fold == b.fold and str(a.tzinfo) == str(b.tzinfo)
    return a == b


# -- without annotations -----------------------------------------------------------

zones = st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=5, minutes=45))) | st.just(BERLIN)
_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.decimals().filter(lambda number: not number.is_snan())  # it has no hash
    | st.uuids()
    | st.complex_numbers()
    | st.sampled_from([Path("a/b"), PurePosixPath("/x"), PureWindowsPath("c:\\x"), 10**300, "\ud800", "\0"])
)


@st.composite
def leaves(draw):  # gives the strategy a short name
    return draw(_leaves)


@st.composite
def hashables(draw):
    return draw(_leaves | st.tuples(_leaves, _leaves) | st.frozensets(_leaves, max_size=3))


tag_like = st.sampled_from(["~tuple", "~set", "~dict", "~union", "~int", "~", "~~x", "~datetime"])
values = st.recursive(
    leaves() | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.sets(hashables(), max_size=4)
        | st.frozensets(hashables(), max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.dictionaries(hashables(), inner, max_size=4)
        | st.dictionaries(tag_like, inner, min_size=1, max_size=2)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(values)
@example({"~tuple": [1]})
@example({"~union": ["Item", {"name": "x"}]})
@example({"~dict": [["~dict", 1]]})
def test_values_come_back_as_they_were(value):
    assert same(value, round_trip(value))


@settings(max_examples=100, deadline=None)
@given(values)
def test_no_container_is_shared_with_the_value(value):
    def containers(value):
        if isinstance(value, (dict, list)):
            yield id(value)
            for inner in value.values() if isinstance(value, dict) else value:
                yield from containers(inner)

    plain = codec.encoder()(value)
    back = codec.decoder()(plain)
    assert not set(containers(value)) & set(containers(plain))
    assert not set(containers(plain)) & set(containers(back))


@pytest.mark.parametrize(
    "value, plain",
    [
        ((1, "a"), {"~tuple": [1, "a"]}),
        ({"b", "a"}, {"~set": ["a", "b"]}),
        (frozenset({2}), {"~frozenset": [2]}),
        ({1: 2}, {"~dict": [[1, 2]]}),
        ({"~x": 2}, {"~dict": [["~x", 2]]}),
        ({"~x": 1, "y": 2}, {"~x": 1, "y": 2}),
        (math.inf, {"~float": "inf"}),
        (b"\0", {"~bytes": "AA=="}),
        (date(2026, 1, 2), {"~date": "2026-01-02"}),
        (datetime(2026, 1, 2, tzinfo=UTC), {"~datetime": "2026-01-02T00:00:00+00:00"}),
        (datetime(2026, 10, 25, 2, tzinfo=BERLIN, fold=1), {"~datetime": ["2026-10-25T02:00:00", "Europe/Berlin", 1]}),
        (time(1, fold=1), {"~time": ["01:00:00", None, 1]}),
        (timedelta(days=-1, microseconds=1), {"~timedelta": [-1, 0, 1]}),
        (Decimal("1.50"), {"~decimal": "1.50"}),
        (UUID(int=1), {"~uuid": "00000000-0000-0000-0000-000000000001"}),
        (Path("a"), {"~path": "a"}),
        (1j, {"~complex": [0.0, 1.0]}),
    ],
)
def test_tags(value, plain):
    assert codec.encoder()(value) == plain


def test_an_int_of_more_digits_than_python_prints_is_written_in_hex():
    assert codec.encoder()(16**4000) == {"~int": "0x1" + "0" * 4000}
    for value in (10**5000, -(10**4001), 10**3999):
        assert round_trip(value) == value
        assert round_trip({"a": [value]}, dict[str, list[int]]) == {"a": [value]}
    with pytest.raises(Unstorable, match="expected str, got <int>"):
        codec.encoder(str)(10**5000)


def test_a_set_is_written_in_the_same_order_whatever_order_it_has():
    one, other = {0, 8}, {8, 0}  # their hashes collide, so a set has them in the order they came
    assert list(one) != list(other)
    assert codec.encoder()(one) == codec.encoder()(other)


# -- with annotations --------------------------------------------------------------

ORDER = Order(1, [Item("a", Decimal("1.50"))], Color.BLUE, Order(0, []), {"k": (1, 2)})


@pytest.mark.parametrize(
    "value, annotation",
    [
        (ORDER, Order),
        (Point(1.0, 2.0, {"x"}), Point),
        (Box(3), Box[int]),
        (Box([Item("a", Decimal(1))]), Box[list[Item]]),
        (Box((1,)), Box),
        (Tree(Leaf(1), Tree(Leaf(2), Leaf(3))), Tree),
        (Pair(1), Pair),
        ({"color": Color.RED}, Options),
        ({"color": Color.RED, "size": 1}, Options),
        (Color.RED, Color),
        (Level.LOW, Level),
        (Shape.ROUND, Shape),
        (Mixed.A, Mixed),
        (Text("x"), Text),
        ("a", OrderId),
        (5, Annotated[int, "positive"]),
        (6, Annotated[int, ["no hash"]]),
        ([Color.RED, None], list[Color | None]),
        ({Color.RED: Point(1.0)}, dict[Color, Point]),
        ({Level.LOW: 1}, dict[Level, int]),
        ({Item("a", Decimal(1)): 1}, dict[Item, int]),
        ({Item("a", Decimal(1)), Item("b", Decimal(1))}, set[Item]),
        (frozenset({Color.RED}), frozenset[Color]),
        ((1, Color.RED), tuple[int, Color]),
        ((Color.RED, Color.BLUE), tuple[Color, ...]),
        ((), tuple[()]),
        ((1, "x"), tuple),
        ([1, (2,)], list),
        ((1, 2), collections.abc.Sequence[int]),
        ([1, 2], collections.abc.Sequence[int]),
        ({"a": 1}, collections.abc.Mapping[str, int]),
        (collections.deque([1, 2]), collections.deque[int]),
        (collections.OrderedDict(a=1), collections.OrderedDict[str, int]),
        (collections.Counter("aab"), collections.Counter[str]),
        (Item("a", Decimal(1)), Item | Point),
        ([Point(1.0), 1, "x", None, True], list[Point | int | str | bool | None]),
        ([[1], ["a"]], list[list[int] | list[str]]),
        (Color.RED, Color | str),
        ("red", Color | str),
        ("auto", Literal["auto"] | int),
        (1.5, int | float),
        (1, int | float),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime | date),
        (Pair(1), Pair | Item),
        (Color.BLUE, Literal[Color.BLUE]),
        (PurePosixPath("/x"), PurePosixPath),
        (Path("x"), Path),
        (b"\xff", bytes),
        (timedelta(days=1), timedelta),
    ],
)
def test_annotated_values_come_back_as_they_were(value, annotation):
    back = round_trip(value, annotation)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "plain, annotation, value",
    [
        ("2026-01-02T00:00:00+00:00", datetime, datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02", date, date(2026, 1, 2)),
        ("01:02", time, time(1, 2)),
        (1.5, timedelta, timedelta(seconds=1.5)),
        ("1.50", Decimal, Decimal("1.50")),
        ("00000000-0000-0000-0000-000000000001", UUID, UUID(int=1)),
        ("a/b", Path, Path("a/b")),
        ("AA==", bytes, b"\0"),
        (1, float, 1.0),
        ([1, "red"], tuple[int, Color], (1, Color.RED)),
        (["a", "a"], set[str], {"a"}),
        ({"red": 1}, dict[Color, int], {Color.RED: 1}),
        ({"name": "a", "price": "1"}, Item | Point, Item("a", Decimal(1))),
        ({"x": 1}, Item | Point | None, Point(1.0)),
        ({"x": 1, "unknown": 2}, Point, Point(1.0)),
        ("2026-01-02T00:00:00", datetime | int, datetime(2026, 1, 2)),  # noqa: DTZ001
    ],
)
def test_json_of_other_clients_is_read(plain, annotation, value):
    back = codec.decoder(annotation)(plain)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value, annotation, back",
    [
        (1, float, 1.0),
        (Shape.ROUND, str, "round"),
        (Level.LOW, int, 1),
        (Text("x"), str, "x"),
        (Pair(1), tuple, (1, "b")),
        (collections.Counter("a"), dict[str, int], {"a": 1}),
    ],
)
def test_a_subclass_becomes_what_the_annotation_says(value, annotation, back):
    assert same(round_trip(value, annotation), back)


@pytest.mark.parametrize(
    "value, annotation",
    [
        ("1", int),
        (True, int),
        (1, bool),
        (1.0, int),
        (1, str),
        ("1", float),
        (True, float),
        (1, bytes),
        ("red", Item),
        ("abc", list[str]),
        ({"a": 1}, list[str]),
        ([1], dict[str, int]),
        ([["a", 1]], Point),
        ([1, 2], tuple[int]),
        (True, Literal[1]),
        (1.5, Color),
        ({"size": 1}, Options),
        (3, None),
        (datetime(2026, 1, 1, tzinfo=UTC), date),
        ([1], Item | Point),
    ],
)
def test_what_does_not_fit_its_annotation_is_refused_both_ways(value, annotation):
    with pytest.raises(Unstorable):
        codec.encoder(annotation)(value)
    with pytest.raises(Unstorable, match=r"does not fit|not JSON"):
        codec.decoder(annotation)(value)


def test_a_subclass_with_more_fields_does_not_lose_them_silently():
    @attrs.frozen
    class Special(Item):
        more: int = 0

    with pytest.raises(Unstorable, match="expected Item, got a value of type"):
        codec.encoder(Item)(Special("a", Decimal(1)))


def test_a_class_under_a_protocol_or_any_is_refused_and_not_flattened():
    for annotation in (Any, Named, T, object, dict[str, Any] | list[Any]):
        with pytest.raises(Unstorable):
            codec.encoder(annotation)(Item("a", Decimal(1)))


def test_a_union_names_what_fits_more_than_one_member():
    @attrs.frozen
    class A:
        x: int = 0

    @attrs.frozen
    class B:
        x: int = 0

    with pytest.raises(Unstorable, match=r'fits A and B alike; write it as {"~union"'):
        codec.decoder(A | B)({"x": 1})
    assert codec.decoder(A | B)({"~union": ["B", {"x": 1}]}) == B(1)
    with pytest.raises(Unstorable, match=r"'os.system' is not one of A, B"):
        codec.decoder(A | B)({"~union": ["os.system", {"x": 1}]})


def test_hooks_on_the_converter_teach_it_more_types():
    class Money:
        def __init__(self, cents):
            self.cents = cents

    codec = Codec()
    codec.converter.register_unstructure_hook(Money, lambda money: (money.cents,))
    codec.converter.register_structure_hook(Money, lambda value, _: Money(value[0]))
    plain = codec.encoder(list[Money])([Money(5)])
    assert plain == [{"~tuple": [5]}]
    assert codec.decoder(list[Money])(plain)[0].cents == 5


# -- refusals ----------------------------------------------------------------------


def a_cycle():
    value = []
    value.append({"again": value})
    return value


def nested(depth, value=0):
    for _ in range(depth):
        value = [value]
    return value


async def a_coroutine():
    pass


@pytest.mark.parametrize(
    "value, message",
    [
        (lambda: 1, "cannot store a lambda; pass a name"),
        (len, "cannot store a function"),
        (nested, "cannot store a function"),
        (Item, "cannot store the class 'Item'"),
        (json, "cannot store a module"),
        ((x for x in ()), "cannot store a generator.*make a list"),
        (iter([]), "cannot store a generator or iterator"),
        (threading.Lock(), "cannot store a lock"),
        (asyncio.Lock(), "cannot store a lock"),
        (Item("a", Decimal(1)), "'Item' without its annotation; annotate the argument or result with its type"),
        (Point(1.0), "'Point' without its annotation"),
        (Pair(1), "'Pair' without its annotation"),
        (Level.LOW, "'Level' without its annotation"),
        (collections.Counter(), "'Counter', a kind of dict; .*or convert it with dict"),
        (Text("x"), "a kind of str"),
        (ValueError("x"), "an exception"),
        (memoryview(b""), "'memoryview'"),
        (object(), "an object of class 'object'"),
        (a_cycle(), "contains itself"),
        (nested(50), "nested deeper than 40 levels"),
        (nested(5000), "nested deeper than 40 levels"),
        (datetime(2026, 1, 1, tzinfo=type("Zone", (timezone.__base__,), {})()), "use zoneinfo"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_advice(value, message):
    with pytest.raises(Unstorable, match=message):
        codec.encoder()(value)


def test_an_open_file_and_a_coroutine_are_refused(tmp_path):
    with (tmp_path / "x").open("w") as file, pytest.raises(Unstorable, match="an open file; pass its path"):
        codec.encoder()(file)
    coroutine = a_coroutine()
    with pytest.raises(Unstorable, match="await it first"):
        codec.encoder()(coroutine)
    coroutine.close()


@pytest.mark.parametrize(
    "value, annotation, path",
    [
        ({"items": [0, 0, 0, {"price": len}]}, Any, r"\$\.items\[3\]\.price;"),
        ({"a b": {1: len}}, Any, r"\$\['a b'\]\[1\];"),
        ((0, {"x": [len]}), Any, r"\$\[1\]\.x\[0\];"),
        (Order(1, [], meta={"callback": len}), Order, r"\$\.meta\.callback;"),
        (Order(1, [Item("a", Decimal(1)), Item("b", 2)]), Order, r"\$\.items\[1\]\.price$"),
        ({"k": [Order(1, [], color="red")]}, dict[str, list[Order]], r"\$\.k\[0\]\.color$"),
        (Tree(Leaf(1), Leaf("x")), Tree, r"\$\.right\.value$"),
    ],
)
def test_the_path_to_what_cannot_be_stored(value, annotation, path):
    with pytest.raises(Unstorable, match=f"at {path}"):
        codec.encoder(annotation)(value)


def test_the_path_to_what_does_not_fit():
    plain = {"id": 1, "items": [{"name": "a", "price": "1"}, {"name": 2, "price": "zz"}]}
    with pytest.raises(
        Unstorable, match=r"annotation Order: expected str, got 2 at \$\.items\[1\]\.name \(and 1 more\)"
    ):
        codec.decoder(Order)(plain)
    with pytest.raises(Unstorable, match=r"a required field is missing at \$\.items"):
        codec.decoder(Order)({"id": 1})
    with pytest.raises(Unstorable, match=r"an unknown tag '~pickle' at \$\.a\[0\]"):
        codec.decoder()({"a": [{"~pickle": "gASV"}]})


def test_a_cycle_of_annotated_objects_is_refused():
    order = {"id": 1}
    point = Point(1.0)
    point.x = point
    with pytest.raises(Unstorable):
        codec.encoder(Point)(point)
    with pytest.raises(Unstorable):
        codec.encoder(dict[str, Any])({"a": order} | {"b": a_cycle()})
    long = None
    for number in range(5000):
        long = Order(number, [], parent=long)
    with pytest.raises(Unstorable, match="nested deeper"):
        codec.encoder(Order)(long)


def test_a_shared_value_is_no_cycle():
    shared = [1]
    assert codec.encoder()([shared, shared]) == [[1], [1]]
    with pytest.raises(Unstorable, match="nested deeper"):
        codec.encoder()([shared, shared, nested(60)])


def test_nan_can_be_forbidden():
    strict = Codec(allow_nan=False)
    for value in (math.nan, [math.inf], complex(math.nan, 0)):
        with pytest.raises(Unstorable, match="NaN and infinities are not allowed here"):
            strict.encoder()(value)
    with pytest.raises(Unstorable, match="cannot store nan"):
        strict.encoder(float)(math.nan)


@pytest.mark.parametrize(
    "value",
    ["x" * 2_000_001, b"x" * 1_600_000, ["x" * 900] * 3000, {str(n): n for n in range(300_000)}, [[1, 2]] * 300_000],
)
def test_a_value_above_the_limit_is_too_large(value):
    with pytest.raises(PayloadTooLarge, match=r"of [23],\d\d\d,\d\d\d bytes or more, the limit is 2,000,000"):
        codec.encoder()(value)


@settings(max_examples=100, deadline=None)
@given(values)
def test_the_size_that_is_counted_is_about_that_of_the_json(value):
    size = len(json.dumps(codec.encoder()(value), ensure_ascii=False, separators=(",", ":")))
    Codec(max_bytes=2 * size + 100).encoder()(value)
    if size > 1000:
        with pytest.raises(PayloadTooLarge):
            Codec(max_bytes=size // 8).encoder()(value)


# -- hostile JSON ------------------------------------------------------------------

tags = st.sampled_from(
    [
        "~tuple",
        "~set",
        "~frozenset",
        "~dict",
        "~int",
        "~float",
        "~bytes",
        "~bytearray",
        "~datetime",
        "~time",
        "~date",
        "~timedelta",
        "~decimal",
        "~uuid",
        "~path",
        "~posixpath",
        "~windowspath",
        "~complex",
        "~union",
        "~pickle",
        "~",
    ]
)
texts = st.text(max_size=10) | st.sampled_from(
    ["os.system", "../../etc/passwd", "NaN", "2026-01-01", "AA==", "0x1f", "builtins"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts, inner, max_size=3)
        | st.dictionaries(tags, inner, min_size=1, max_size=1)
        | st.fixed_dictionaries({"__type__": texts, "class": texts})
    ),
    max_leaves=10,
)
ANNOTATIONS = [
    *(Any, Order, Point, Tree, Box[int], Pair, Options, Color, Level, Item | Point, dict[Item, int], set[Item], bytes),
    *(Literal["a", 1], tuple[int, str], tuple[int, ...], datetime, timedelta, Decimal, UUID, Path, complex),
    *(collections.abc.Callable[[], int], type, Exception, Named, Text),
]


@settings(max_examples=300, deadline=None)
@given(json_values, st.sampled_from(ANNOTATIONS))
def test_hostile_json_is_read_or_refused_and_executes_nothing(plain, annotation):
    decode = codec.decoder(annotation)
    with Audited() as events:
        try:
            value = decode(plain)
        except Unstorable:
            value = None
    assert events == []
    del value


class Audited:
    events: list[str] | None = None

    def __enter__(self):
        type(self).events = found = []
        return found

    def __exit__(self, *_):
        type(self).events = None


def _audit(event, args):
    if Audited.events is not None and event.split(".")[0] in {
        "import",
        "exec",
        "compile",
        "os",
        "subprocess",
        "pickle",
    }:
        Audited.events.append(f"{event}{args}")


sys.addaudithook(_audit)
for _annotation in ANNOTATIONS:  # hooks are made, and modules imported, at first use
    for _plain in (
        None,
        1,
        "x",
        [],
        {},
        {"x": 1.0},
        {"~union": ["Item", {}]},
        {"~datetime": ["2026-01-01", "No/Zone", 0]},
    ):
        with contextlib.suppress(Unstorable):
            codec.decoder(_annotation)(_plain)


def test_deep_json_is_refused():
    with pytest.raises(Unstorable, match="nested deeper than 200 levels"):
        codec.decoder()(nested(100_000))


def test_what_is_not_json_is_refused():
    with pytest.raises(Unstorable, match="not JSON"):
        codec.decoder()([(1, 2)])
