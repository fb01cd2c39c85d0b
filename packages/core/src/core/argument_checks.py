"""What arguments of public functions may be: checks that raise at the call, with a message for people.

Whatever a user gives that becomes a field of a message is checked first: a peer that gets a field of the wrong type
takes it for a broken connection and closes it, and with it the session.
"""

from __future__ import annotations

import math
import operator
from typing import Any


def flag(name: str, value: Any) -> bool:
    """Return a truth value; 0 and 1 count as such.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {type(value).__name__}: {value!r}")


def text(name: str, value: Any) -> str:
    """Return a string that can be sent.

    Raises:
        TypeError: it is no string.
        ValueError: it holds lone surrogates, as names of files that are no UTF-8 do.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}: {value!r}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} must be text that UTF-8 can express, got {value!r} ({error.reason})") from None
    return value


def seconds(name: str, value: Any) -> float | None:
    """Return a time in seconds, or None for no limit. Numbers of numpy will do.

    Raises:
        TypeError: it is no number.
        ValueError: it is nan.
    """
    if value is None or type(value) is int:
        return value
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number of seconds or None, got {type(value).__name__}: {value!r}")
    number = float(value)
    if math.isnan(number):
        raise ValueError(f"{name} must be a number of seconds or None, got nan")
    return number


def whole_number(name: str, value: Any) -> int:
    """Return an integer. Integers of numpy will do.

    Raises:
        TypeError: it is none.
    """
    if type(value) is int:
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}: {value!r}")
    return operator.index(value)
