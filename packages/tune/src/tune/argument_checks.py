"""How arguments are checked: one clear error at the call, saying what was wrong, what was expected, how to mend it."""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return ``" Did you mean 'asha'?"``, or nothing if no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def one_of(name: str, value: T, known: Collection[Any]) -> T:
    """Return `value` if it is one of the known ones.

    Raises:
        ValueError: it is not.
    """
    if value in known:
        return value
    hint = did_you_mean(value, [k for k in known if isinstance(k, str)]) if isinstance(value, str) else ""
    listed = ", ".join(repr(k) for k in known)
    raise ValueError(f"{name} must be one of {listed}; got {value!r}.{hint}")


def integer(name: str, value: Any, *, at_least: int, also: Collection[int] = ()) -> int:
    """Return a whole number that is at least so much, or one of `also`.

    Raises:
        TypeError: not a whole number.
        ValueError: too small.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number; got {value!r} ({type(value).__name__}).")
    number = int(value)
    if number < at_least and number not in also:
        others = "".join(f" or {extra}" for extra in also)
        raise ValueError(f"{name} must be at least {at_least}{others}; got {number}.")
    return number


def number(name: str, value: Any, *, above: float | None = None, at_least: float | None = None) -> float:
    """Return a finite number in a range.

    Raises:
        TypeError: not a number.
        ValueError: not finite, or out of the range.
    """
    if isinstance(value, bool) or not hasattr(value, "__float__") or isinstance(value, str):
        raise TypeError(f"{name} must be a number; got {value!r} ({type(value).__name__}).")
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{name} must be finite; got {found}.")
    if above is not None and found <= above:
        raise ValueError(f"{name} must be above {above:g}; got {found:g}.")
    if at_least is not None and found < at_least:
        raise ValueError(f"{name} must be at least {at_least:g}; got {found:g}.")
    return found


def seconds(name: str, value: Any) -> float:
    """Return a duration above zero in seconds; a ``datetime.timedelta`` is one too.

    Raises:
        TypeError: not a duration.
        ValueError: zero, negative or without end.
    """
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    return number(f"{name} (seconds or datetime.timedelta)", value, above=0)


def flag(name: str, value: Any) -> bool:
    """Return a truth value.

    Raises:
        TypeError: anything but True or False: ``"no"`` would count as true.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False; got {value!r} ({type(value).__name__}).")
    return value


def instance(name: str, value: Any, kind: type[T], hint: str = "") -> T:
    """Return `value` if it is an instance of `kind`.

    Raises:
        TypeError: it is not; a class passed in place of its instance is named.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(f"{name} must be an instance: write {value.__name__}(...), not the class {value.__name__}.")
    found = f"{value!r} ({type(value).__name__})"
    raise TypeError(f"{name} must be a {kind.__module__}.{kind.__name__}; got {found}.{hint and ' ' + hint}")


def function(name: str, value: Any, signature: str) -> Callable[..., Any]:
    """Return something that can be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(value):
        raise TypeError(f"{name} must be a function {signature}; got {value!r} ({type(value).__name__}).")
    return value  # type: ignore[no-any-return]


def log_files(log_to_file: Any) -> tuple[str, str] | None:
    """Return the files, within a trial's directory, for what it prints to stdout and stderr; None for nowhere.

    Raises:
        TypeError: not a truth value, a name, or two names.
        ValueError: a sequence of another length.
    """
    if log_to_file is False or log_to_file is None:
        return None
    if log_to_file is True:
        return ("stdout", "stderr")
    if isinstance(log_to_file, str) and log_to_file:
        return (log_to_file, log_to_file)
    if isinstance(log_to_file, Sequence) and all(isinstance(part, str) and part for part in log_to_file):
        if len(log_to_file) == 2:
            return (log_to_file[0], log_to_file[1])
        raise ValueError(f"log_to_file as a sequence must name two files, for stdout and stderr; got {log_to_file!r}.")
    raise TypeError(f"log_to_file must be True, False, a file's name, or two names; got {log_to_file!r}.")
