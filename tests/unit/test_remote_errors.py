"""Errors across processes: whatever the user's exception class does, the caller gets type, text and traceback."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError, TaskCancelledError
from core.remote_errors import pack_error, unpack_error


def _sent(error: BaseException, name: str = "f") -> Exception:
    """Send an error as a worker would, after it passed through user code."""
    try:
        _user_code(error)
    except BaseException as raised:
        return unpack_error(pack_error(raised, name, pid=41))
    raise AssertionError


def _user_code(error: BaseException) -> None:
    raise error


class TwoArguments(Exception):
    """Breaks the default pickling: ``args`` does not fit ``__init__``."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class HoldsALock(Exception):
    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def _refuse(*_: object) -> Any:
    raise RuntimeError("refused")


class RaisesInReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no pickling")


class ExitsInReduce(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(9)


class RaisesInSetState(Exception):
    def __reduce__(self) -> Any:
        return (_refuse, ())


class BecomesSomethingElse(Exception):
    def __reduce__(self) -> Any:
        return (str, ("not an error",))


class RecursesInReduce(Exception):
    def __reduce__(self) -> Any:
        return self.__reduce__()


class RaisesInStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickling")


class RecursesInStr(Exception):
    def __str__(self) -> str:
        return str(self)


class RaisesInRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class HostileNotes(Exception):
    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("no notes")


class HostileMeta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class HostileClass(Exception, metaclass=HostileMeta):
    pass


HOSTILE: list[Callable[[], BaseException]] = [
    HoldsALock,
    RaisesInReduce,
    ExitsInReduce,
    RaisesInSetState,
    BecomesSomethingElse,
    RecursesInReduce,
    RaisesInStr,
    RecursesInStr,
    RaisesInRepr,
    HostileNotes,
    HostileClass,
    lambda: ValueError(threading.Lock()),
    lambda: ValueError("\ud800 lone surrogate"),
    lambda: ValueError("x" * 3_000_000),
]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: getattr(make, "__qualname__", "?"))
def test_a_hostile_exception_still_arrives_as_a_task_error(make: Callable[[], BaseException]) -> None:
    error = _sent(make())
    assert isinstance(error, RayTaskError)
    assert "_user_code" in error.traceback_str
    assert len(str(error)) < 1_000_000
    again = _sent(error, "outer")
    assert isinstance(again, RayTaskError)


@pytest.mark.parametrize(
    "error",
    [ValueError("v"), TwoArguments(3, "three"), Frozen(3), RaisesInReduce("r"), OSError(2, "gone", "file")],
    ids=lambda error: type(error).__name__,
)
def test_the_class_survives(error: Exception) -> None:
    arrived = _sent(error)
    assert isinstance(arrived, type(error))
    assert isinstance(arrived, RayTaskError)
    assert arrived.cause is not error
    assert {**vars(arrived.cause)} == vars(error)
    assert type(error).__name__ in arrived.traceback_str


def test_what_cannot_be_sent_is_there_as_text() -> None:
    error = _sent(HoldsALock())
    assert type(error) is RayTaskError
    assert "HoldsALock" in str(error)
    assert "locked" in str(error)
    assert "lock" in str(error.cause)


def test_the_traceback_has_the_users_frames_only() -> None:
    error = _sent(ValueError("v"))
    assert isinstance(error, RayTaskError)
    assert "raise error" in error.traceback_str
    assert f"{os.sep}core{os.sep}remote_errors" not in error.traceback_str
    assert (error.function_name, error.pid) == ("f", 41)
    assert str(error).startswith("f() (pid=41")


def test_nested_errors_keep_both_tracebacks_and_the_first_cause() -> None:
    inner = _sent(KeyError("k"), "inner")
    outer = _sent(inner, "outer")
    assert isinstance(outer, RayTaskError)
    assert isinstance(outer, KeyError)
    assert isinstance(outer.cause, KeyError)
    assert not isinstance(outer.cause, RayTaskError)
    assert "outer() (pid=41" in str(outer)
    assert "inner() (pid=41" in str(outer)
    assert str(outer).count("in _user_code") == 2


def test_cause_and_context_travel() -> None:
    explicit = hidden = Exception()
    try:
        try:
            _user_code(KeyError("first"))
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as raised:
        explicit = unpack_error(pack_error(raised, "f", pid=1))
    assert isinstance(explicit, RayTaskError)
    assert isinstance(explicit.cause, ValueError)
    assert isinstance(explicit.cause.__cause__, KeyError)
    assert "direct cause" in str(explicit)
    try:
        try:
            _user_code(KeyError("first"))
        except KeyError:
            raise ValueError("second") from None
    except ValueError as raised:
        hidden = unpack_error(pack_error(raised, "f", pid=1))
    assert isinstance(hidden, RayTaskError)
    assert hidden.cause is not None
    assert hidden.cause.__suppress_context__


def test_a_cause_that_cannot_travel_does_not_cost_the_error_its_class() -> None:
    try:
        raise ValueError("v") from HoldsALock()
    except ValueError as raised:
        error = unpack_error(pack_error(raised, "f", pid=1))
    assert isinstance(error, ValueError)
    assert isinstance(error, RayTaskError)
    assert error.cause is not None
    assert "HoldsALock" in str(error.cause.__cause__)


def test_notes_travel_and_are_shown_once() -> None:
    error = ValueError("v")
    error.add_note("look here")
    arrived = _sent(error)
    assert arrived.__notes__ == ["look here"]
    assert "look here" not in str(arrived)
    arrived.add_note("and here")
    assert error.__notes__ == ["look here"]
    unsendable = HoldsALock()
    unsendable.add_note("look here")
    assert _sent(unsendable).__notes__ == ["look here"]


def test_an_exception_group_travels() -> None:
    error = _sent(ExceptionGroup("several", [ValueError("v"), TwoArguments(1, "one")]))
    assert isinstance(error, ExceptionGroup)
    assert [type(one) for one in error.exceptions] == [ValueError, TwoArguments]


@pytest.mark.parametrize("error", [TaskCancelledError("ab"), ActorDiedError(class_name="C", exit_code=3)])
def test_an_error_of_the_framework_comes_back_as_itself(error: RayError) -> None:
    arrived = unpack_error(pack_error(error, "f", pid=1))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)


def test_an_error_of_the_framework_that_passed_through_user_code_is_a_task_error_too() -> None:
    arrived = _sent(GetTimeoutError("late"))
    assert isinstance(arrived, GetTimeoutError)
    assert isinstance(arrived, RayTaskError)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_what_ends_programs_does_not_end_the_callers(error: BaseException) -> None:
    arrived = _sent(error)
    assert type(arrived) is RayTaskError
    assert type(arrived.cause) is type(error)


@given(st.binary(max_size=200))
def test_garbage_is_an_error_not_a_crash(blob: bytes) -> None:
    assert isinstance(unpack_error(blob), Exception)


def test_every_unpacking_gives_a_new_object() -> None:
    blob = pack_error(ValueError("v"), "f", pid=1)
    assert unpack_error(blob) is not unpack_error(blob)


def test_a_stop_iteration_can_end_an_iteration() -> None:
    """The interpreter reads the C structure of what it takes for the end of an iterator, and crashed on half of one."""
    error = _sent(StopIteration("value"))
    assert isinstance(error, StopIteration)
    assert isinstance(error, RayTaskError)

    class Iterator:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            raise error

    def delegate() -> Any:
        got = yield from Iterator()
        yield got

    assert next(delegate()) == "value"
    assert list(Iterator()) == []
