"""Where trials run. `core_backend` runs them in actors, `simulator` replays tabulated curves in simulated time.

Contract. One thread, the controller's, calls everything. Each `start` is followed by events of that attempt, in
order, up to exactly one of `TrialReturned`, `TrialPaused`, `TrialFailed`; after that the attempt is over and its
resources are free. A process that dies, hangs past its limit, or never answers is a `TrialFailed`, never an exception:
an exception out of a backend is a bug or the loss of the whole session.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from tune.messages import Event, Launch, Verdict
from tune.trial import ResourceRequest


class TrialBackend(ABC):
    """Runs trials for the controller."""

    @abstractmethod
    def now(self) -> float:
        """Return the time in seconds since the epoch, real or simulated."""

    @abstractmethod
    def capacity(self, request: ResourceRequest) -> int:
        """Return how many such trials could run at once on an empty cluster; 0 if not even one."""

    @abstractmethod
    def cluster(self) -> dict[str, float]:
        """Return the resources of the whole cluster, by name, used or not."""

    @abstractmethod
    def start(self, launch: Launch) -> None:
        """Start a trial, or go on with one. Returns at once, also if the resources must be waited for."""

    @abstractmethod
    def answer(self, trial_id: str, verdict: Verdict) -> None:
        """Answer a trial that waits; to one that runs, say so at its next result. Void for an ended one."""

    @abstractmethod
    def kill(self, trial_id: str) -> None:
        """End a trial without asking it, process and all. `TrialReturned` with ``stopped=True`` follows."""

    @abstractmethod
    def poll(self, timeout: float | None) -> list[Event]:
        """Wait up to `timeout` seconds (None: without limit) for events and return all there are, maybe none."""

    @abstractmethod
    def delete_checkpoint(self, trial_dir: str, name: str) -> None:
        """Delete a checkpoint from the storage; one that is gone already is no error.

        Args:
            trial_dir: as in `Launch.trial_dir`.
            name: as in `CheckpointRecord.name`.
        """

    @abstractmethod
    def close(self) -> None:
        """End everything that still runs and give all resources back. Idempotent."""
