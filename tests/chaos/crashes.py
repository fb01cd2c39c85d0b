"""Ways to end a process, and objects that do so while they are pickled or unpickled."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

#: The last thing a process says before it ends here.
LAST_WORDS = "these were its last words"
EXIT_CODE = 37


@dataclass(frozen=True)
class Death:
    """How a process ends, and what the error must say of it."""

    kind: str
    signal: int = 0
    exit_code: int | None = None

    def __str__(self) -> str:
        return self.kind


SEGFAULT = Death("segfault", signal=signal.SIGSEGV)
ABORT = Death("abort", signal=signal.SIGABRT)
EXIT = Death("os._exit", exit_code=EXIT_CODE)
C_EXIT = Death("C-exit", exit_code=EXIT_CODE)
KILL = Death("SIGKILL", signal=signal.SIGKILL)
TERMINATE = Death("SIGTERM", signal=signal.SIGTERM)
DEATHS = (SEGFAULT, ABORT, EXIT, C_EXIT, KILL, TERMINATE)


class Planned(Exception):
    """What an object raises where it does not end the process."""


def end(kind: str) -> NoReturn:
    """End this process, or raise :class:`Planned` for the kind "raise"."""
    if kind == "raise":
        raise Planned("as planned")
    print(LAST_WORDS, file=sys.stderr, flush=True)
    if kind == "segfault":
        ctypes.string_at(0)
    elif kind == "abort":
        os.abort()
    elif kind == "os._exit":
        os._exit(EXIT_CODE)
    elif kind == "C-exit":
        ctypes.CDLL(None).exit(EXIT_CODE)
    elif kind == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError(f"still alive after {kind}")


class Bomb:
    """Ends the process that pickles it (``when="pickle"``) or that unpickles it."""

    def __init__(self, kind: str, when: str) -> None:
        self.kind = kind
        self.when = when

    def __reduce__(self) -> Any:
        if self.when == "pickle":
            end(self.kind)
        return end, (self.kind,)


class TwoFacedError(Exception):
    """An exception that pickles but does not unpickle."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")

    def __reduce__(self) -> Any:
        return end, ("raise",)


class UnpicklableError(Exception):
    """An exception that does not pickle, nor by its attributes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.frame = sys._getframe()


class FatalError(Exception):
    """An exception whose unpickling ends the process."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    def __reduce__(self) -> Any:
        return end, (self.kind,)
