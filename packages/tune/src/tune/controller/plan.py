"""Everything a sweep is made of, checked and complete: what ``tune.run`` and ``Tuner`` hand to the controller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune.callback import Callback
from tune.schedulers.base import TrialScheduler
from tune.search.base import Searcher
from tune.stopper.base import Stopper
from tune.trial import Config, ResourceRequest, Trial


@dataclass(frozen=True)
class CheckpointPlan:
    """Which checkpoints are made and kept (``CheckpointConfig``)."""

    #: the newest or best so many; None keeps all
    num_to_keep: int | None = None
    score_attribute: str | None = None
    score_order: str = "max"
    #: class trainables: every so many results, 0 for never
    frequency: int = 0
    #: None: no for functions, yes for classes that can save
    at_end: bool | None = None


@dataclass(frozen=True)
class FailurePlan:
    """What a failed trial means (``FailureConfig``)."""

    #: attempts after the first; -1 without end
    max_failures: int = 0
    #: True: the first failure ends the sweep; "raise": and is raised
    fail_fast: bool | str = False
    #: a result without the metric, or with NaN in it, is an error of the trial (BAD_METRIC), and so is ending without
    #: any result (NEVER_REPORTED). If not: schedulers and searchers see NaN as the worst value there is, and do not see
    #: results without the metric
    strict_metric: bool = True


@dataclass(frozen=True)
class LimitPlan:
    """Hard limits of each trial; None for none."""

    #: seconds of one attempt
    time_limit_s: float | None = None
    #: bytes resident, child processes included
    memory_limit: float | None = None


@dataclass(frozen=True)
class ResumePlan:
    """What happens to trials of an earlier run of the same experiment: ``"RESUME"``, ``"RESTART"`` or ``"SKIP"``."""

    finished: str = "SKIP"
    unfinished: str = "RESUME"
    errored: str = "SKIP"


@dataclass
class SweepPlan:
    """A sweep, checked and complete.

    Searcher, scheduler and stopper are new ones, and have had their `set_search_properties`. When the sweep resumes,
    the controller restores their states of the earlier run itself and tells what has changed (`Searcher.extend` if
    `num_samples` grew or `space_changed`, `TrialScheduler.on_resume` if the scheduler is of another type or has other
    parameters, which are its public attributes).
    """

    name: str
    #: local directory of the experiment; it exists
    directory: Path
    space: Config
    metric: str | list[str] | None
    mode: str | list[str] | None
    #: as in ``tune.run``, -1 without end; when resuming: the new total, what was asked for before included
    num_samples: int
    searcher: Searcher
    scheduler: TrialScheduler
    #: code that looks at every result; None if `stop_bounds` say it all
    stopper: Stopper | None = None
    stop_bounds: dict[str, float] = field(default_factory=dict)
    #: of a configuration: what its trial needs
    resources: Callable[[Config], ResourceRequest] = lambda _config: ResourceRequest()
    max_concurrent: int | None = None
    time_budget_s: float | None = None
    checkpoints: CheckpointPlan = CheckpointPlan()
    failures: FailurePlan = FailurePlan()
    limits: LimitPlan = LimitPlan()
    #: absolute path or URL of a checkpoint that every new trial starts from
    restore: str | None = None
    callbacks: Sequence[Callback] = ()
    seed: int | None = None
    #: events are handled in an order that does not depend on timing; what a seed promises
    deterministic: bool = False
    #: where trials' directories and checkpoints are kept: absolute path or URL of the experiment; None: `directory`
    storage: str | None = None
    #: first part of trials' ids, ``<prefix>_00003``; with a seed it is made of the seed. Resuming keeps the first run's
    trial_prefix: str = "trial"
    #: configurations in all, grid included; None if not known
    total_samples: int | None = None
    #: the searched parameters of a configuration, flat, for `Trial.evaluated_params`
    evaluated_params: Callable[[Config], dict[str, Any]] = dict
    #: for `Launch.metadata`
    metadata: dict[str, Any] = field(default_factory=dict)
    #: shell command or Python call that goes on with this sweep, for the message after Ctrl-C; None for no message
    resume_hint: str | None = None
    #: short name for tables and directories, made of the trainable's
    trainable_name: str = "trainable"
    #: whether the trainable can save (class with save_checkpoint), cannot, or may (functions: None)
    can_save: bool | None = None
    trial_name: Callable[[Trial], str] | None = None
    trial_dirname: Callable[[Trial], str] | None = None
    #: go on with what the directory holds; None starts anew, in a directory without a journal
    resume: ResumePlan | None = None
    #: when resuming: `space` is another than before, so the searcher is told
    space_changed: bool = False
    #: searched results of other objectives' bounds (``constraints``), for searchers that use them
    constraints: Any = None
