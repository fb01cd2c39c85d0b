"""A trial: one configuration and what became of it. Plain data that all rooms of tune share.

Only the controller changes a trial. Schedulers, searchers, stoppers and callbacks read it.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

#: A reported result: the user's metrics and the automatic ones (`tune.result`), names to values.
Result = dict[str, Any]
#: A resolved configuration: no search space left in it.
Config = dict[str, Any]


class TrialStatus(enum.StrEnum):
    """Where a trial stands. ``TIMEOUT`` and ``OUT_OF_MEMORY`` are errors with a cause of their own."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    TERMINATED = "TERMINATED"
    ERROR = "ERROR"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"

    @property
    def finished(self) -> bool:
        """Tell whether nothing more will happen to the trial unless somebody resumes it."""
        return self not in _UNFINISHED

    @property
    def errored(self) -> bool:
        """Tell whether the trial ended in an error of whatever kind."""
        return self in _ERRORED


_UNFINISHED = frozenset({TrialStatus.PENDING, TrialStatus.RUNNING, TrialStatus.PAUSED})
_ERRORED = frozenset({TrialStatus.ERROR, TrialStatus.TIMEOUT, TrialStatus.OUT_OF_MEMORY})


class FailureKind(enum.StrEnum):
    """What ended a trial that did not end well."""

    #: user code raised
    RAISED = "raised"
    #: the process died: signal, exit code
    DIED = "died"
    #: over its time limit, or deaf to being stopped
    TIMEOUT = "timeout"
    #: over its memory limit
    OUT_OF_MEMORY = "out_of_memory"
    #: a metric that the search needs is missing or not a number
    BAD_METRIC = "bad_metric"
    #: something reported cannot be pickled
    UNPICKLABLE = "unpicklable"
    #: the function returned without reporting anything
    NEVER_REPORTED = "never_reported"
    #: it needs more than the cluster has
    INFEASIBLE = "infeasible"


class TrialFailure(msgspec.Struct, frozen=True, array_like=True):
    """Why a trial failed, as text: it goes into the journal, the table, the page and ``trial.error``."""

    kind: FailureKind
    #: name of the exception's class, with its module unless it is a builtin
    error_type: str
    message: str
    #: the remote traceback, or the last lines of stderr; empty if there is none
    traceback: str = ""
    #: the pickled exception, if it pickles; None otherwise
    pickled: bytes | None = None


class ResourceRequest(msgspec.Struct, frozen=True, array_like=True):
    """What a trial needs: the bundles of a placement group, the first for the trial's own process."""

    #: Ray's names: CPU, GPU, memory, custom ones; values in units, memory in bytes
    bundles: tuple[dict[str, float], ...] = ({"CPU": 1.0},)
    strategy: str = "PACK"

    @property
    def total(self) -> dict[str, float]:
        """The sum over all bundles."""
        total: dict[str, float] = {}
        for bundle in self.bundles:
            for name, amount in bundle.items():
                total[name] = total.get(name, 0.0) + amount
        return total


class CheckpointRecord(msgspec.Struct, frozen=True, array_like=True):
    """A checkpoint that is safe in the storage."""

    #: directory in the experiment's storage, relative to the trial's: ``checkpoint_000003``
    name: str
    #: ``training_iteration`` it was reported with
    iteration: int
    #: the metrics it was reported with, numbers only
    metrics: dict[str, float]


class EndCause(enum.StrEnum):
    """Who ended a trial that ended well."""

    #: the user's code ran to its end
    RETURNED = "returned"
    #: a bound of ``stop={...}``
    BOUND = "bound"
    #: a stopper, for this trial or for all
    STOPPER = "stopper"
    SCHEDULER = "scheduler"
    #: the sweep ended: time budget, fail-fast
    SWEEP = "sweep"


class Trial(msgspec.Struct, eq=False):
    """One configuration and what became of it."""

    #: unique and without ``/``: ``<prefix>_00003``
    trial_id: str
    #: 0, 1, 2, ... in the order of creation: the order of the sweep's configurations
    index: int
    config: Config
    #: the searched parameters alone, flat, ``a/b`` for nested ones: for names, tables, plots
    evaluated_params: dict[str, Any]
    #: directory of the trial, relative to the experiment's
    dirname: str
    #: for people: ``<trainable>_<trial_id>``, or what ``trial_name_creator`` said
    name: str = ""
    #: local directory of the experiment, absolute
    experiment_dir: str = ""
    resources: ResourceRequest = ResourceRequest()
    #: derived from the sweep's seed and the index; None without a seed
    seed: int | None = None
    status: TrialStatus = TrialStatus.PENDING
    #: the last result as reported (`tune.result.complete` adds what is constant); empty before the first
    last_result: Result = msgspec.field(default_factory=dict)
    #: results so far; one that an attempt repeats after going back to a checkpoint is not counted (nor shown) again
    iteration: int = 0
    #: newest checkpoint that still exists
    checkpoint: CheckpointRecord | None = None
    #: all that still exist, oldest first
    checkpoints: list[CheckpointRecord] = msgspec.field(default_factory=list)
    failures: list[TrialFailure] = msgspec.field(default_factory=list)
    #: how often it was started, resumed or restarted
    attempts: int = 0
    #: seconds since the epoch of the first start; None before
    start_time: float | None = None
    #: seconds spent running, over all attempts
    run_time: float = 0.0
    #: seconds since the epoch of its end; None before
    end_time: float | None = None
    #: who ended it, once it is TERMINATED
    ended_by: EndCause | None = None
    #: where the newest attempt runs or ran
    pid: int = 0
    hostname: str = ""
    #: what a scheduler or searcher wants shown beside the trial (bracket, donor, ...)
    tags: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def error(self) -> TrialFailure | None:
        """Why the trial failed; None unless it stands in an error."""
        return self.failures[-1] if self.status.errored and self.failures else None

    @property
    def local_path(self) -> str:
        """Absolute path of the trial's directory on the driver's machine."""
        return f"{self.experiment_dir}/{self.dirname}"

    @property
    def path(self) -> str:
        """The same, under Ray's newer name."""
        return self.local_path

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return self.name or self.trial_id
