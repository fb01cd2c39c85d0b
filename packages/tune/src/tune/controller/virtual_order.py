"""An order of events that does not depend on timing: what makes a sweep with a seed the same each time.

Each running trial has a lane. The n-th thing that comes of a trial (a result, or its end) has the virtual time of the
trial's start plus n, however long it really took. The next thing to handle is the one with the smallest virtual time,
ties going to the smaller trial index. If that one has not arrived yet, everything else waits for it.

A trial that runs ahead is buffered here; it is not held up. What is held up are decisions: a slow trial delays those
about faster ones, and the places they leave. That is the price of asking for reproducibility, and nobody else pays it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Lane(Generic[Item]):
    __slots__ = ("items", "next")

    def __init__(self, first: int) -> None:
        #: virtual time of the next thing that is handled, arrived or not
        self.next = first
        self.items: deque[Item] = deque()


class VirtualOrder(Generic[Item]):
    """Sorts what arrives from several trials into virtual order. Plain state: it pickles."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane[Item]] = {}
        #: virtual time of what was handled last
        self.clock = 0

    def open(self, index: int) -> None:
        """Begin to wait for what comes of a trial. One whose lane is open already goes on in it."""
        if index not in self._lanes:
            self._lanes[index] = _Lane(self.clock + 1)

    def push(self, index: int, item: Item) -> None:
        """Take what a trial delivered."""
        self._lanes[index].items.append(item)

    def pop(self) -> tuple[int, Item] | None:
        """Return the next thing in order and its trial's index, None if it has not arrived yet."""
        if not self._lanes:
            return None
        index, lane = min(self._lanes.items(), key=lambda entry: (entry[1].next, entry[0]))
        if not lane.items:
            return None
        self.clock = lane.next
        lane.next += 1
        return index, lane.items.popleft()

    def close(self, index: int) -> list[Item]:
        """Wait no longer for a trial; return what it had delivered that was not handled."""
        lane = self._lanes.pop(index, None)
        return list(lane.items) if lane else []

    def waits_for(self, index: int) -> bool:
        """Tell whether a trial's lane is open."""
        return index in self._lanes

    def forget(self, index: int) -> list[Item]:
        """Drop what a trial has delivered, and return it; its next thing comes right after what was handled last."""
        lane = self._lanes[index]
        dropped = list(lane.items)
        lane.items.clear()
        lane.next = self.clock + 1
        return dropped

    def buffered(self, index: int) -> Sequence[Item]:
        """Return what of a trial waits to be handled, oldest first."""
        lane = self._lanes.get(index)
        return tuple(lane.items) if lane else ()

    def validate(self) -> None:
        """Check that nothing is to come before what was handled."""
        assert all(lane.next >= self.clock for lane in self._lanes.values())
