"""New trials: their ids, names, directories and seeds."""

from __future__ import annotations

import hashlib

from tune.controller.plan import SweepPlan
from tune.trial import Config, ResourceRequest, Trial


def trial_id_of(prefix: str, index: int) -> str:
    """Return the id of the trial with this index."""
    return f"{prefix}_{index:05d}"


def seed_of(sweep_seed: int | None, index: int) -> int | None:
    """Return a trial's seed: 32 bits that depend on the sweep's seed and the trial's index alone."""
    if sweep_seed is None:
        return None
    return int.from_bytes(hashlib.sha256(f"{sweep_seed}/{index}".encode()).digest()[:4], "big")


class TrialMaker:
    """Makes trials of configurations, as a plan says. In a read-only replay there is none: the journal has it all."""

    def __init__(self, plan: SweepPlan) -> None:
        self._plan = plan
        #: equal requests are one object: comparing and counting them is then quick
        self._requests: list[ResourceRequest] = []

    def make(self, trial_id: str, index: int, config: Config) -> Trial:
        """Return a new trial, named and with its resources.

        Raises:
            ValueError: the user's ``trial_name_creator`` or ``trial_dirname_creator`` returned something unusable.
        """
        plan = self._plan
        trial = Trial(
            trial_id=trial_id,
            index=index,
            config=config,
            evaluated_params=plan.evaluated_params(config),
            dirname="",
            name=f"{plan.trainable_name}_{trial_id}",
            experiment_dir=str(plan.directory),
            resources=self._request(config),
            seed=seed_of(plan.seed, index),
        )
        if plan.trial_name is not None:
            trial.name = str(plan.trial_name(trial))
        dirname: object = trial.name.replace("/", "_") if plan.trial_dirname is None else plan.trial_dirname(trial)
        if not isinstance(dirname, str) or not dirname or "/" in dirname or dirname.startswith("."):
            raise ValueError(
                f"trial_dirname_creator returned {dirname!r} for {trial_id}; it must return the name of a directory, "
                "without '/' and not starting with '.', different for each trial"
            )
        trial.dirname = dirname
        return trial

    def _request(self, config: Config) -> ResourceRequest:
        request = self._plan.resources(config)
        for known in self._requests:
            if known == request:
                return known
        self._requests.append(request)
        return request
