"""How processes agree on who still needs an object that one of them owns.

Rules (between a holder H and the owner O):

1. The first reference in H makes H send ``Borrow`` to O; the last one's death makes it send ``Release``.
2. Whoever hands a reference to H keeps O's object alive until O knows H: a caller keeps the references in a task's
   arguments until the result has come, and an executor sends the result only after O has answered the ``Borrow`` of
   every reference the task left behind. If O is the caller itself, its connection keeps the order: no wait is needed.
3. So a ``Release`` (which may let go of an *outer* object that kept an inner one alive) waits until every earlier
   ``Borrow`` is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from core import ids
from core.protocol import peer


class Borrowing:
    """The holder's side of the protocol, for one process. All methods are called under the runtime's lock.

    Args:
        send: queues a message to the process at an address; returns False if that process is known to be dead.
        unsent: tells whether a message is the last one queued for an address, and not sent yet.
        unknown: called with ids that their owner does not know (any more), or whose owner is dead.
    """

    def __init__(
        self,
        send: Callable[[bytes, Any], bool],
        unsent: Callable[[bytes, Any], bool],
        unknown: Callable[[list[bytes]], None],
    ) -> None:
        self._send = send
        self._unsent = unsent
        self._unknown = unknown
        self._number = 0
        self._latest: peer.Borrow | None = None
        #: unanswered ``Borrow`` numbers and whom they went to
        self._unanswered: dict[int, bytes] = {}
        self._to_release: dict[bytes, list[bytes]] = {}
        #: what waits for answers: the last borrow before it, the process it goes to, what to call
        self._on_settled: list[tuple[int, bytes, Callable[[], None]]] = []

    def borrow(self, identifier: bytes) -> None:
        """The first reference to a foreign object appeared here."""
        owner = ids.owner_of(identifier)
        waiting = self._to_release.get(owner)
        if waiting and identifier in waiting:
            # Released and taken again before the release went out: the owner still counts us.
            waiting.remove(identifier)
            return
        latest = self._latest
        if latest is not None and ids.owner_of(latest.objects[0]) == owner and self._unsent(owner, latest):
            latest.objects.append(identifier)
            return
        self._number += 1
        self._latest = peer.Borrow(self._number, [identifier])
        if self._send(owner, self._latest):
            self._unanswered[self._number] = owner
        else:
            self._unknown([identifier])

    def answered(self, message: peer.Borrowed) -> None:
        """The owner knows us now."""
        if self._unanswered.pop(message.number, None) is None:
            return
        if message.unknown:
            self._unknown(message.unknown)
        self._check()

    def release(self, identifier: bytes) -> None:
        """The last reference to a foreign object is gone."""
        self._to_release.setdefault(ids.owner_of(identifier), []).append(identifier)

    def flush(self) -> None:
        """Send the releases that may go."""
        if self._to_release and not self._unanswered:
            releases, self._to_release = self._to_release, {}
            for owner, identifiers in releases.items():
                self._send(owner, peer.Release(identifiers))

    @property
    def quiet(self) -> bool:
        """Whether every borrow is answered."""
        return not self._unanswered

    def when_settled(self, call: Callable[[], None], target: bytes = b"") -> None:
        """Run ``call`` once every borrow so far is answered.

        Args:
            call: what to run.
            target: the process that ``call`` sends something to. Its own answers are not waited for, but earlier calls
                for it are: what it is sent keeps its order.
        """
        self._on_settled.append((self._number, target, call))
        self._run_settled()

    def process_gone(self, address: bytes) -> None:
        """An owner died: it will answer nothing."""
        self._to_release.pop(address, None)
        for number in [number for number, owner in self._unanswered.items() if owner == address]:
            del self._unanswered[number]
        self._check()

    def _check(self) -> None:
        self._run_settled()
        if not self._unanswered:
            self.flush()

    def _run_settled(self) -> None:
        waiting, self._on_settled = self._on_settled, []
        # The oldest borrow without an answer, and the oldest one of any other owner.
        oldest = next(iter(self._unanswered.items()), (inf, b""))
        other = next((number for number, owner in self._unanswered.items() if owner != oldest[1]), inf)
        held: set[bytes] = set()
        for number, target, call in waiting:
            if target in held or number >= (other if target == oldest[1] else oldest[0]):
                held.add(target)
                self._on_settled.append((number, target, call))
            else:
                call()
