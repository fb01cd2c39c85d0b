"""What rate limits remember, exact over all processes of a machine: a small table in a file that all of them map.

An entry is a few numbers under the hash of a name. Reading, deciding and writing happen under a lock of the file, which
the kernel takes back from a process that dies. Nobody waits for it longer than a moment: a process that was stopped in
between must not stop the others, so they go on without, at the price of a request too many.

The table has a fixed size. A name looks at a few slots; if all are taken, the one that could be forgotten soonest is.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from serve.gateway.rates import State

R = TypeVar("R")

#: hash of the name, three numbers
_SLOT = struct.Struct("<8s3d")
_EMPTY = bytes(8)
#: slots of a table: 2 MiB
SLOTS = 1 << 16
#: slots that a name may be in
_NEIGHBOURS = 8
#: seconds to try to get the lock
PATIENCE_S = 0.005


class Memory(Protocol):
    """Where limits remember clients."""

    def update(self, names: Sequence[bytes], decide: Callable[[list[State | None]], tuple[R, list[State] | None]]) -> R:
        """Look names up, decide, and keep what the decision says (or nothing), as one step.

        Args:
            names: who and what for.
            decide: gets what is known of each; returns its result, and what is to be known of each from now on.
        """


class ProcessMemory:
    """What one process remembers.

    Args:
        size: names that are remembered; of more, those that came last.
    """

    def __init__(self, size: int = SLOTS) -> None:
        self._size = size
        self._states: dict[bytes, State] = {}

    def update(self, names: Sequence[bytes], decide: Callable[[list[State | None]], tuple[R, list[State] | None]]) -> R:
        """See `Memory.update`."""
        result, states = decide([self._states.get(name) for name in names])
        if states is not None:
            for name, state in zip(names, states, strict=True):
                self._states.pop(name, None)
                self._states[name] = state
                if len(self._states) > self._size:
                    del self._states[next(iter(self._states))]
        return result


class SharedMemory:
    """See the module's docstring.

    Args:
        path: of the file; made if there is none.
        slots: size of the table; the same for all who open it.
        patience_s: seconds to try to get the lock; then it goes without.
    """

    def __init__(self, path: str | os.PathLike[str], slots: int = SLOTS, patience_s: float = PATIENCE_S) -> None:
        self._slots = slots
        self._patience = patience_s
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(self._file).st_size < slots * _SLOT.size:
            os.ftruncate(self._file, slots * _SLOT.size)
        self._map = mmap.mmap(self._file, slots * _SLOT.size)
        self.path = Path(path)

    def close(self) -> None:
        """Let the table go; others keep it."""
        self._map.close()
        os.close(self._file)

    def update(self, names: Sequence[bytes], decide: Callable[[list[State | None]], tuple[R, list[State] | None]]) -> R:
        """See `Memory.update`."""
        keys = [hashlib.blake2b(name, digest_size=8).digest() for name in names]
        with self._lock, self._locked():
            places = [self._find(key) for key in keys]
            known = [self._read(place, key) for place, key in zip(places, keys, strict=True)]
            result, states = decide(known)
            if states is not None:
                for place, key, state in zip(places, keys, states, strict=True):
                    _SLOT.pack_into(self._map, place, key, *state)
        return result

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        got, until = False, 0.0
        while not got:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                until = until or time.monotonic() + self._patience
                if time.monotonic() > until:
                    break
                os.sched_yield()
            else:
                got = True
        try:
            yield
        finally:
            if got:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _find(self, key: bytes) -> int:
        """Return where a name is, or where it will be."""
        first = int.from_bytes(key, "little")
        best, soonest = 0, float("inf")
        for step in range(_NEIGHBOURS):
            place = (first + step) % self._slots * _SLOT.size
            there, _, _, forget = _SLOT.unpack_from(self._map, place)
            if there == key:
                return place
            if there == _EMPTY:
                forget = float("-inf")
            if forget < soonest:
                best, soonest = place, forget
        return best

    def _read(self, place: int, key: bytes) -> State | None:
        there, first, second, forget = _SLOT.unpack_from(self._map, place)
        return (first, second, forget) if there == key else None
