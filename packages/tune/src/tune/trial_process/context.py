"""Facts about the running trial, for its own code."""

from __future__ import annotations

from typing import Any

from tune.messages import Launch
from tune.storage import Storage
from tune.trial import ResourceRequest


class TrialContext:
    """What ``tune.get_context()`` returns. Ray's names, and `get_seed` and `get_metadata`."""

    def __init__(self, launch: Launch, storage: Storage, local_dir: str) -> None:
        self._launch = launch
        self._storage = storage
        self._local_dir = local_dir

    def get_trial_id(self) -> str:
        """Return the trial's id, unique in the experiment."""
        return self._launch.trial_id

    def get_trial_name(self) -> str:
        """Return the trial's name, for people."""
        return self._launch.trial_name or self._launch.trial_id

    def get_trial_dir(self) -> str:
        """Return the trial's directory on this machine: the working directory of its code unless that was changed."""
        return self._local_dir

    def get_trial_resources(self) -> ResourceRequest:
        """Return what the trial may use: ``bundles`` (the first is its own process's), ``strategy`` and ``total``."""
        return ResourceRequest(self._launch.bundles, self._launch.strategy)

    def get_experiment_name(self) -> str:
        """Return the name of the experiment."""
        return self._launch.experiment_name

    def get_storage(self) -> Storage:
        """Return where the trial's files are kept: local, or remote with its file system."""
        return self._storage

    def get_seed(self) -> int | None:
        """Return the trial's own seed, made of the sweep's; None if the sweep has none.

        The global generators of ``random``, numpy and torch are seeded with it already.
        """
        return self._launch.seed

    def get_metadata(self) -> dict[str, Any]:
        """Return what the sweep gives to all its trials."""
        return dict(self._launch.metadata)

    def __repr__(self) -> str:
        return f"TrialContext({self.get_trial_name()!r})"
