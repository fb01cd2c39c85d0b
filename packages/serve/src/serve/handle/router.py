"""Sends requests of one process to replicas: who gets the next, who waits, who is refused.

One router per process, shared by its handles and (in a proxy) by all connections. Threads may call it at will. Whoever
finds no free replica leaves a ticket in the deployment's line; when a replica becomes free (an answer, a new replica),
the oldest ticket whose wishes it meets is served. Decisions are `serve.state.replica_set`'s; this is its skin.
"""

from __future__ import annotations

import asyncio
import collections
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from serve.errors import BackPressureError, DeploymentUnavailableError
from serve.specs import DeploymentID, ReplicaInfo, Targets
from serve.state.replica_set import ReplicaSet


class Wish(msgspec.Struct, frozen=True):
    """What a request needs of a replica."""

    deployment: DeploymentID
    version: str | None = None
    model_id: str = ""
    session_id: str = ""
    #: replicas that have failed it already
    avoid: frozenset[str] = frozenset()
    #: of its class: 0 for the default, higher ones come first in line
    rank: int = 0


@dataclass(eq=False)
class Ticket:
    """A place in a deployment's line."""

    wish: Wish
    #: called once, in whatever thread frees a replica (or finds the deployment gone: with None)
    serve: Callable[[ReplicaInfo | None], object]
    #: when it came; if it is of a higher class, that much earlier (`serve.gateway.line` has the theory)
    place: float = 0.0
    #: it had to leave for one that is more urgent
    sent_away: bool = False


@dataclass
class _Line:
    replicas: ReplicaSet
    config: Mapping[str, Any] = field(default_factory=dict)
    waiting: collections.deque[Ticket] = field(default_factory=collections.deque)
    #: versions that requests may insist on: those of two revisions that share them. Any other is forgotten, so that
    #: nobody waits for replicas of a revision that was taken out
    versions: frozenset[str] = frozenset()
    #: the controller knows that there is no replica for what waits here
    told: bool = False


class Router:
    """Sends requests of this process to replicas.

    Args:
        node_id: node of this process, whose replicas are preferred.
        seed: of the draws; None for a fresh one.
        starved: called when a request waits for a deployment that was scaled to zero.
    """

    def __init__(
        self, node_id: str = "", seed: int | None = None, starved: Callable[[DeploymentID], object] | None = None
    ) -> None:
        self._starved = starved
        self._node_id = node_id
        self._rng = random.Random(seed)  # noqa: S311 - load balancing, not secrets
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._version = -1

    # -- what the controller publishes ---------------------------------------------------------------------------------

    def update(self, targets: Targets) -> None:
        """Take over a publication; older ones than the last are ignored."""
        with self._lock:
            if targets.version <= self._version:
                return
            self._version = targets.version
            gone = [self._lines.pop(name) for name in list(self._lines) if name not in targets.configs]
            versions = _versions(targets)
            for name, config in targets.configs.items():
                line = self._lines.get(name)
                if line is None:
                    line = self._lines[name] = _Line(ReplicaSet(self._rng.randrange, self._node_id))
                line.config = config
                line.told = False
                line.versions = versions.get(name, frozenset())
                line.replicas.update(targets.replicas.get(name, ()))
            served = [pair for line in self._lines.values() for pair in self._serve(line)]
            served += [(ticket, None) for line in gone for ticket in line.waiting]
            for line in self._lines.values():
                if line.config.get("unavailable"):
                    served += [(ticket, None) for ticket in line.waiting]
                    line.waiting.clear()
        for ticket, replica in served:
            ticket.serve(replica)

    def lost(self, replica: ReplicaInfo) -> None:
        """Note that a replica was found dead; it gets no requests until the controller publishes it again."""
        with self._lock:
            line = self._lines.get(str(replica.deployment))
            if line is not None:
                line.replicas.remove(replica.replica_id)

    # -- requests ------------------------------------------------------------------------------------------------------

    def try_acquire(self, wish: Wish) -> ReplicaInfo | None:
        """Return a free replica, with the request counted to it; None if the request has to wait.

        Raises:
            DeploymentUnavailableError: there is no such deployment.
        """
        with self._lock:
            line = self._line(wish)
            return None if line.waiting else _choose(line, wish)

    def enqueue(self, wish: Wish, serve: Callable[[ReplicaInfo | None], object]) -> Ticket:
        """Wait in line; `serve` is called with a replica, or with None if the deployment is deleted or given up.

        Raises:
            BackPressureError: the line is full.
            DeploymentUnavailableError: there is no such deployment, or it cannot start.
        """
        ticket = Ticket(wish, serve)
        with self._lock:
            line = self._line(wish)
            if line.config.get("unavailable"):
                raise DeploymentUnavailableError(str(line.config["unavailable"]))
            ticket.place = time.monotonic() - wish.rank * float(line.config.get("ageing_s", 0.0))
            limit = int(line.config.get("max_queued_requests", -1))
            last = None
            if 0 <= limit <= len(line.waiting):
                last = _less_urgent(line, ticket)
            if last is None and 0 <= limit <= len(line.waiting):
                retry_after = float(line.config.get("retry_after_s", 1.0))
                status = int(line.config.get("status_code", 503))
                raise BackPressureError(str(wish.deployment), len(line.waiting), retry_after, status)
            _join(line, ticket)
            served = self._serve(line)
            starving = not line.told and not len(line.replicas) and bool(line.config.get("scales"))
            line.told = line.told or starving
        if last is not None:
            last.serve(None)
        for other, replica in served:
            other.serve(replica)
        if starving and self._starved is not None:
            self._starved(wish.deployment)
        return ticket

    def leave(self, ticket: Ticket) -> bool:
        """Give a place in line up; False if it was served already: then the replica is the caller's to release."""
        with self._lock:
            line = self._lines.get(str(ticket.wish.deployment))
            if line is not None and ticket in line.waiting:
                line.waiting.remove(ticket)
                return True
            return False

    def release(self, replica: ReplicaInfo, *, model_id: str = "", refused: bool = False) -> None:
        """Note the end of a request.

        Args:
            replica: who had it.
            model_id: the model it used, which is loaded there now.
            refused: the replica turned it away because it was full.
        """
        with self._lock:
            line = self._lines.get(str(replica.deployment))
            if line is None:
                return
            if refused:
                line.replicas.refused(replica.replica_id)
            else:
                line.replicas.done(replica.replica_id, model_id=model_id)
            served = self._serve(line) if line.waiting else []
        for ticket, chosen in served:
            ticket.serve(chosen)

    async def acquire(self, wish: Wish) -> ReplicaInfo:
        """Wait for a replica (asyncio). Cancelling gives the place in line up.

        Raises:
            BackPressureError: the line is full.
            DeploymentUnavailableError: there is no such deployment (any more).
        """
        replica = self.try_acquire(wish)
        if replica is not None:
            return replica
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ReplicaInfo | None] = loop.create_future()

        def arrive(chosen: ReplicaInfo | None) -> None:
            if not future.done():
                future.set_result(chosen)
            elif chosen is not None:
                self.release(chosen)

        ticket = self.enqueue(wish, lambda chosen: loop.call_soon_threadsafe(arrive, chosen))
        try:
            served = await future
        except asyncio.CancelledError:
            self.leave(ticket)
            raise
        if served is None:
            raise DeploymentUnavailableError(f"deployment {wish.deployment} was deleted, or cannot start")
        return served

    def queued(self) -> dict[str, int]:
        """Return how many requests wait, by deployment."""
        with self._lock:
            return {name: len(line.waiting) for name, line in self._lines.items() if line.waiting}

    def ongoing(self) -> dict[str, int]:
        """Return how many requests are with replicas, by deployment."""
        with self._lock:
            return {
                name: sum(standing.ongoing for standing in line.replicas.standings.values())
                for name, line in self._lines.items()
            }

    def _line(self, wish: Wish) -> _Line:
        line = self._lines.get(str(wish.deployment))
        if line is None:
            known = ", ".join(sorted(self._lines)) or "none; serve.run(app) deploys some"
            raise DeploymentUnavailableError(f"there is no deployment {wish.deployment}; there are: {known}")
        return line

    def _serve(self, line: _Line) -> list[tuple[Ticket, ReplicaInfo | None]]:
        """Serve whoever can be served, oldest first (under the lock); the caller calls them without it."""
        served: list[tuple[Ticket, ReplicaInfo | None]] = []
        left: collections.deque[Ticket] = collections.deque()
        while line.waiting:
            ticket = line.waiting.popleft()
            replica = _choose(line, ticket.wish)
            if replica is None:
                left.append(ticket)
                if not any(standing.free for standing in line.replicas.standings.values()):
                    break  # nobody behind it can be served either
            else:
                served.append((ticket, replica))
        left.extend(line.waiting)
        line.waiting = left
        return served


def _join(line: _Line, ticket: Ticket) -> None:
    """Let a ticket join its line, before those that came later."""
    waiting = line.waiting
    if not waiting or waiting[-1].place <= ticket.place:
        waiting.append(ticket)
        return
    at = len(waiting)
    while at and waiting[at - 1].place > ticket.place:
        at -= 1
    waiting.insert(at, ticket)


def _less_urgent(line: _Line, ticket: Ticket) -> Ticket | None:
    """Send the last one in a full line away, if it would be served after this one."""
    if not line.waiting or line.waiting[-1].place <= ticket.place:
        return None
    last = line.waiting.pop()
    last.sent_away = True
    return last


def _versions(targets: Targets) -> dict[str, frozenset[str]]:
    """Return the versions that revisions insist on, by deployment."""
    found: dict[str, frozenset[str]] = {}
    for app, splits in targets.splits.items():
        for split in splits:
            for name, version in split.versions.items():
                key = f"{app}#{name}"
                found[key] = found.get(key, frozenset()) | {version}
    return found


def _choose(line: _Line, wish: Wish) -> ReplicaInfo | None:
    version = wish.version if wish.version in line.versions else None
    return line.replicas.choose(version=version, model_id=wish.model_id, session_id=wish.session_id, avoid=wish.avoid)
