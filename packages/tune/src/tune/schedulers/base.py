"""The contract of schedulers: which trials go on, stop, pause, change.

A scheduler is a state machine without I/O, clock or global randomness (randomness comes from a `random.Random` made of
its ``seed``). The controller calls it in one thread, in an order that the journal records; after a crash the same calls
are repeated on a fresh instance or on a pickled snapshot, with the same view of the trials, and the same answers must
come out. So it must pickle, and must not look at anything but its arguments.

What has to be recorded. Answers that ask for nothing leave the state as it was: `choose` that says `Wait`, or `New` if
no new trial comes of it, and `directives` that are empty. Such calls need not be repeated after a crash; all others do.
`sync`, `debug_string`, `documents` and `validate` never change what a scheduler decides.

A trial runs ahead of its scheduler unless told to wait: `sync` says at which results it must wait for the answer of
`on_trial_result`. Results it does not wait at are still passed to `on_trial_result`, in order, some time later; answers
to those take effect at one of the trial's next results, so a scheduler that wants an answer to count asks to wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tune.messages import Sync
from tune.trial import Config, ResourceRequest, Result, Trial, TrialStatus


class Continue(msgspec.Struct, frozen=True):
    """Go on."""

    #: save first if the trainable can; functions save when they report, so this says nothing to them
    save: bool = False


class Stop(msgspec.Struct, frozen=True):
    """End the trial; it counts as complete and `TrialScheduler.on_trial_complete` follows."""


class Pause(msgspec.Struct, frozen=True):
    """Save the trial and give its place to another until `TrialScheduler.choose` takes it up again."""


class Exploit(msgspec.Struct, frozen=True):
    """Go on from the newest checkpoint of another trial, under another configuration.

    Asked of a running trial, it goes on at once, before any other trial gets the place. Asked of a paused one, it stays
    paused until it is chosen. A donor that is the trial itself means: save, then go on under the other configuration.
    """

    donor_id: str
    config: Config
    tags: dict[str, Any] = msgspec.field(default_factory=dict)


class Resize(msgspec.Struct, frozen=True):
    """Save the trial and go on, as soon as they are free, with other resources."""

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

NEW, WAIT = New(), Wait()


class View(msgspec.Struct, frozen=True):
    """What a scheduler may see of the sweep. Mappings are live and read-only; iteration order is creation order."""

    #: all trials that are not finished, by id
    live: Mapping[str, Trial]
    #: whether `New` could yield a trial now: one is pending, or the searcher has not said that it has none
    more_trials: bool
    #: resources of the whole cluster, by name
    cluster: Mapping[str, float]
    #: whether the searcher will never have another configuration
    exhausted: bool = False

    def paused(self) -> list[Trial]:
        """Return the trials that could be taken up, in creation order."""
        return [trial for trial in self.live.values() if trial.status is TrialStatus.PAUSED]

    @property
    def idle(self) -> bool:
        """Whether no trial runs or is about to."""
        return all(trial.status is TrialStatus.PAUSED for trial in self.live.values())


class TrialScheduler:
    """Base of all schedulers, and the one that lets every trial run to its end in order.

    Args:
        metric: the result's name to judge by, or names for several objectives; None takes the sweep's.
        mode: ``"min"`` or ``"max"``, for each metric if they differ; None takes the sweep's.
        time_attr: the result's name that measures progress. It must never fall within a trial.
        seed: of what this scheduler draws; None takes the sweep's, and without that a random one.
    """

    #: whether paused trials need a checkpoint to go on from; the controller refuses trainables that cannot save
    needs_checkpoints: bool = False

    def __init__(
        self,
        *,
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        time_attr: str = "training_iteration",
        seed: int | None = None,
    ) -> None:
        self.metric = metric
        self.mode = mode
        self.time_attr = time_attr
        self.seed = seed

    def set_search_properties(
        self, metric: str | Sequence[str] | None, mode: str | Sequence[str] | None, *, seed: int | None = None
    ) -> None:
        """Take the sweep's metric, mode and seed where this scheduler was given none. Called once, before all else.

        Raises:
            ValueError: a metric is needed and neither has one, or the mode is none.
        """
        self.metric = self.metric or metric
        self.mode = self.mode or mode or "max"
        self.seed = seed if self.seed is None else self.seed

    def sync(self, trial: Trial) -> Sync:
        """Say at which of its next results the trial must wait. Asked at each start and with each verdict."""
        return Sync()

    def on_trial_add(self, trial: Trial) -> Config | None:
        """Learn of a new trial, before it starts. Returns the configuration it starts with instead of its own, if any.

        Called again for a trial that had ended and goes on (an errored one that is tried again, say).

        Raises:
            ValueError: this scheduler cannot have a trial of this configuration.
        """
        return None

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        """Decide what the trial does after this result. `trial.last_result` is `result`."""
        return CONTINUE

    def on_trial_complete(self, trial: Trial, result: Result) -> None:
        """Learn that a trial ended well, with its last result (empty if none)."""

    def on_trial_error(self, trial: Trial) -> None:
        """Learn that a trial ended in an error for good."""

    def choose(self, view: View) -> Choice:
        """Choose what a free place is given to. Asked for each free place after every event.

        If `New` is answered and the searcher has nothing now, it is asked again with ``view.more_trials`` False. With
        that and no trial running, `Wait` is the end of the sweep, and of all trials that are still paused: a scheduler
        says it then only if none of them shall go on.
        """
        if view.more_trials:
            return NEW
        return next((Resume(trial.trial_id) for trial in view.paused()), WAIT)

    def directives(self, view: View) -> list[tuple[str, Decision]]:
        """Return decisions about paused trials, asked after every event before places are given away.

        About paused trials are only `Stop` (out of the race), `Exploit`, and `Continue`: nothing to do, the trial waits
        to be chosen as before, but something was decided, so the call has to be recorded. Each is returned once.
        """
        return []

    def on_resume(self, previous: TrialScheduler, trials: Sequence[Trial]) -> list[str]:
        """Take over a search from the scheduler that it had before, because the user gave another one for its rest.

        Called instead of using the restored `previous`, after `set_search_properties`, before anything else. This
        scheduler is new; it takes what it can use from `previous`, which is not used again. The controller then writes
        a snapshot.

        Args:
            previous: with its state at the end of the earlier run.
            trials: all trials, finished or not, in creation order.

        Returns:
            Ids of finished trials that go on (those that ended at a shorter ``max_t``). They become PAUSED, and
            `choose` takes them up.
        """
        for trial in trials:
            if not trial.status.finished:
                self.on_trial_add(trial)
        return []

    def documents(self) -> dict[str, str]:
        """Return text files for the experiment's directory, name to whole content, that changed since last asked.

        The controller writes them after every round. Repeating a call after a crash may return a file again.
        """
        return {}

    def debug_string(self) -> str:
        """Return one line about the state, for the progress table."""
        return ""

    def validate(self) -> None:
        """Check every invariant of the state; for tests.

        Raises:
            AssertionError: this is a bug of the scheduler.
        """
