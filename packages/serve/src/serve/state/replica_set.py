"""Which replica of a deployment gets a request: power of two choices by what this process has outstanding.

Two replicas are drawn, the one with fewer requests outstanding gets the next (Mitzenmacher, "The Power of Two Choices
in Randomized Load Balancing", 2001). Preferences come first where they apply: a replica that holds the wanted model,
the one that a session sticks to, replicas of the same node. A replica at its limit gets nothing; with all at their
limits the caller waits in line, and beyond ``max_queued_requests`` is refused.

One owner per process and deployment; the caller provides locking, draws and time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from serve.specs import ReplicaInfo


@dataclass
class Standing:
    """A replica and what this process has asked of it."""

    info: ReplicaInfo
    #: requests sent and not answered
    ongoing: int = 0
    #: models that this process knows it to hold, beyond those it has announced
    models: frozenset[str] = frozenset()
    #: answered "full" though this process thought otherwise; no requests until it answers one
    full: bool = False

    @property
    def free(self) -> bool:
        """Whether it may get another request."""
        return not self.full and self.ongoing < self.info.max_ongoing_requests

    def holds(self, model_id: str) -> bool:
        """Tell whether it has a model loaded."""
        return model_id in self.models or model_id in self.info.model_ids


class ReplicaSet:
    """The running replicas of one deployment, as one process sees them.

    Args:
        draw: returns a whole number from 0 up to (not including) its argument, at random.
        node_id: node of this process; its replicas are preferred while they are free.
    """

    def __init__(self, draw: Callable[[int], int], node_id: str = "") -> None:
        self._draw = draw
        self._node_id = node_id
        self._standings: dict[str, Standing] = {}

    def __len__(self) -> int:
        return len(self._standings)

    @property
    def standings(self) -> dict[str, Standing]:
        """The replicas by id (read only)."""
        return self._standings

    def update(self, replicas: Iterable[ReplicaInfo]) -> list[str]:
        """Take over the published replicas; keep what is known of those that stay. Return the ids that are gone."""
        before = self._standings
        self._standings = {}
        for info in replicas:
            standing = before.get(info.replica_id)
            if standing is None:
                standing = Standing(info)
            else:
                standing.info = info
            self._standings[info.replica_id] = standing
        return [replica_id for replica_id in before if replica_id not in self._standings]

    def remove(self, replica_id: str) -> None:
        """Forget a replica that was found dead, before the controller says so."""
        self._standings.pop(replica_id, None)

    def choose(
        self,
        *,
        version: str | None = None,
        model_id: str = "",
        session_id: str = "",
        avoid: frozenset[str] = frozenset(),
    ) -> ReplicaInfo | None:
        """Choose a replica and count one request to it; None if all are at their limits (or there is none).

        Args:
            version: only replicas of this version; None for any.
            model_id: prefer those that hold this model.
            session_id: stick to one replica as long as the set of replicas stays.
            avoid: ids that have failed this request already; taken only if there is nothing else.
        """
        able = [s for s in self._standings.values() if version is None or s.info.version == version]
        free = [s for s in able if s.free and s.info.replica_id not in avoid] or [s for s in able if s.free]
        if not free:
            return None
        chosen = self._prefer(able, free, model_id, session_id)
        chosen.ongoing += 1
        return chosen.info

    def _prefer(self, able: list[Standing], free: list[Standing], model_id: str, session_id: str) -> Standing:
        if session_id:
            # rendezvous hashing: a session moves only if its own replica goes (Thaler and Ravishankar, 1998)
            key = session_id.encode()
            best = max(able, key=lambda s: zlib.crc32(s.info.replica_id.encode(), zlib.crc32(key)))
            if best in free:
                return best
        if model_id:
            free = [s for s in free if s.holds(model_id)] or free
        if self._node_id:
            free = [s for s in free if s.info.node_id == self._node_id] or free
        if len(free) == 1:
            return free[0]
        first = self._draw(len(free))
        second = self._draw(len(free) - 1)
        second += second >= first
        return min(free[first], free[second], key=lambda s: s.ongoing)

    def done(self, replica_id: str, *, model_id: str = "") -> None:
        """Note that a request was answered (or failed); a model it used is now loaded there."""
        standing = self._standings.get(replica_id)
        if standing is None:
            return
        standing.ongoing = max(0, standing.ongoing - 1)
        standing.full = False
        if model_id and not standing.holds(model_id):
            standing.models |= {model_id}

    def refused(self, replica_id: str) -> None:
        """Note that a replica turned a request away because it was full with requests of other processes."""
        standing = self._standings.get(replica_id)
        if standing is not None:
            standing.ongoing = max(0, standing.ongoing - 1)
            # with requests of our own there, one of their answers will clear this
            standing.full = standing.ongoing > 0
