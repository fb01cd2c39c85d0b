"""Says when the code of a deployment keeps the replica's event loop from everybody else.

The commonest mistake in asynchronous code makes no error: ``time.sleep``, a driver that blocks, a long computation in
an ``async def``. All other requests of the replica wait, and nobody knows why. A thread asks the loop for a sign of
life once a second; where none comes within a second, it looks at what the loop's thread is doing, and tells.
"""

from __future__ import annotations

import asyncio
import linecache
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import core

logger = logging.getLogger("serve")

#: seconds between two looks, and without a sign of life until it is told
PERIOD_S = 1.0
_OURS = str(Path(__file__).parents[1])
_CORE = str(Path(core.__file__).parent)


class StallWatch:
    """Watches the event loop that runs in this thread.

    Args:
        name: of the replica, for the message.
        period_s: seconds between two looks.
        tell: what to do with the message.
    """

    def __init__(
        self, name: str, *, period_s: float = PERIOD_S, tell: Callable[[str], object] = logger.warning
    ) -> None:
        self._name = name
        self._period_s = period_s
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._alive = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="serve-stalls", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._ended.set()

    def _watch(self) -> None:
        told = False
        self._alive.set()
        while not self._ended.wait(self._period_s):
            if self._alive.is_set():
                self._alive.clear()
                told = False
                try:
                    self._loop.call_soon_threadsafe(self._alive.set)
                except RuntimeError:  # it is closed
                    return
            elif not told:
                place = users_place(sys._current_frames().get(self._loop_thread))  # noqa: SLF001 - the documented way
                if place:
                    told = True
                    self._tell(
                        f"replica {self._name} stands still: blocking code in an `async def`, {place}. All its other "
                        "requests wait. Await something that does not block, or leave `async` away: the method then "
                        "runs in a thread"
                    )


def users_place(frame: FrameType | None) -> str:
    """Return where in the user's code a thread is; empty if it is not in the user's code."""
    inner: list[FrameType] = []
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        inner.append(frame)
        frame = frame.f_back
    # the user's own line says more than that of the library it called
    own = next((each for each in inner if not _is_library(each.f_code.co_filename)), None)
    if frame is None or own is None:  # none of our code called it, or it is a library's loop
        return ""
    file, line = own.f_code.co_filename, own.f_lineno
    text = linecache.getline(file, line).strip()
    return f"{file}, line {line}, in {own.f_code.co_name}" + (f": {text}" if text else "")


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith((sys.prefix, sys.base_prefix, _CORE, "<"))
