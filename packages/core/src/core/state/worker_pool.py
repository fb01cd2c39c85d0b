"""The worker processes of a node as its scheduler sees them.

::

    starting ──ready──> idle <──────> leased ──> gone
        │                │ └──────> actor ─────> gone
        └──> gone        └──> stopping ─> gone   (stopping ──declined──> idle)

Idle workers wait per :data:`WorkerKey`, the last used on top: its pages are warm, and the ones below it are those
that leave when the pool shrinks.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from msgspec import Struct

from core.state.resources import Allocation
from core.state.scheduler_events import WorkerKey

#: Seconds an idle worker above the pool's target stays.
IDLE_SECONDS = 1.0
#: A key whose workers fail to start this often in a row is given up, unless there are others of them: the system may
#: refuse more processes, and those it has can do the work. Then more are tried after a pause, which doubles.
MAX_START_FAILURES = 3
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 60.0


class Lease(Struct, eq=False):
    """The right of ``holder`` to push tasks of its class ``cls`` to one worker."""

    lease_id: int
    holder: bytes
    cls: int
    worker: bytes
    allocation: Allocation
    depth: int
    granted_at: float
    placement_group: bytes = b""
    #: the holder was asked to give it back
    asked: bool = False


class Worker(Struct, eq=False):
    """One worker process."""

    address: bytes
    key: WorkerKey
    #: "starting", "idle", "leased", "actor" or "stopping"
    state: str = "starting"
    pid: int = 0
    #: set exactly while leased
    lease: Lease | None = None
    #: set exactly while an actor: its id, depth and resources
    actor_id: bytes = b""
    allocation: Allocation | None = None
    placement_group: bytes = b""
    #: nesting depth of what runs here
    depth: int = 0
    #: when it became idle (monotonic seconds)
    idle_since: float = 0.0
    #: not asked to leave before this time
    keep_until: float = 0.0
    #: it ran a task already, and may own objects that are needed: they would end with an actor
    used: bool = False
    #: it said that it will exit, or is being ended
    leaving: bool = False

    @property
    def stop_after(self) -> float:
        """When an idle worker may be asked to leave, if there are too many."""
        return max(self.idle_since + IDLE_SECONDS, self.keep_until)


class WorkerPool:
    """All workers by address, and the idle ones by key."""

    def __init__(self) -> None:
        self.workers: dict[bytes, Worker] = {}
        self._idle: dict[WorkerKey, list[bytes]] = {}
        #: consecutive failures to start a worker of this key
        self._failures: dict[WorkerKey, int] = {}
        #: keys of which no more workers can be had now: until when none is tried, and how long that is
        self.pauses: dict[WorkerKey, tuple[float, float]] = {}
        self.idle_count = 0
        self.starting_count = 0

    def starting(self, address: bytes, key: WorkerKey) -> Worker:
        """Add a process that is being started."""
        worker = self.workers[address] = Worker(address, key)
        self.starting_count += 1
        return worker

    def may_start(self, key: WorkerKey, now: float) -> bool:
        """Tell whether it makes sense to start a worker of this key."""
        return key not in self.pauses or self.pauses[key][0] <= now

    def started(self, key: WorkerKey) -> None:
        """Workers of this key do start."""
        self._failures.pop(key, None)
        self.pauses.pop(key, None)

    def start_failed(self, key: WorkerKey, now: float) -> str:
        """Return what to do about a worker that did not start: "retry", "pause" or "refuse" what waits for it."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if failures < MAX_START_FAILURES or not self.may_start(key, now):
            return "retry"
        self._failures.pop(key)
        if not any(worker.key == key and worker.state in ("idle", "leased") for worker in self.workers.values()):
            self.pauses.pop(key, None)
            return "refuse"
        _, last = self.pauses.get(key, (0.0, PAUSE_SECONDS / 2))
        pause = min(2 * last, MAX_PAUSE_SECONDS)
        self.pauses[key] = now + pause, pause
        return "pause"

    def starting_by_key(self) -> dict[WorkerKey, int]:
        """Count the processes being started."""
        counts: dict[WorkerKey, int] = {}
        if self.starting_count:
            for worker in self.workers.values():
                if worker.state == "starting":
                    counts[worker.key] = counts.get(worker.key, 0) + 1
        return counts

    def make_idle(self, worker: Worker, now: float) -> None:
        """Put a worker on top of its idle stack."""
        self._leave_state(worker)
        worker.state = "idle"
        worker.idle_since = now
        worker.depth = 0
        self._idle.setdefault(worker.key, []).append(worker.address)
        self.idle_count += 1

    def take_idle(self, key: WorkerKey, fresh: bool) -> Worker | None:
        """Return the worker to use next, or None. ``fresh``: only one that has not run anything.

        Others are spared as long as there are used ones, of which the last used is the first to be used again.
        """
        stack = self._idle.get(key, ())
        wanted = [address for address in stack if self.workers[address].used is not fresh]
        if not wanted and not fresh:
            wanted = list(stack)
        return self.workers[wanted[-1]] if wanted else None

    def change(self, worker: Worker, state: str) -> None:
        """Move a worker to another state than idle."""
        self._leave_state(worker)
        worker.state = state

    def remove(self, address: bytes) -> Worker | None:
        """Forget a process that is gone."""
        worker = self.workers.pop(address, None)
        if worker is not None:
            self._leave_state(worker)
        return worker

    def may_stop(self, now: float) -> list[Worker]:
        """Return the workers that have been idle long enough to be stopped, the one idle for longest first."""
        idle = [worker for worker in self._idle_workers() if worker.stop_after <= now]
        return sorted(idle, key=lambda worker: worker.idle_since)

    @property
    def next_stop(self) -> float:
        """When the next idle worker may be stopped; infinity if none is idle."""
        return min((worker.stop_after for worker in self._idle_workers()), default=inf)

    def validate(self) -> None:
        """Check every invariant; used by tests after each event.

        Raises:
            AssertionError: one is broken.
        """
        idle = {address: key for key, stack in self._idle.items() for address in stack}
        assert all(self._idle.values()), "an empty stack was kept"
        assert idle == {worker.address: worker.key for worker in self.workers.values() if worker.state == "idle"}
        assert self.idle_count == len(idle) == sum(map(len, self._idle.values()))
        assert self.starting_count == sum(worker.state == "starting" for worker in self.workers.values())
        for address, worker in self.workers.items():
            assert address == worker.address
            assert worker.state in ("starting", "idle", "leased", "actor", "stopping")
            assert (worker.state == "leased") == (worker.lease is not None)
            assert (worker.state == "actor") == (worker.allocation is not None)
            assert worker.lease is None or worker.lease.worker == address
            assert not (worker.leaving and worker.state in ("starting", "idle")), "given out although it leaves"

    def _idle_workers(self) -> Iterator[Worker]:
        return (self.workers[address] for stack in self._idle.values() for address in stack)

    def _leave_state(self, worker: Worker) -> None:
        if worker.state == "idle":
            stack = self._idle[worker.key]
            stack.remove(worker.address)
            if not stack:
                del self._idle[worker.key]
            self.idle_count -= 1
        elif worker.state == "starting":
            self.starting_count -= 1
