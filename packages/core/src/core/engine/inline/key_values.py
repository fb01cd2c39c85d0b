"""Keys and values of an inline session: the control store's state machine, in this process."""

from __future__ import annotations

import concurrent.futures
import threading
from itertools import count
from typing import Any

from core.exceptions import RaySystemError
from core.protocol.from_node import KeyChanges, KeyReply
from core.state.key_values import Changed, Instruction, KeyValues


class InlineKeyValues:
    """See ``core.engine.base.KeyValueStore``."""

    def __init__(self) -> None:
        self._store = KeyValues()
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._open: dict[int, concurrent.futures.Future[Any]] = {}

    def get(self, key: str) -> KeyReply:
        """See ``KeyValueStore``."""
        with self._lock:
            entry = self._store.get(key)
        return KeyReply(0) if entry is None else KeyReply(0, entry.version, entry.value)

    def put(self, key: str, value: bytes, expected: int | None) -> KeyReply:
        """See ``KeyValueStore``."""
        with self._lock:
            refusal, version = self._store.refusal(key, value), self._store.version_of(key)
            if refusal:
                return KeyReply(0, error="refused", reason=refusal)
            if expected is not None and expected != version:
                return KeyReply(0, version, error="conflict")
            instructions, version = self._store.put(key, value), self._store.version
        self._perform(instructions)
        return KeyReply(0, version)

    def delete(self, key: str, expected: int | None) -> KeyReply:
        """See ``KeyValueStore``."""
        with self._lock:
            version = self._store.version_of(key)
            if version and expected is not None and expected != version:
                return KeyReply(0, version, error="conflict")
            instructions = self._store.delete(key) if version else []
        self._perform(instructions)
        return KeyReply(0, version)

    def keys(self, prefix: str) -> list[str]:
        """See ``KeyValueStore``."""
        with self._lock:
            return self._store.keys(prefix)

    def new_watch(self) -> int:
        """See ``KeyValueStore``."""
        return next(self._numbers)

    def changes(self, watch: int, prefix: str, after: int) -> concurrent.futures.Future[KeyChanges]:
        """See ``KeyValueStore``."""
        with self._lock:
            request, future = self._request()
            instructions = self._store.watch(b"", watch, request, prefix, after)
        self._perform(instructions)
        return future

    def wait(self, future: concurrent.futures.Future[Any], timeout: float | None) -> bool:
        """See ``KeyValueStore``."""
        return bool(concurrent.futures.wait([future], timeout).done)

    def unwatch(self, watch: int, asking: concurrent.futures.Future[Any] | None) -> None:
        """See ``KeyValueStore``."""
        with self._lock:
            instructions = self._store.unwatch(b"", watch)
            self._open = {number: future for number, future in self._open.items() if future is not asking}
        if asking is not None and asking.cancel():
            asking.set_running_or_notify_cancel()  # or nobody who waits would hear of it
        self._perform(instructions)

    def when_taken(self, key: str, version: int) -> concurrent.futures.Future[KeyReply]:
        """See ``KeyValueStore``."""
        with self._lock:
            request, future = self._request()
            instructions = self._store.when_taken(b"", request, key, version)
        self._perform(instructions)
        return future

    def close(self) -> None:
        """The session is over: whoever waits is told."""
        with self._lock:
            waiting, self._open = list(self._open.values()), {}
        for future in waiting:
            if not future.cancelled() and future.set_running_or_notify_cancel():
                future.set_exception(RaySystemError("core.shutdown() was called"))

    def _request(self) -> tuple[int, concurrent.futures.Future[Any]]:
        number = next(self._numbers)
        future = self._open[number] = concurrent.futures.Future()
        return number, future

    def _perform(self, instructions: list[Instruction]) -> None:
        """Answer, without the lock: a future's callbacks may use the store."""
        for instruction in instructions:
            future = self._open.pop(instruction.request, None)
            if future is None or not future.set_running_or_notify_cancel():
                continue
            if isinstance(instruction, Changed):
                future.set_result(KeyChanges(0, instruction.changes, instruction.forgotten))
            else:
                future.set_result(KeyReply(0))
