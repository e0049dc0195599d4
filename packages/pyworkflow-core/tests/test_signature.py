from __future__ import annotations

import inspect
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import attrs
import pytest

from pyworkflow.codec import Codec
from pyworkflow.codec.signature import Signature
from pyworkflow.errors import PayloadTooLarge, Unstorable

if TYPE_CHECKING:
    from elsewhere import Hidden


def signature(function, what="step 'charge'"):
    return Signature.of(function, Codec(), what)


def charge(order: Order, amount: Decimal, *notes: str, retry: bool = False, **extra: Line) -> Payment:
    """Uses classes that are defined below."""


@attrs.frozen
class Line:
    price: int
    callback: Any = None


@attrs.frozen
class Order:
    lines: list[Line]


@attrs.frozen
class Payment:
    amount: Decimal


def plain(a, b=2, /, c=3, *, d=4):
    pass


ORDER = Order([Line(1)])


def test_arguments_go_by_the_annotation_of_their_parameter():
    call = signature(charge)
    args, kwargs = call.encode_call((ORDER, Decimal(5), "n1", "n2"), {"retry": True, "line": Line(2)})
    assert args == [{"lines": [{"price": 1, "callback": None}]}, {"~decimal": "5"}, "n1", "n2"]
    assert kwargs == {"retry": True, "line": {"price": 2, "callback": None}}
    assert call.decode_call(args, kwargs) == (
        [ORDER, Decimal(5), "n1", "n2"],
        {"retry": True, "line": Line(2)},
    )


def test_a_call_may_name_its_arguments():
    call = signature(charge)
    assert call.round_trip_call((), {"order": ORDER, "amount": Decimal(1)}) == (
        [],
        {"order": ORDER, "amount": Decimal(1)},
    )


def test_results_go_by_the_annotation_of_the_function():
    call = signature(charge)
    assert call.encode_result(Payment(Decimal(1))) == {"amount": {"~decimal": "1"}}
    assert call.decode_result({"amount": "1"}) == Payment(Decimal(1))
    assert call.round_trip_result(Payment(Decimal(1))) == Payment(Decimal(1))


def test_without_annotations_values_are_stored_by_what_they_are():
    call = signature(plain)
    assert call.round_trip_call(((1, 2), {3}), {"d": None}) == ([(1, 2), {3}], {"d": None})
    assert call.round_trip_result("x") == "x"


@pytest.mark.parametrize(
    "args, kwargs",
    [((), {}), ((1, 2, 3, 4), {}), ((1,), {"e": 1}), ((), {"a": 1}), ((1, 2, 3), {"c": 1})],
)
def test_a_call_that_does_not_fit_is_a_type_error_as_in_python(args, kwargs):
    with pytest.raises(TypeError):
        plain(*args, **kwargs)
    call = signature(plain)
    for attempt in (call.encode_call, call.decode_call):
        with pytest.raises(TypeError, match="step 'charge' cannot be called like this") as caught:
            attempt(list(args), kwargs)
        assert not isinstance(caught.value, Unstorable)


@pytest.mark.parametrize("args, kwargs", [((1,), {}), ((1, 2, 3), {}), ((1,), {"c": 1, "d": 2})])
def test_a_call_that_fits_passes(args, kwargs):
    inspect.signature(plain).bind(*args, **kwargs)
    assert signature(plain).round_trip_call(args, kwargs) == (list(args), kwargs)


def test_a_keyword_only_argument_without_default_is_asked_for():
    def function(*, needed):
        pass

    with pytest.raises(TypeError, match="needed"):
        signature(function).encode_call((), {})


@pytest.mark.parametrize(
    "args, kwargs, message",
    [
        (
            (Order([Line(1, len)]), Decimal(1)),
            {},
            r"^argument 'order' of step 'charge': .* a function at \$\.lines\[0\]\.callback; ",
        ),
        ((ORDER, 1), {}, "^argument 'amount' of step 'charge': expected Decimal, got 1$"),
        ((ORDER, Decimal(1), "n", 2), {}, "^argument 'notes' of step 'charge': expected str, got 2$"),
        ((ORDER, Decimal(1)), {"retry": 1}, "^argument 'retry' of step 'charge': expected bool, got 1$"),
        (
            (ORDER, Decimal(1)),
            {"x": Line("p")},
            r"^argument 'extra' of step 'charge': expected int, got 'p' at \$\.price$",
        ),
    ],
)
def test_an_error_names_the_argument_its_path_and_the_step(args, kwargs, message):
    with pytest.raises(Unstorable, match=message):
        signature(charge).encode_call(args, kwargs)


def test_an_error_names_the_result():
    call = signature(charge)
    with pytest.raises(Unstorable, match=r"^the result of step 'charge': expected Payment, got None$"):
        call.encode_result(None)
    message = (
        r"^the result of step 'charge': does not fit its annotation Payment: expected Decimal, got None at \$\.amount$"
    )
    with pytest.raises(Unstorable, match=message):
        call.decode_result({"amount": None})
    with pytest.raises(Unstorable, match=r"^argument 'order' of step 'charge': does not fit its annotation Order: "):
        call.decode_call([{}, 1], {})
    with pytest.raises(PayloadTooLarge, match=r"^the result of step 'charge': "):
        signature(plain).encode_result("x" * 3_000_000)


@pytest.mark.parametrize("args, kwargs", [(None, {}), ({}, {}), ([], []), ("ab", {})])
def test_arguments_of_another_shape_are_refused(args, kwargs):
    with pytest.raises(Unstorable, match="have to be a list and a dict"):
        signature(plain).decode_call(args, kwargs)


def test_an_annotation_that_cannot_be_resolved_counts_as_any():
    def function(hidden: Hidden, line: Line) -> Hidden:
        pass

    call = signature(function)
    assert call.round_trip_call(((1,), Line(1)), {}) == ([(1,), Line(1)], {})
    with pytest.raises(Unstorable, match="counts as Any: 'Hidden' cannot be resolved, name 'Hidden' is not defined"):
        call.encode_call((Line(1), Line(1)), {})
    with pytest.raises(Unstorable, match=r"the result .*'Hidden' cannot be resolved"):
        call.encode_result(Line(1))


def test_a_default_of_none_allows_none():
    def function(a: int = None, b: Line = None):  # noqa: RUF013
        pass

    assert signature(function).round_trip_call((None, None), {}) == ([None, None], {})
    assert signature(function).round_trip_call((1, Line(1)), {}) == ([1, Line(1)], {})


def test_keywords_from_a_typed_dict_are_stored_by_what_they_are():
    class Options(TypedDict):
        a: int

    def function(**options: Unpack[Options]):
        pass

    function.__annotations__["options"] = Unpack[Options]
    assert signature(function).round_trip_call((), {"a": 1}) == ([], {"a": 1})


def test_nothing_is_shared_with_the_caller():
    value = {"a": [1]}
    (back,), _ = signature(plain).round_trip_call((value,), {})
    assert back == value
    assert back is not value
    assert back["a"] is not value["a"]
