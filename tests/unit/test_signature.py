"""Signatures: a call is accepted exactly where Python accepts it, and refused in Python's words."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.signature import CallSignature


def no_parameters() -> None: ...
def two(a: Any, b: Any) -> None: ...
def defaults(a: Any, b: Any = 1, c: Any = 2) -> None: ...
def positional_only(a: Any, b: Any = 1, /, c: Any = 2) -> None: ...
def keyword_only(a: Any, *, b: Any, c: Any = 1) -> None: ...
def three_keywords(*, a: Any, b: Any, c: Any) -> None: ...
def variadic(a: Any, *rest: Any) -> None: ...
def any_keyword(a: Any, /, **more: Any) -> None: ...
def anything(*args: Any, **kwargs: Any) -> None: ...


FUNCTIONS = [
    no_parameters,
    two,
    defaults,
    positional_only,
    keyword_only,
    three_keywords,
    variadic,
    any_keyword,
    anything,
]


def _outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except TypeError as error:
        return str(error)
    return "accepted"


@given(
    function=st.sampled_from(FUNCTIONS),
    args=st.lists(st.just(0), max_size=5),
    names=st.sets(st.sampled_from(["a", "b", "c", "rest", "z"]), max_size=4),
)
def test_a_call_is_accepted_where_python_accepts_it(function: Any, args: list[int], names: set[str]) -> None:
    kwargs = dict.fromkeys(sorted(names), 0)
    signature = CallSignature.of(function)
    ours = _outcome(lambda: signature.check(tuple(args), kwargs))
    pythons = _outcome(lambda: function(*args, **kwargs))
    assert (ours == "accepted") == (pythons == "accepted")


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (no_parameters, (1,), {}),
        (two, (), {}),
        (two, (1,), {}),
        (two, (1, 2, 3), {}),
        (two, (1, 2), {"a": 3}),
        (two, (1, 2), {"z": 3}),
        (defaults, (1, 2, 3, 4), {}),
        (keyword_only, (1,), {}),
        (three_keywords, (), {}),
    ],
)
def test_the_message_is_pythons(function: Any, args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    signature = CallSignature.of(function)
    assert _outcome(lambda: signature.check(args, kwargs)) == _outcome(lambda: function(*args, **kwargs))


def test_self_is_not_asked_for() -> None:
    class Thing:
        def method(self, a: int) -> None: ...

    signature = CallSignature.of(Thing.method, skip_self=True)
    signature.check((1,), {})
    with pytest.raises(TypeError, match=r"method\(\) missing 1 required positional argument: 'a'"):
        signature.check((), {})


def test_a_function_without_a_signature_takes_anything() -> None:
    signature = CallSignature.of(dict.fromkeys)
    signature.check((1, 2), {})
    CallSignature.of(type).check((1, 2, 3), {"x": 1})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_signatures_travel(function: Any) -> None:
    signature = CallSignature.of(function)
    assert pickle.loads(pickle.dumps(signature)) == signature
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(signature), type=CallSignature) == signature
