"""The contract of schedulers: which trials go on, stop, pause, change.

A scheduler is a state machine without I/O, clock or global randomness (randomness comes from `numpy.random.Generator`
made of its ``seed``). The controller calls it in one thread, in an order that the journal records; after a crash the
same calls are repeated on a fresh instance or on a pickled snapshot, and the same answers must come out. So it must
pickle, and must not look at anything but its arguments.

A trial runs ahead of its scheduler unless told to wait: `sync` says at which results it must wait for the answer of
`on_trial_result`. Results it does not wait at are still passed to `on_trial_result`, some time later; STOP and PAUSE as
answers to those take effect at one of the trial's next results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tune.messages import Sync
from tune.trial import Config, ResourceRequest, Result, Trial


class Continue(msgspec.Struct, frozen=True):
    """Go on."""


class Stop(msgspec.Struct, frozen=True):
    """End the trial; it counts as complete."""


class Pause(msgspec.Struct, frozen=True):
    """Save the trial and give its place to another until `TrialScheduler.choose` or a directive takes it up again."""


class Exploit(msgspec.Struct, frozen=True):
    """Go on from the newest checkpoint of another trial, under another configuration."""

    donor_id: str
    config: Config
    tags: dict[str, Any] = msgspec.field(default_factory=dict)


class Resize(msgspec.Struct, frozen=True):
    """Go on with other resources, from the trial's newest checkpoint."""

    resources: ResourceRequest


Decision = Continue | Stop | Pause | Exploit | Resize

CONTINUE, STOP, PAUSE = Continue(), Stop(), Pause()


class New(msgspec.Struct, frozen=True):
    """Choice for a free place: a new trial from the searcher or a pending one."""


class Resume(msgspec.Struct, frozen=True):
    """Choice for a free place: go on with this paused trial."""

    trial_id: str


class Wait(msgspec.Struct, frozen=True):
    """Choice for a free place: leave it free until something else has happened."""


Choice = New | Resume | Wait


class View(msgspec.Struct, frozen=True):
    """What a scheduler may see of the sweep. Mappings are live and read-only; iteration order is creation order."""

    #: all trials that are not finished, by id
    live: Mapping[str, Trial]
    #: whether the searcher may have more configurations
    more_trials: bool
    #: resources of the whole cluster, by name
    cluster: Mapping[str, float]


class TrialScheduler:
    """Base of all schedulers, and the one that lets every trial run to its end in order.

    Args:
        metric: the result's name to judge by; None takes the sweep's.
        mode: ``"min"`` or ``"max"``; None takes the sweep's.
        time_attr: the result's name that measures progress. It must never fall within a trial.
    """

    #: whether paused trials need a checkpoint to go on from; the controller refuses trainables that cannot save
    needs_checkpoints: bool = False

    def __init__(
        self, *, metric: str | None = None, mode: str | None = None, time_attr: str = "training_iteration"
    ) -> None:
        self.metric = metric
        self.mode = mode
        self.time_attr = time_attr

    def set_search_properties(self, metric: str | None, mode: str | None) -> None:
        """Take the sweep's metric and mode where this scheduler was given none.

        Raises:
            ValueError: a metric is needed and neither has one.
        """
        self.metric = self.metric or metric
        self.mode = self.mode or mode or "max"

    def sync(self, trial: Trial) -> Sync:
        """Say at which of its next results the trial must wait."""
        return Sync()

    def on_trial_add(self, trial: Trial) -> None:
        """Learn of a new trial, before it starts."""

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        """Decide what the trial does after this result. `trial.last_result` is `result`."""
        return CONTINUE

    def on_trial_complete(self, trial: Trial, result: Result) -> None:
        """Learn that a trial ended well, with its last result (empty if none)."""

    def on_trial_error(self, trial: Trial) -> None:
        """Learn that a trial ended in an error for good."""

    def choose(self, view: View) -> Choice:
        """Choose what a free place is given to. Asked again for each place, and after every event while any is free."""
        paused = next((t.trial_id for t in view.live.values() if t.status == "PAUSED"), None)
        return New() if view.more_trials or paused is None else Resume(paused)

    def directives(self, view: View) -> list[tuple[str, Decision]]:
        """Return decisions about paused trials (STOP for those out of the race), asked after every event."""
        return []

    def on_resume(self, finished: list[Trial]) -> None:
        """Learn that a finished search goes on (longer ``max_t``, more samples) with these trials finished before."""

    def debug_string(self) -> str:
        """Return one line about the state, for the progress table."""
        return ""
