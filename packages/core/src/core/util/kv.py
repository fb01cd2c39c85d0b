"""Keys and values that all processes of a session share: small facts, versioned, and watched.

They are kept by the node daemon, so they outlive the process that put them, and go with the session. Values are bytes.
Each change takes the next number of one counter, its *version*::

    version = kv.put("model/best", b"17")
    kv.put("model/best", b"18", expected_version=version)  # only if nobody was faster

    with kv.watch("model/") as changes:  # in an asyncio actor: `async for`
        for change in changes:
            ...

Not for data: a value has at most 8 MiB; large things go by ``core.put`` or a file system, and their address in here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from types import TracebackType
from typing import Any, NamedTuple, Self

from core import current
from core.argument_checks import text, whole_number
from core.exceptions import RayError

__all__ = [
    "Change",
    "ChangesForgottenError",
    "Entry",
    "VersionConflictError",
    "Watch",
    "delete",
    "get",
    "keys",
    "put",
    "watch",
    "when_taken",
]


#: No key ever gets that far; larger numbers cannot be sent.
_NO_SUCH_VERSION = 2**63 - 1


class Entry(NamedTuple):
    """What a key holds."""

    value: bytes
    version: int


class Change(NamedTuple):
    """A key as its last change left it."""

    key: str
    #: None: it was deleted
    value: bytes | None
    version: int


class VersionConflictError(RayError, ValueError):
    """A key was changed by somebody else meanwhile, so it was left alone.

    Args:
        key: which.
        expected: version that it was expected to have.
        actual: version that it has; 0 if it is not there.
    """

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(key, expected, actual)
        self.key = key
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        now = f"has version {self.actual}" if self.actual else "is not there"
        wanted = f"version {self.expected} was expected" if self.expected else "it was expected not to be there"
        return f"key {self.key!r} {now}, but {wanted}; read it again with kv.get()"


class ChangesForgottenError(RayError):
    """Deletions since the version that a watch began after are not all known any more: begin with 0."""


def put(key: str, value: bytes, *, expected_version: int | None = None) -> int:
    """Keep a value under a key, and return the version of this change.

    Args:
        key: 1 to 1024 bytes of UTF-8; slashes make prefixes that are easy to watch.
        value: at most 8 MiB.
        expected_version: put only if the key has this version (0: only if it is not there). None: in any case.

    Raises:
        TypeError: the key is no text, or the value no bytes.
        ValueError: key or value are too long, or the store is full.
        VersionConflictError: the key has another version.
    """
    _check_key(key)
    expected_version = _version("expected_version", expected_version)
    if not isinstance(value, bytes):
        raise TypeError(f"a value is bytes, not {type(value).__name__}; encode it first")
    reply = current.require().key_values.put(key, value, expected_version)
    if reply.error == "conflict":
        raise VersionConflictError(key, expected_version or 0, reply.version)
    if reply.error:
        raise ValueError(f"kv.put({key[:80]!r}): {reply.reason}")
    return reply.version


def get(key: str) -> Entry | None:
    """Return a key's value and version; None if there is no such key."""
    _check_key(key)
    reply = current.require().key_values.get(key)
    return Entry(reply.value, reply.version) if reply.value is not None else None


def delete(key: str, *, expected_version: int | None = None) -> bool:
    """Forget a key; returns whether it was there.

    Args:
        key: which.
        expected_version: delete only if the key has this version. None: in any case.

    Raises:
        VersionConflictError: the key has another version.
    """
    _check_key(key)
    expected_version = _version("expected_version", expected_version)
    reply = current.require().key_values.delete(key, expected_version)
    if reply.error:
        raise VersionConflictError(key, expected_version or 0, reply.version)
    return reply.version > 0


def keys(prefix: str = "") -> list[str]:
    """Return the keys that begin with a prefix, sorted."""
    _check_prefix(prefix)
    return current.require().key_values.keys(prefix)


def watch(prefix: str, after_version: int | None = 0) -> Watch:
    """Watch the keys with a prefix.

    Args:
        prefix: a whole key is one, too.
        after_version: tell of changes later than this one. 0 tells of all keys that are there first; None only of
            changes from now on.
    """
    _check_prefix(prefix)
    after_version = _version("after_version", after_version)
    return Watch(prefix, -1 if after_version is None else after_version)


def when_taken(key: str, version: int) -> concurrent.futures.Future[None]:
    """Return a future that completes when every watch of a key, in whatever process, has taken a change of it in.

    A watch has taken a change in when it asks for the next one (or is closed, or its process is gone). So whoever puts
    a value can wait until nobody works by the old one any more. Use ``asyncio.wrap_future`` to await it; what hangs
    in its handling of a change lets it wait without end, so give ``result()`` a timeout.

    Args:
        key: which.
        version: what `put` or `delete` of it returned, or a later one.
    """
    _check_key(key)
    version = min(whole_number("version", version), _NO_SUCH_VERSION)
    taken: concurrent.futures.Future[None] = concurrent.futures.Future()

    def pass_on(done: concurrent.futures.Future[Any]) -> None:
        if taken.set_running_or_notify_cancel():
            error = done.exception()
            taken.set_exception(error) if error is not None else taken.set_result(None)

    current.require().key_values.when_taken(key, version).add_done_callback(pass_on)
    return taken


class Watch:
    """The changes of keys with a prefix, as they come: an iterator, also for ``async for``. Made by `watch`.

    It tells of each key what its last change left: changes in between, which nobody took in time, are skipped. One
    thread or task at a time may use it; `close` may be called by any, and ends the iteration.
    """

    def __init__(self, prefix: str, after: int) -> None:
        self._prefix = prefix
        self._after = after
        self._store = current.require().key_values
        self._number = self._store.new_watch()
        self._ready: deque[Change] = deque()
        self._asking: concurrent.futures.Future[Any] | None = None
        self._closed = False
        if after < 0:
            self._ask()  # "from now on" means from here

    @property
    def version(self) -> int:
        """The version of the change that was told of last; what a later `watch` can begin after."""
        return max(0, self._after)

    def poll(self, timeout: float | None = None) -> Change | None:
        """Return the next change; None if there is none within so many seconds (None: wait for it), or at the end.

        Raises:
            ChangesForgottenError: the watch began too long ago.
            RaySystemError: the session is over.
        """
        while not self._ready:
            if self._closed:
                return None
            asking = self._ask()
            if self._is_closed():  # by another thread, which did not see this question
                self._store.unwatch(self._number, asking)
                return None
            if not self._store.wait(asking, timeout):
                return None
            try:
                self._take(asking.result())
            except concurrent.futures.CancelledError:  # by close()
                return None
        return self._next()

    def _is_closed(self) -> bool:
        return self._closed  # asked again, because another thread may have changed it

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        change = self.poll()
        if change is None:
            raise StopIteration
        return change

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            asking = self._ask()
            if self._is_closed():  # by another thread, which did not see this question
                self._store.unwatch(self._number, asking)
                raise StopAsyncIteration
            try:
                # Shielded: a cancelled wait must not lose the changes that come.
                self._take(await asyncio.shield(asyncio.wrap_future(asking)))
            except asyncio.CancelledError:
                if asking.cancelled():  # by close()
                    raise StopAsyncIteration from None
                raise
        return self._next()

    def close(self) -> None:
        """End the watch; iterations of it end."""
        self._closed = True
        self._ready.clear()
        asking, self._asking = self._asking, None
        self._store.unwatch(self._number, asking)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self) -> concurrent.futures.Future[Any]:
        if self._asking is None:
            self._asking = self._store.changes(self._number, self._prefix, self._after)
        return self._asking

    def _take(self, answer: Any) -> None:
        self._asking = None
        if answer.forgotten:
            raise ChangesForgottenError(
                f"not all deletions of {self._prefix!r} since version {self._after} are known any more; "
                "watch from after_version=0 on, which tells of all keys that are there"
            )
        self._ready.extend(Change(change.key, change.value, change.version) for change in answer.changes)

    def _next(self) -> Change:
        change = self._ready.popleft()
        self._after = change.version
        return change


def _check_key(key: Any) -> None:
    if not isinstance(key, str) or not key:
        raise TypeError(f"a key is a text that is not empty, not {key!r}")
    text("a key", key)


def _check_prefix(prefix: Any) -> None:
    if not isinstance(prefix, str):
        raise TypeError(f"a prefix is a text, not {prefix!r}")
    text("a prefix", prefix)


def _version(name: str, given: int | None) -> int | None:
    return None if given is None else min(whole_number(name, given), _NO_SUCH_VERSION)
