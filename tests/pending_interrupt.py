"""An interrupt that is asked for and not raised yet, at a moment the test chooses."""

from __future__ import annotations

import _thread
import ctypes
import functools
import operator
import threading
from collections.abc import Callable

import pytest


def of_a_signal() -> Callable[[], object]:
    """What asks for the handler of SIGINT to be called in the main thread."""
    return _thread.interrupt_main


def of_a_cancellation() -> Callable[[], object]:
    """What asks for a KeyboardInterrupt in this thread, as cancelling what an actor's thread runs does."""
    request = ctypes.pythonapi.PyThreadState_SetAsyncExc
    identity, interrupt = ctypes.c_ulong(threading.get_ident()), ctypes.py_object(KeyboardInterrupt)
    return functools.partial(request, identity, interrupt)


def call(request: Callable[[], object], function: Callable[[], object]) -> None:
    """Call a C function while the interrupt is pending; it must be raised afterwards, in the caller."""
    with pytest.raises(KeyboardInterrupt):
        # In between the interpreter runs no bytecode, and so does not look for it.
        list(map(operator.call, (request, function)))
