"""Playing back the schedule that population based training found."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from tune.messages import Sync
from tune.schedulers.base import CONTINUE, Decision, Exploit, TrialScheduler, View
from tune.schedulers.pbt_policy import parse_policy
from tune.trial import Config, Result, Trial


class PopulationBasedTrainingReplay(TrialScheduler):
    """Trains one trial under the schedule of configurations that a trial of a finished PBT run went through.

    The file is read here, once. The trial's configuration need not have the mutated parameters; where it has, the
    policy's values replace them. It needs a trainable with checkpoints, since each change saves and goes on.

    Args:
        policy_file: ``pbt_policy_<trial_id>.txt`` of an experiment's directory, or Ray's file of that name.

    Raises:
        ValueError: there is no such file, or it is no policy.
    """

    config: Config

    needs_checkpoints = True

    def __init__(self, policy_file: str | os.PathLike[str]) -> None:
        super().__init__()
        path = Path(policy_file).expanduser()
        if not path.is_file():
            raise ValueError(f"there is no policy file {path}: PBT writes pbt_policy_<trial_id>.txt for every trial")
        self.policy_file: str = str(path)
        #: the mutated parameters at the start
        self.config, self._changes = parse_policy(path.read_text(), self.policy_file)
        self._next = 0
        self._trial_id: str | None = None

    def sync(self, trial: Trial) -> Sync:
        """Wait at the next change."""
        if self._next == len(self._changes):
            return Sync()
        return Sync(at=self._changes[self._next][0])

    def on_trial_add(self, trial: Trial) -> Config | None:
        """Start under the policy's first parameters.

        Raises:
            ValueError: this is the second trial.
        """
        if self._trial_id == trial.trial_id:
            return None
        if self._trial_id is not None:
            raise ValueError("a PBT replay trains one trial: run it with num_samples=1 and no grid_search")
        self._trial_id = trial.trial_id
        return _merged(trial.config, self.config)

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        """Change the configuration when it is time."""
        due = self._next
        while due < len(self._changes) and result.get("training_iteration", 0) >= self._changes[due][0]:
            due += 1
        if due == self._next:
            return CONTINUE
        self._next = due
        iteration, parameters = self._changes[due - 1]
        return Exploit(trial.trial_id, _merged(trial.config, parameters), {"replayed": iteration})

    def debug_string(self) -> str:
        """Return one line about the state."""
        return f"PBT replay: {self._next} of {len(self._changes)} changes made"


def _merged(config: Config, parameters: dict[str, Any]) -> Config:
    """Return a configuration with some parameters, perhaps nested ones, replaced."""
    merged = copy.deepcopy(config)
    for key, value in parameters.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if nested else copy.deepcopy(value)
    return merged
