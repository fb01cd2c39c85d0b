"""Checkpoints: taking them in, what trials go on from, and letting go of those that nothing needs."""

from __future__ import annotations

import bisect

from tune.controller.desk import Desk
from tune.controller.instructions import DeleteCheckpoint, Origin
from tune.controller.state import Run
from tune.result import TIME_TOTAL_S
from tune.trial import CheckpointRecord, Trial


class Vault:
    """Keeps the books about checkpoints."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._state = desk.state

    def add(self, run: Run, record: CheckpointRecord) -> None:
        """Take in a new checkpoint of a trial."""
        trial = run.trial
        kept = [known for known in trial.checkpoints if known.name != record.name]
        bisect.insort(kept, record, key=lambda known: known.iteration)
        trial.checkpoints = kept
        trial.checkpoint = kept[-1]
        if run.origin is None or record.iteration >= run.origin.iteration:
            self.set_origin(run, origin_of(trial, record, record.iteration))
        self._desk.hook("on_trial_save", trial)
        self._desk.hook("on_checkpoint", trial, record)
        self.prune(trial)

    def knows(self, trial: Trial, name: str) -> bool:
        """Tell whether a trial has a checkpoint of this name."""
        return any(record.name == name for record in trial.checkpoints)

    def set_origin(self, run: Run, origin: Origin | None) -> None:
        """Set what a trial's next attempt goes on from; let go of what it was before."""
        before, run.origin = run.origin, origin
        if before is not None and before.owner_id != run.trial.trial_id:
            self.prune(self._state.by_id[before.owner_id])

    def set_donor(self, run: Run, donor: Origin | None) -> None:
        """Hold what a trial will go on from once it has paused, or let go of it."""
        before, run.donor = run.donor, donor
        if before is not None:
            self.prune(self._state.by_id[before.owner_id])

    def prune(self, trial: Trial) -> None:
        """Delete what need not be kept of a trial."""
        needed = self._needed(trial) if len(trial.checkpoints) > 1 else ()
        for record in self._desk.keeper.superfluous(trial.checkpoints, needed):
            trial.checkpoints.remove(record)
            self.discard(trial, record)
        trial.checkpoint = trial.checkpoints[-1] if trial.checkpoints else None

    def _needed(self, trial: Trial) -> set[str]:
        state = self._state
        runs = [*state.runs.values(), *state.shelved.values()]
        held = [origin for run in runs for origin in (run.origin, run.donor) if origin is not None]
        names = {origin.name for origin in held if origin.owner_id == trial.trial_id}
        if not trial.status.finished and trial.checkpoint is not None:
            names.add(trial.checkpoint.name)
        return names

    def discard(self, trial: Trial, record: CheckpointRecord) -> None:
        """Delete a checkpoint that is in no book."""
        self._desk.out.append(DeleteCheckpoint(trial.dirname, record.name))

    def clear(self, trial: Trial) -> None:
        """Delete all of a trial that no other trial goes on from."""
        needed = self._needed(trial)
        for record in trial.checkpoints:
            if record.name not in needed:
                self.discard(trial, record)
        trial.checkpoints = []
        trial.checkpoint = None


def origin_of(owner: Trial, record: CheckpointRecord, iteration: int, time_total_s: float | None = None) -> Origin:
    """Return a checkpoint as something to go on from.

    Args:
        owner: whose it is.
        record: it.
        iteration: what the trial that goes on counts on from.
        time_total_s: as above; None takes the checkpoint's.
    """
    if time_total_s is None:
        time_total_s = record.metrics.get(TIME_TOTAL_S) or float(owner.last_result.get(TIME_TOTAL_S, 0.0))
    return Origin(owner.trial_id, owner.dirname, record.name, iteration, time_total_s)
