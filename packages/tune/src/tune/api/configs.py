"""The configuration records of `Tuner`, and of ``tune.run`` where it takes them. Ray's names, defaults and meaning.

Each checks its fields when it is made, so that an error points at the line that wrote it.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.argument_checks import flag, function, instance, integer, log_files, number, one_of, seconds
from tune.callback import Callback
from tune.stopper import coerce_stop
from tune.trial import Trial

if TYPE_CHECKING:
    from tune.schedulers.base import TrialScheduler
    from tune.search.base import Searcher
    from tune.search.objectives import Constraints

MODES = ("min", "max")


@dataclass
class CheckpointConfig:
    """Which checkpoints of a trial are made and kept.

    Attributes:
        num_to_keep: how many to keep, the newest, or the best by `checkpoint_score_attribute` and always the newest
            besides; None keeps all.
        checkpoint_score_attribute: the metric that says which ones are the best.
        checkpoint_score_order: ``"max"`` if high scores are good, else ``"min"``.
        checkpoint_frequency: a class trainable saves at every so many results; 0 for never. Functions save by
            ``tune.report(..., checkpoint=...)``.
        checkpoint_at_end: a class trainable saves at its end; None for yes if it can.
    """

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: str = "max"
    checkpoint_frequency: int = 0
    checkpoint_at_end: bool | None = None

    def __post_init__(self) -> None:
        if self.num_to_keep is not None:
            integer("num_to_keep (None keeps all)", self.num_to_keep, at_least=1)
        if self.checkpoint_score_attribute is not None:
            instance("checkpoint_score_attribute", self.checkpoint_score_attribute, str)
        one_of("checkpoint_score_order", self.checkpoint_score_order, MODES)
        integer("checkpoint_frequency", self.checkpoint_frequency, at_least=0)
        if self.checkpoint_at_end is not None:
            flag("checkpoint_at_end", self.checkpoint_at_end)


@dataclass
class FailureConfig:
    """What a failed trial means.

    Attributes:
        max_failures: how often a trial that failed is tried again, from its newest checkpoint; -1 without end.
        fail_fast: True ends the sweep at the first failure; ``"raise"`` also raises it. Not with `max_failures`.
    """

    max_failures: int = 0
    fail_fast: bool | str = False

    def __post_init__(self) -> None:
        integer("max_failures", self.max_failures, at_least=0, also=(-1,))
        if isinstance(self.fail_fast, str):
            self.fail_fast = self.fail_fast.lower()
        one_of("fail_fast", self.fail_fast, (False, True, "raise"))
        if self.fail_fast and self.max_failures:
            raise ValueError(
                f"max_failures={self.max_failures} and fail_fast={self.fail_fast!r} contradict each other: "
                "leave out one of them."
            )


@dataclass
class SyncConfig:
    """How a remote storage is kept up to date; without meaning for a local one.

    Attributes:
        sync_period: seconds between two uploads of what changed (Ray: 300); more if uploads take long.
        sync_timeout: seconds that the last upload may take, at the end of the sweep.
        sync_artifacts: whether other files in trials' directories than tune's own are uploaded too (Ray: no).
        sync_artifacts_on_checkpoint: whether there is an upload whenever a trial has saved a checkpoint.
    """

    sync_period: float = 2.0
    sync_timeout: float = 1800
    sync_artifacts: bool = True
    sync_artifacts_on_checkpoint: bool = True

    def __post_init__(self) -> None:
        number("sync_period", self.sync_period, at_least=0)
        self.sync_timeout = seconds("sync_timeout", self.sync_timeout)
        flag("sync_artifacts", self.sync_artifacts)
        flag("sync_artifacts_on_checkpoint", self.sync_artifacts_on_checkpoint)


class TrialResume(enum.Enum):
    """What happens to a trial of an earlier run: go on from its checkpoint, start anew, or leave it as it is."""

    RESUME = "resume"
    RESTART = "restart"
    SKIP = "skip"


@dataclass
class ResumeConfig:
    """What happens to the trials of an earlier run of the same experiment, by how they stand.

    Attributes:
        finished: those that ended well.
        unfinished: those that were running, paused or waiting.
        errored: those that failed.
    """

    ResumeType = TrialResume  # Ray's place for it

    finished: TrialResume | str = TrialResume.SKIP
    unfinished: TrialResume | str = TrialResume.RESUME
    errored: TrialResume | str = TrialResume.SKIP

    def __post_init__(self) -> None:
        for name in ("finished", "unfinished", "errored"):
            value = getattr(self, name)
            if isinstance(value, str):
                one_of(name, value.lower(), [kind.value for kind in TrialResume])
                setattr(self, name, TrialResume(value.lower()))
            else:
                instance(name, value, TrialResume, "Write ResumeConfig.ResumeType.RESUME, RESTART or SKIP.")


@dataclass
class TuneConfig:
    """What is searched, and how. The attributes mean what the arguments of ``tune.run`` of the same name mean.

    Attributes:
        mode: ``"min"`` or ``"max"``; a list for several metrics.
        metric: the result's name to optimize; a list for several objectives.
        search_alg: a searcher, or its name; None for random and grid search.
        scheduler: a scheduler, or its name; None for first in, first out.
        num_samples: how often the space is sampled, and a grid repeated; -1 without end.
        max_concurrent_trials: how many trials run at once at most; None or 0 for what the resources allow.
        time_budget_s: seconds, or a ``datetime.timedelta``, after which the whole sweep ends.
        reuse_actors: True runs trial after trial in warm processes; False gives each a fresh one.
        trial_name_creator: ``(trial) -> str``.
        trial_dirname_creator: ``(trial) -> str``, one path component, different for each trial.
        seed: makes the sweep repeatable bit for bit. Ours.
        deterministic: whether decisions are independent of timing; None for "if there is a seed". Ours.
        trial_time_limit_s: seconds after which an attempt of a trial is killed. Ours.
        trial_memory_limit: bytes, or a text such as ``"2GiB"``, at which a trial is killed. Ours.
        constraints: what good results keep: bounds by metric, ``{"latency": 20}`` or ``{"latency": (low, high)}``, or a
            function of the result that returns numbers that must not be above zero. Ours.
    """

    mode: str | Sequence[str] | None = None
    metric: str | Sequence[str] | None = None
    search_alg: Searcher | str | None = None
    scheduler: TrialScheduler | str | None = None
    num_samples: int | str = 1
    max_concurrent_trials: int | None = None
    time_budget_s: float | datetime.timedelta | None = None
    reuse_actors: bool = True
    trial_name_creator: Callable[[Trial], str] | None = None
    trial_dirname_creator: Callable[[Trial], str] | None = None
    seed: int | None = None
    deterministic: bool | None = None
    trial_time_limit_s: float | datetime.timedelta | None = None
    trial_memory_limit: float | str | None = None
    constraints: Constraints | None = None

    def __post_init__(self) -> None:
        check_objective(self.metric, self.mode)
        check_num_samples(self.num_samples)
        if self.max_concurrent_trials is not None:
            integer("max_concurrent_trials (None or 0 for no limit)", self.max_concurrent_trials, at_least=0)
        for name in ("time_budget_s", "trial_time_limit_s"):
            if getattr(self, name) is not None:
                setattr(self, name, seconds(name, getattr(self, name)))
        flag("reuse_actors", self.reuse_actors)
        for name in ("trial_name_creator", "trial_dirname_creator"):
            if getattr(self, name) is not None:
                function(name, getattr(self, name), "(trial) -> str")
        if self.seed is not None:
            integer("seed", self.seed, at_least=0)
        if self.deterministic is not None:
            flag("deterministic", self.deterministic)
        if self.trial_memory_limit is not None:
            self.trial_memory_limit = memory_bytes("trial_memory_limit", self.trial_memory_limit)
        if self.constraints is not None:
            # here: it brings numpy, which `import tune` does without
            from tune.search.objectives import check_constraints  # noqa: PLC0415

            check_constraints(self.constraints)


_PARTS: dict[str, type] = {
    "failure_config": FailureConfig,
    "checkpoint_config": CheckpointConfig,
    "sync_config": SyncConfig,
}


@dataclass
class RunConfig:
    """Where results go, and what happens besides. As the arguments of ``tune.run`` of the same name.

    Attributes:
        name: of the experiment, and of its directory.
        storage_path: a local directory, or a URL that fsspec knows; default ``~/skate_results``.
        storage_filesystem: an fsspec filesystem for `storage_path`, if its URL does not say enough.
        failure_config: what a failed trial means.
        checkpoint_config: which checkpoints are made and kept.
        sync_config: how a remote storage is kept up to date.
        verbose: 0 prints nothing, 1 a table now and then and the end, 2 also each trial's.
        stop: when a trial, or all, have had enough.
        callbacks: called at each step of the sweep.
        progress_reporter: shows the progress in place of the table.
        log_to_file: what trials print goes to files in their directories.
    """

    name: str | None = None
    storage_path: str | Path | None = None
    storage_filesystem: Any = None
    # None, as people pass it for "the default", is replaced at once, so readers need not expect it
    failure_config: FailureConfig = None  # type: ignore[assignment]
    checkpoint_config: CheckpointConfig = None  # type: ignore[assignment]
    sync_config: SyncConfig = None  # type: ignore[assignment]
    verbose: int | None = None
    stop: Any = None
    callbacks: Sequence[Callback] | None = None
    progress_reporter: Any = None
    log_to_file: bool | str | Sequence[str] = False

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            if getattr(self, name) is None:
                setattr(self, name, kind())
            instance(name, getattr(self, name), kind)
        check_name(self.name)
        check_verbose(self.verbose)
        coerce_stop(self.stop)
        self.callbacks = check_callbacks(self.callbacks)
        log_files(self.log_to_file)


def check_objective(metric: Any, mode: Any) -> None:
    """Check a metric, or several, and its mode, or theirs.

    Raises:
        TypeError: not names.
        ValueError: unknown modes, or as many modes as there are not metrics.
    """
    if metric is not None and not isinstance(metric, str):
        if not isinstance(metric, Sequence) or not metric or not all(isinstance(name, str) for name in metric):
            raise TypeError(f"metric must be a result's name, or a list of names; got {metric!r}.")
        if not isinstance(mode, str | None) and len(mode) != len(metric):
            raise ValueError(f"mode must have one entry for each of the {len(metric)} metrics; got {mode!r}.")
    if mode is None:
        return
    if isinstance(mode, str):
        one_of("mode", mode, MODES)
        return
    if not isinstance(mode, Sequence) or metric is None or isinstance(metric, str):
        raise TypeError(f"mode must be 'min' or 'max', or a list of these with a list of metrics; got {mode!r}.")
    for each in mode:
        one_of("mode", each, MODES)


def check_num_samples(num_samples: Any) -> None:
    """Check a number of samples: at least 1, -1 without end, or ``"+50"`` for so many more of a resumed sweep.

    Raises:
        TypeError: not a whole number.
        ValueError: 0, or below -1, or a text that is not ``"+"`` and a number.
    """
    if isinstance(num_samples, str):
        if not (num_samples.startswith("+") and num_samples[1:].isdigit() and int(num_samples[1:]) > 0):
            raise ValueError(f"num_samples must be a number, or a text such as '+50' to add; got {num_samples!r}.")
        return
    integer("num_samples", num_samples, at_least=1, also=(-1,))


def check_name(name: Any) -> None:
    """Check an experiment's name: one path component.

    Raises:
        TypeError: not a text.
        ValueError: empty, or more than one path component.
    """
    if name is None:
        return
    instance("name", name, str)
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(
            f"name must be one path component, as it names the experiment's directory; got {name!r}. "
            "Directories above it go into storage_path."
        )


def check_verbose(verbose: Any) -> None:
    """Check a verbosity: 0 to 3, None for the default.

    Raises:
        TypeError: not a whole number.
        ValueError: outside that range.
    """
    if verbose is not None:
        one_of("verbose", integer("verbose", verbose, at_least=0), (0, 1, 2, 3))


def check_callbacks(callbacks: Any) -> list[Callback]:
    """Return the callbacks as a list.

    Raises:
        TypeError: anything in it that is not a callback.
    """
    if callbacks is None:
        return []
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise TypeError(f"callbacks must be a list of tune.Callback; got {callbacks!r} ({type(callbacks).__name__}).")
    return [instance("each of callbacks", callback, Callback) for callback in callbacks]


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def memory_bytes(name: str, value: Any) -> float:
    """Return an amount of memory in bytes: a number, or a text such as ``"500MB"`` or ``"2GiB"``.

    Raises:
        TypeError: neither.
        ValueError: zero, negative, or an unknown unit.
    """
    if not isinstance(value, str):
        return number(f"{name} (bytes, or a text such as '2GiB')", value, above=0)
    text = value.strip().upper().removesuffix("B")
    digits = text.rstrip("KMGTI ")
    unit = text[len(digits) :].strip()
    try:
        amount = float(digits) * _UNITS[unit]
    except (ValueError, KeyError):
        raise ValueError(f"{name} must be bytes, or a text such as '500MB' or '2GiB'; got {value!r}.") from None
    return number(name, amount, above=0)
