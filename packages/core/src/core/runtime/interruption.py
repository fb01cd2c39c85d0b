"""Where an interrupt may be raised: in user code and in waits, never in the middle of the engine's own work.

A signal handler runs between two bytecodes of the main thread, whatever that is doing. Raised inside the engine, a
``KeyboardInterrupt`` could lose messages that are read and not handled yet, leak the role of the reading thread, or
keep the node believing that the worker is blocked. So the handler looks at the stack: what counts is the innermost
frame of the engine, and whether user code (or the standard library on its behalf) runs on top of it. No handler runs
in the finalisers of references (see :mod:`core.refs`).
"""

from __future__ import annotations

from pathlib import Path
from types import CodeType, FrameType

from core.runtime.packing import Packer
from core.runtime.reactor import INTERRUPTIBLE
from core.runtime.values import UNPICKLING

_PACKAGE = Path(__file__).resolve().parent.parent
#: The rooms whose work must not be torn apart. The others (``api``, ``util``, ...) are written like user code.
_ENGINE = tuple(f"{_PACKAGE / room}/" for room in ("engine", "protocol", "runtime", "state", "store", "worker"))
#: Functions of the engine that call user code and are ready for whatever it raises.
_CALLERS: frozenset[CodeType] = frozenset({Packer.value.__code__}) | UNPICKLING


def may_interrupt(
    frame: FrameType | None, loop: CodeType | None = None, callers: frozenset[CodeType] = frozenset()
) -> bool:
    """Tell whether an exception raised at ``frame``, the innermost one, leaves the engine whole.

    Args:
        frame: where the main thread was when the signal came.
        loop: in workers, the code that runs tasks and takes whatever they raise: an interrupt may always reach it.
            Drivers have none: below their user code there is nothing of the engine.
        callers: further functions of the engine that call user code and are ready for whatever it raises.
    """
    innermost = frame
    while frame is not None:
        code = frame.f_code
        if code is loop or code in INTERRUPTIBLE:
            return True
        if code.co_filename.startswith(_ENGINE):
            return frame is not innermost and (code in _CALLERS or code in callers)
        frame = frame.f_back
    return loop is None
