"""What the controller and the processes of trials say to each other, by way of a backend.

The controller hands a `Launch` to a backend, gets `Event` s back, and answers those that wait with a `Verdict`.
Reports are not acknowledged one by one: a trial runs ahead of the controller, freely, up to the next result that the
controller has said it wants to decide about (`Sync`). That is what makes ``tune.report`` cost microseconds and ASHA
exact at the same time.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from tune.result import lookup
from tune.trial import CheckpointRecord, Config, Result, TrialFailure


class Sync(msgspec.Struct, frozen=True):
    """Which results a trial waits at for a verdict. The default waits at none."""

    #: wait at every result
    every: bool = False
    #: wait at the first result whose `attribute` is at least this; None for never
    at: float | None = None
    attribute: str = "training_iteration"

    def waits(self, result: Result) -> bool:
        """Tell whether a trial waits after this result."""
        if self.every:
            return True
        value = result.get(self.attribute)
        return self.at is not None and value is not None and value >= self.at


class StopRule(msgspec.Struct, frozen=True):
    """Ends that a trial can decide for itself: ``stop={"loss": 0.1, "training_iteration": 10}`` and ``max_t``.

    A trial ends at the first result in which any of these metrics is at least its bound (Ray's rule).
    """

    bounds: dict[str, float] = msgspec.field(default_factory=dict)

    def holds(self, result: Result) -> bool:
        """Tell whether a trial ends with this result."""
        for name, bound in self.bounds.items():
            value = result.get(name)
            if value is None and "/" in name:
                value = lookup(result, name)
            if value is not None and value >= bound:
                return True
        return False


class Action(enum.StrEnum):
    """What a trial does after the result it waited at."""

    CONTINUE = "continue"
    #: save if it can (a class that can; functions save when they report), then go on; `TrialSaved` follows if it did
    SAVE = "save"
    #: end well; `TrialReturned` follows
    STOP = "stop"
    #: save if it can, then give its process back; `TrialPaused` follows
    PAUSE = "pause"


class Verdict(msgspec.Struct, frozen=True):
    """The answer to a result that a trial waited at, or a word to one that runs."""

    action: Action
    #: where to wait next
    sync: Sync = Sync()


class Launch(msgspec.Struct, frozen=True):
    """Everything a backend needs to start a trial, or to go on with one."""

    trial_id: str
    #: first, second, ... start of this trial; events of an older attempt are void
    attempt: int
    config: Config
    #: absolute path or URL of the trial's directory in the storage
    trial_dir: str
    #: bundles and strategy of `ResourceRequest`
    bundles: tuple[dict[str, float], ...]
    strategy: str = "PACK"
    #: absolute path or URL of the checkpoint to go on from
    checkpoint: str | None = None
    #: ``training_iteration`` and ``time_total_s`` to count on from: the first result has ``iteration + 1``. These are
    #: the trial's own, which after an exploit are not those the checkpoint was made with
    iteration: int = 0
    time_total_s: float = 0.0
    seed: int | None = None
    sync: Sync = Sync()
    stop: StopRule = StopRule()
    #: seconds this attempt may run, and bytes (resident, with child processes) it may use; None for no limit
    time_limit_s: float | None = None
    memory_limit: float | None = None
    #: class trainables: save every so many results (0: never), and once more at the end
    checkpoint_frequency: int = 0
    checkpoint_at_end: bool | None = None
    #: for ``tune.get_context()``
    trial_name: str = ""
    experiment_name: str = ""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class Reported(msgspec.Struct, frozen=True, array_like=True):
    """One call of ``tune.report``, completed with those automatic metrics that change (`tune.result.VARYING`)."""

    result: Result
    checkpoint: CheckpointRecord | None = None


class TrialStarted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The user's code is about to run."""

    trial_id: str
    attempt: int
    pid: int
    hostname: str


class TrialReported(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """New results, oldest first. If `waiting`, the trial waits for a `Verdict` about the last of them."""

    trial_id: str
    attempt: int
    reports: list[Reported]
    waiting: bool = False


class TrialSaved(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A checkpoint that came without a result: at a pause, or at the end."""

    trial_id: str
    attempt: int
    checkpoint: CheckpointRecord


class TrialReturned(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The trial ended well: it returned, or was stopped."""

    trial_id: str
    attempt: int
    #: True if its own `StopRule` or a verdict ended it, False if it ran to its end
    stopped: bool = False


class TrialPaused(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The trial gave its process back and can be gone on with from its newest checkpoint."""

    trial_id: str
    attempt: int


class TrialFailed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The trial ended badly."""

    trial_id: str
    attempt: int
    failure: TrialFailure


Event = TrialStarted | TrialReported | TrialSaved | TrialReturned | TrialPaused | TrialFailed
