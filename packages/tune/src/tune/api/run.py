"""``tune.run``: a sweep in one call."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.api.configs import CheckpointConfig, ResumeConfig, SyncConfig
from tune.api.deprecated import refuse_deprecated
from tune.api.execution import execute
from tune.api.experiment import Experiment
from tune.api.resources import PlacementGroupFactory
from tune.api.results.analysis import ExperimentAnalysis
from tune.api.settings import settings_of
from tune.argument_checks import flag
from tune.callback import Callback
from tune.stopper.base import Stopper
from tune.trial import Result, Trial

if TYPE_CHECKING:
    from tune.backend.base import TrialBackend
    from tune.schedulers.base import TrialScheduler
    from tune.search.base import Searcher
    from tune.search.objectives import Constraints


def run(
    run_or_experiment: Callable[..., Any] | type | str | Experiment,
    *,
    name: str | None = None,
    metric: str | Sequence[str] | None = None,
    mode: str | Sequence[str] | None = None,
    stop: Mapping[str, Any] | Stopper | Callable[[str, Result], bool] | Sequence[Stopper] | None = None,
    time_budget_s: float | datetime.timedelta | None = None,
    config: dict[str, Any] | Callable[[Any], dict[str, Any] | None] | None = None,
    resources_per_trial: Mapping[str, Any] | PlacementGroupFactory | None = None,
    num_samples: int | str = 1,
    storage_path: str | Path | None = None,
    storage_filesystem: Any = None,
    search_alg: Searcher | str | None = None,
    scheduler: TrialScheduler | str | None = None,
    checkpoint_config: CheckpointConfig | None = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    log_to_file: bool | str | Sequence[str] = False,
    trial_name_creator: Callable[[Trial], str] | None = None,
    trial_dirname_creator: Callable[[Trial], str] | None = None,
    sync_config: SyncConfig | None = None,
    export_formats: Sequence[str] | None = None,
    max_failures: int = 0,
    fail_fast: bool | str = False,
    restore: str | Path | None = None,
    resume: bool | str | None = None,
    resume_config: ResumeConfig | None = None,
    reuse_actors: bool = True,
    raise_on_failed_trial: bool = True,
    callbacks: Sequence[Callback] | None = None,
    max_concurrent_trials: int | None = None,
    seed: int | None = None,
    deterministic: bool | None = None,
    trial_time_limit_s: float | datetime.timedelta | None = None,
    trial_memory_limit: float | str | None = None,
    constraints: Constraints | None = None,
    backend: TrialBackend | None = None,
    keep_checkpoints_num: int | None = None,
    checkpoint_score_attr: str | None = None,
    checkpoint_freq: int = 0,
    checkpoint_at_end: bool = False,
    chdir_to_trial_dir: bool | None = None,
    local_dir: str | None = None,
) -> ExperimentAnalysis:
    """Run a trainable under many configurations, and return what came out.

    A session is started if none runs. Ctrl-C ends the sweep in order: its state is saved, what there is is returned,
    and ``resume=True`` goes on with it; so it does after a crash, whatever the moment.

    Args:
        run_or_experiment: a function of a config that calls ``tune.report(metrics)`` or returns a dict; a
            `tune.Trainable` class; the name of one; or an `Experiment`, whose own arguments go before those given here.
        name: of the experiment and its directory; default: the trainable's and the time.
        metric: the result's name to optimize, ``a/b`` for nested ones; a list for several objectives.
        mode: ``"min"`` or ``"max"``; a list for several metrics.
        stop: when a trial has had enough: ``{"loss": 0.1, "training_iteration": 10}`` ends it at the first result in
            which any is at least its bound; or a function ``(trial_id, result) -> bool``, or a `Stopper`.
        time_budget_s: seconds, or a ``datetime.timedelta``, after which the whole sweep ends.
        config: the search space, a dict with domains anywhere in it; or a function of a trial with Optuna's
            ``suggest_...`` methods.
        resources_per_trial: what each trial needs, as ``{"cpu": 2, "gpu": 0.5}``; default one CPU.
        num_samples: how often the space is sampled, and a grid repeated; -1 without end. With `resume` the new total
            (a smaller one changes nothing), or ``"+50"`` for so many more.
        storage_path: a local directory, or a URL that fsspec knows such as ``s3://bucket/path``; default
            ``~/skate_results``, or the environment's ``SKATE_TUNE_RESULTS``.
        storage_filesystem: an fsspec filesystem for `storage_path`, if its URL does not say enough.
        search_alg: a searcher or its name, as ``"optuna"``; None for random and grid search.
        scheduler: a scheduler or its name, as ``"asha"``; None for first in, first out.
        checkpoint_config: which checkpoints are made and kept.
        verbose: 0 prints nothing, 1 a table, 2 (default) or 3 more of it.
        progress_reporter: shows the progress in place of the table.
        log_to_file: True writes what trials print to ``stdout`` and ``stderr`` in their directories; a name, or two,
            for other files.
        trial_name_creator: ``(trial) -> str``, its name in tables.
        trial_dirname_creator: ``(trial) -> str``, one path component, different for each trial.
        sync_config: how a remote storage is kept up to date.
        export_formats: for class trainables: formats passed to ``export_model`` when a trial ends.
        max_failures: how often a trial that failed is tried again, from its newest checkpoint; -1 without end.
        fail_fast: True ends the sweep at the first failure; ``"raise"`` also raises its exception.
        restore: a checkpoint's directory that every trial starts from.
        resume: True or ``"AUTO"`` goes on with the experiment called `name` if there is one; ``"AUTO+ERRORED"`` also
            with its failed trials, ``"AUTO+RESTART_ERRORED"`` starts those anew, and with ``..._ONLY`` only those.
        resume_config: says that in full.
        reuse_actors: True runs trial after trial in warm processes; False gives each a fresh one, at the cost of its
            start.
        raise_on_failed_trial: whether to raise when trials failed; the others run to their ends in any case.
        callbacks: `tune.Callback` objects; the loggers are added unless given (or unless the environment has
            ``TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1``).
        max_concurrent_trials: how many trials run at once at most; None or 0 for what the resources allow.
        seed: makes configurations and decisions repeatable bit for bit, whatever the timing. Ours.
        deterministic: False lets decisions depend on timing although there is a seed; True makes them independent
            of it without one. Ours.
        trial_time_limit_s: seconds after which an attempt of a trial is killed: state TIMEOUT. Ours.
        trial_memory_limit: bytes, or a text such as ``"2GiB"``, at which a trial is killed: state OUT_OF_MEMORY. Ours.
        constraints: what good results keep: bounds by metric, ``{"latency": 20}`` or ``{"latency": (low, high)}``, or a
            function of the result that returns numbers that must not be above zero. Ours.
        backend: where trials run: None for actors, or a `tune.backend.SimulatorBackend`. Ours.
        keep_checkpoints_num: refused; use ``checkpoint_config``.
        checkpoint_score_attr: refused; use ``checkpoint_config``.
        checkpoint_freq: refused; use ``checkpoint_config``.
        checkpoint_at_end: refused; use ``checkpoint_config``.
        chdir_to_trial_dir: refused; use the environment's ``RAY_CHDIR_TO_TRIAL_DIR``.
        local_dir: refused; use ``storage_path``.

    Returns:
        The trials, to be asked for the best of them.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an argument with a wrong value, or two that contradict each other.
        TrialFailedError: trials failed (`raise_on_failed_trial`).
        CallbackError: a callback, searcher, scheduler or stopper raised.
        ExperimentInUseError: another process is running the same experiment.
    """
    arguments = dict(locals())  # the first statement: here they are the arguments and nothing else
    refuse_deprecated(arguments)
    flag("raise_on_failed_trial", arguments.pop("raise_on_failed_trial"))
    trainable: Any = arguments.pop("run_or_experiment")
    if isinstance(trainable, Experiment):
        trainable, arguments = trainable.run, {**arguments, **trainable.spec}
    finished = execute(settings_of("tune.run(...)", trainable, **arguments))
    return finished.analysis(raise_on_failed_trial=raise_on_failed_trial)
