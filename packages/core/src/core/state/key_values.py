"""The control store's keys and values: small facts that all processes of a session share, and who watches them.

Every change takes the next number of one counter, its *version*; a key's version is that of its last change. A watcher
asks for what has changed under a prefix since a version. It gets the present value of each key that has, oldest change
first (values in between are skipped), or waits until there is something. It asks again when it has taken that in; so
the store knows how far each watcher is, a slow one is never flooded, and none needs a queue here.

Of deleted keys the version is remembered, so that watchers hear of them; of the oldest beyond
:data:`MAX_DELETED` it is not, and a watcher that asks for changes before that is told so.
"""

from __future__ import annotations

from msgspec import Struct

from core.protocol.records import KeyChange

#: Longest key, in bytes of UTF-8.
MAX_KEY_BYTES = 1024
#: Longest value.
MAX_VALUE_BYTES = 8 * 1024 * 1024
#: Of all keys and values together.
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
#: Deleted keys that are remembered.
MAX_DELETED = 10_000
#: Values in one answer to a watcher: no more are added once there are so many bytes.
ANSWER_BYTES = 4 * 1024 * 1024


class Changed(Struct, frozen=True):
    """Instruction: answer a watcher's request. ``forgotten``: not all that it asked for is known any more."""

    to: bytes
    request: int
    changes: list[KeyChange]
    forgotten: bool = False


class Taken(Struct, frozen=True):
    """Instruction: answer the request of one who waited until all watchers have taken a change in."""

    to: bytes
    request: int


Instruction = Changed | Taken


class _Watcher(Struct, eq=False):
    address: bytes
    prefix: str
    #: it has taken in all changes up to this one
    taken: int
    #: its request that waits for changes; 0 while it works on the last answer
    request: int = 0


class _Wait(Struct, eq=False, frozen=True):
    address: bytes
    request: int
    key: str
    version: int


class KeyValues:
    """See the module's docstring. Addresses are those of processes; request and watch numbers are theirs."""

    def __init__(self) -> None:
        self.version = 0
        #: of all keys and values
        self.total_bytes = 0
        #: present keys, in the order of their last changes
        self._entries: dict[str, KeyChange] = {}
        #: deleted keys, in the order of their deletion
        self._deleted: dict[str, int] = {}
        #: deletions up to this version may be forgotten
        self._forgotten = 0
        self._watchers: dict[tuple[bytes, int], _Watcher] = {}
        self._waits: list[_Wait] = []

    # -- keys ----------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> KeyChange | None:
        """Return a key's value and version; None if there is no such key."""
        return self._entries.get(key)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, sorted."""
        return sorted(key for key in self._entries if key.startswith(prefix))

    def refusal(self, key: str, value: bytes) -> str:
        """Say why a value cannot be kept; "" if it can."""
        size = len(key.encode())
        if not 0 < size <= MAX_KEY_BYTES:
            return f"a key has 1 to {MAX_KEY_BYTES} bytes, not {size}"
        if len(value) > MAX_VALUE_BYTES:
            return f"a value has at most {MAX_VALUE_BYTES:,} bytes, not {len(value):,}; keep large things by core.put()"
        if self.total_bytes - self._size(key) + size + len(value) > MAX_TOTAL_BYTES:
            return f"the control store is full: it keeps at most {MAX_TOTAL_BYTES:,} bytes"
        return ""

    def put(self, key: str, value: bytes) -> list[Instruction]:
        """Keep a value, in place of what the key had; its version is the new :attr:`version`."""
        self.total_bytes += len(key.encode()) + len(value) - self._size(key)
        self._entries.pop(key, None)
        self._deleted.pop(key, None)
        self.version += 1
        self._entries[key] = KeyChange(key, value, self.version)
        return self._answer_watchers(key)

    def delete(self, key: str) -> list[Instruction]:
        """Forget a key that is there."""
        self.total_bytes -= self._size(key)
        del self._entries[key]
        self.version += 1
        self._deleted[key] = self.version
        while len(self._deleted) > MAX_DELETED:
            oldest = next(iter(self._deleted))
            self._forgotten = self._deleted.pop(oldest)
        return self._answer_watchers(key)

    def version_of(self, key: str) -> int:
        """Return a key's version; 0 if there is no such key."""
        entry = self._entries.get(key)
        return entry.version if entry is not None else 0

    def _size(self, key: str) -> int:
        entry = self._entries.get(key)
        return len(key.encode()) + len(entry.value or b"") if entry is not None else 0

    # -- watchers ------------------------------------------------------------------------------------------------------

    def watch(self, address: bytes, number: int, request: int, prefix: str, after: int) -> list[Instruction]:
        """A watcher has taken in what has changed until a version, and asks for more.

        Args:
            address: of its process.
            number: of the watcher, within the process.
            request: to be answered.
            prefix: of the keys.
            after: the version; 0 for all that is there, -1 for now.
        """
        if after < 0 or after > self.version:
            after = self.version
        watcher = self._watchers.get((address, number))
        if watcher is None:
            watcher = self._watchers[address, number] = _Watcher(address, prefix, after)
        watcher.taken, watcher.request = after, request
        out: list[Instruction] = []
        if 0 < after < self._forgotten:
            watcher.request = 0
            out.append(Changed(address, request, [], forgotten=True))
        else:
            self._answer(watcher, out)
        self._settle(out)
        return out

    def unwatch(self, address: bytes, number: int) -> list[Instruction]:
        """A watcher has no interest any more."""
        out: list[Instruction] = []
        self._watchers.pop((address, number), None)
        self._settle(out)
        return out

    def when_taken(self, address: bytes, request: int, key: str, version: int) -> list[Instruction]:
        """Answer a request once all watchers of a key have taken in its change of that version."""
        out: list[Instruction] = []
        self._waits.append(_Wait(address, request, key, version))
        self._settle(out)
        return out

    def process_gone(self, address: bytes) -> list[Instruction]:
        """Forget a process's watchers and waits."""
        out: list[Instruction] = []
        self._watchers = {key: watcher for key, watcher in self._watchers.items() if key[0] != address}
        self._waits = [wait for wait in self._waits if wait.address != address]
        self._settle(out)
        return out

    def validate(self) -> None:
        """Check every invariant; used by tests after each change.

        Raises:
            AssertionError: one is broken.
        """
        assert self.total_bytes == sum(map(self._size, self._entries)) <= MAX_TOTAL_BYTES
        assert not self._entries.keys() & self._deleted.keys()
        assert len(self._deleted) <= MAX_DELETED
        for versions in ([entry.version for entry in self._entries.values()], [*self._deleted.values()]):
            assert versions == sorted(set(versions)), "not in the order of the changes"
            assert not versions or versions[-1] <= self.version
        assert all(version > self._forgotten for version in self._deleted.values())
        for watcher in self._watchers.values():
            assert watcher.taken <= self.version
            assert not (watcher.request and self._changes(watcher.prefix, watcher.taken)), "one waits for what is there"
        for wait in self._waits:
            assert any(_owes(watcher, wait) for watcher in self._watchers.values()), "one waits for nobody"

    def _answer_watchers(self, key: str) -> list[Instruction]:
        out: list[Instruction] = []
        for watcher in self._watchers.values():
            if watcher.request and key.startswith(watcher.prefix):
                self._answer(watcher, out)
        return out

    def _answer(self, watcher: _Watcher, out: list[Instruction]) -> None:
        """Answer a watcher that waits, if there is something for it."""
        changes = self._changes(watcher.prefix, watcher.taken)
        if changes:
            out.append(Changed(watcher.address, watcher.request, changes))
            watcher.request = 0

    def _changes(self, prefix: str, after: int) -> list[KeyChange]:
        found = _since(self._entries, prefix, after)
        if after:
            found += [
                KeyChange(key, None, version)
                for key, version in self._deleted.items()
                if version > after and key.startswith(prefix)
            ]
            found.sort(key=lambda change: change.version)
        size = 0
        for index, change in enumerate(found):
            size += len(change.value or b"")
            if size > ANSWER_BYTES:
                return found[: max(1, index)]
        return found

    def _settle(self, out: list[Instruction]) -> None:
        for wait in list(self._waits):
            if not any(_owes(watcher, wait) for watcher in self._watchers.values()):
                self._waits.remove(wait)
                out.append(Taken(wait.address, wait.request))


def _since(entries: dict[str, KeyChange], prefix: str, after: int) -> list[KeyChange]:
    """Entries are in the order of their changes, so those since a version are the last ones."""
    found = []
    for key in reversed(entries):
        change = entries[key]
        if change.version <= after:
            break
        if key.startswith(prefix):
            found.append(change)
    found.reverse()
    return found


def _owes(watcher: _Watcher, wait: _Wait) -> bool:
    """Tell whether a watcher has a change still to take in. One that waits for changes has taken in all there are."""
    return not watcher.request and watcher.taken < wait.version and wait.key.startswith(watcher.prefix)
