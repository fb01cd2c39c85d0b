"""A line in which some come before others, and nobody waits for ever. A pure machine.

A request of a class that is one higher is treated as if it had come `ageing_s` seconds earlier: it overtakes what came
less than that before it, and nothing that has waited longer. So the order is that of one number, which does not change
while requests wait (unlike "priority plus waiting time", which comes to the same), and a request of the lowest of ``k``
classes is overtaken only by what comes within ``(k - 1) * ageing_s`` after it.

If the line is full, whoever would be served last is sent away, be it who has just come or not.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Generic, TypeVar

T = TypeVar("T")


class PriorityLine(Generic[T]):
    """See the module's docstring. Items are told apart by identity.

    Args:
        ageing_s: seconds that one class is worth.
    """

    def __init__(self, ageing_s: float = 5.0) -> None:
        self.ageing_s = ageing_s
        self._heap: list[tuple[float, int, T]] = []
        #: by identity: the place of those that have not left
        self._places: dict[int, tuple[float, int, T]] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._places)

    def push(self, item: T, rank: float, now: float, limit: int = -1) -> T | None:
        """Let somebody join, and return who is sent away for it: nobody, somebody else, or himself.

        Args:
            item: who.
            rank: of his class; higher comes first.
            now: the time.
            limit: how many may wait; -1 for any number.
        """
        place = (now - rank * self.ageing_s, next(self._numbers), item)
        if 0 <= limit <= len(self._places):
            last = max(self._places.values(), default=place, key=lambda each: each[:2])
            if limit == 0 or place[:2] >= last[:2]:
                return item
            self.remove(last[2])
            sent_away: T | None = last[2]
        else:
            sent_away = None
        self._places[id(item)] = place
        heapq.heappush(self._heap, place)
        return sent_away

    def pop(self) -> T:
        """Return who is next, and let him go.

        Raises:
            IndexError: nobody is there.
        """
        while True:
            place = heapq.heappop(self._heap)
            if self._places.get(id(place[2])) is place:
                del self._places[id(place[2])]
                return place[2]

    def remove(self, item: T) -> bool:
        """Let somebody leave; False if he is not there."""
        place = self._places.pop(id(item), None)
        if place is None:
            return False
        if len(self._heap) > 2 * len(self._places) + 16:  # those who left are still in the heap
            self._heap = list(self._places.values())
            heapq.heapify(self._heap)
        return True
