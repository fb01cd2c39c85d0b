"""The configuration records: defaults are Ray's, and each mistake is told where it is made."""

from __future__ import annotations

import datetime

import pytest

from tune.api.configs import (
    CheckpointConfig,
    FailureConfig,
    ResumeConfig,
    RunConfig,
    SyncConfig,
    TuneConfig,
    log_files,
    memory_bytes,
)
from tune.callback import Callback


def test_defaults_are_rays() -> None:
    checkpoints = CheckpointConfig()
    assert (checkpoints.num_to_keep, checkpoints.checkpoint_score_attribute) == (None, None)
    assert (checkpoints.checkpoint_score_order, checkpoints.checkpoint_frequency) == ("max", 0)
    assert checkpoints.checkpoint_at_end is None
    assert FailureConfig() == FailureConfig(max_failures=0, fail_fast=False)
    sync = SyncConfig()
    assert (sync.sync_timeout, sync.sync_artifacts_on_checkpoint) == (1800, True)
    assert (sync.sync_period, sync.sync_artifacts) == (2, True)  # not Ray's: nothing is lost
    kinds = ResumeConfig.ResumeType
    assert ResumeConfig() == ResumeConfig(finished=kinds.SKIP, unfinished=kinds.RESUME, errored=kinds.SKIP)
    tune = TuneConfig()
    assert (tune.num_samples, tune.metric, tune.mode, tune.search_alg, tune.scheduler) == (1, None, None, None, None)
    assert tune.reuse_actors  # not Ray's: warm processes are the default
    run = RunConfig()
    assert run.checkpoint_config == CheckpointConfig()
    assert run.failure_config == FailureConfig()
    assert run.sync_config == SyncConfig()
    assert (run.name, run.storage_path, run.stop, run.log_to_file) == (None, None, None, False)


def test_parts_of_a_run_config_may_be_none() -> None:
    assert RunConfig(checkpoint_config=None).checkpoint_config == CheckpointConfig()  # type: ignore[arg-type]


def test_resume_types_may_be_words() -> None:
    assert ResumeConfig(errored="restart").errored is ResumeConfig.ResumeType.RESTART
    assert ResumeConfig(errored="RESUME").errored is ResumeConfig.ResumeType.RESUME


def test_durations_may_be_timedeltas() -> None:
    assert TuneConfig(time_budget_s=datetime.timedelta(minutes=2)).time_budget_s == 120
    assert TuneConfig(trial_time_limit_s=datetime.timedelta(seconds=3)).trial_time_limit_s == 3


def test_callbacks_become_a_list() -> None:
    callback = Callback()
    assert RunConfig(callbacks=(callback,)).callbacks == [callback]


@pytest.mark.parametrize(
    ("text", "amount"),
    [(5, 5), ("5", 5), ("5B", 5), ("1kB", 1000), ("1 KiB", 1024), ("2GiB", 2 * 2**30), ("1.5M", 1.5e6), ("1tb", 1e12)],
)
def test_amounts_of_memory(text, amount) -> None:
    assert memory_bytes("m", text) == amount


def test_files_for_what_trials_print() -> None:
    assert log_files(False) is None
    assert log_files(True) == ("stdout", "stderr")
    assert log_files("both.txt") == ("both.txt", "both.txt")
    assert log_files(("a", "b")) == ("a", "b")


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda: CheckpointConfig(num_to_keep=0), "num_to_keep .* at least 1"),
        (lambda: CheckpointConfig(checkpoint_score_order="best"), "checkpoint_score_order must be one of"),
        (lambda: CheckpointConfig(checkpoint_score_attribute=3), "checkpoint_score_attribute"),
        (lambda: CheckpointConfig(checkpoint_frequency=-1), "checkpoint_frequency"),
        (lambda: CheckpointConfig(checkpoint_at_end="yes"), "checkpoint_at_end"),
        (lambda: FailureConfig(max_failures=-2), "max_failures .* at least 0 or -1"),
        (lambda: FailureConfig(fail_fast="rise"), "Did you mean 'raise'"),
        (lambda: FailureConfig(max_failures=1, fail_fast=True), "contradict"),
        (lambda: SyncConfig(sync_period=-1), "sync_period"),
        (lambda: SyncConfig(sync_timeout=0), "sync_timeout"),
        (lambda: SyncConfig(sync_artifacts=1), "sync_artifacts"),
        (lambda: SyncConfig(sync_artifacts_on_checkpoint=None), "sync_artifacts_on_checkpoint"),
        (lambda: ResumeConfig(errored="again"), "errored"),
        (lambda: ResumeConfig(unfinished=3), "unfinished"),
        (lambda: TuneConfig(mode="minimum"), "mode must be one of 'min', 'max'"),
        (lambda: TuneConfig(metric=3), "metric"),
        (lambda: TuneConfig(metric=["a", "b"], mode=["min"]), "one entry for each of the 2 metrics"),
        (lambda: TuneConfig(metric="a", mode=["min"]), "mode"),
        (lambda: TuneConfig(num_samples=0), "num_samples"),
        (lambda: TuneConfig(num_samples=1.5), "num_samples"),
        (lambda: TuneConfig(num_samples="50"), "num_samples .* '\\+50'"),
        (lambda: TuneConfig(max_concurrent_trials=-1), "max_concurrent_trials"),
        (lambda: TuneConfig(time_budget_s=0), "time_budget_s"),
        (lambda: TuneConfig(time_budget_s="1h"), "time_budget_s"),
        (lambda: TuneConfig(reuse_actors="no"), "reuse_actors must be True or False"),
        (lambda: TuneConfig(trial_name_creator="x"), "trial_name_creator"),
        (lambda: TuneConfig(trial_dirname_creator="x"), "trial_dirname_creator"),
        (lambda: TuneConfig(seed=-1), "seed"),
        (lambda: TuneConfig(deterministic=1), "deterministic"),
        (lambda: TuneConfig(trial_time_limit_s=-1), "trial_time_limit_s"),
        (lambda: TuneConfig(trial_memory_limit="2 sheep"), "trial_memory_limit"),
        (lambda: TuneConfig(trial_memory_limit=0), "trial_memory_limit"),
        (lambda: TuneConfig(constraints=3), "constraints"),
        (lambda: RunConfig(name="a/b"), "one path component"),
        (lambda: RunConfig(name=""), "one path component"),
        (lambda: RunConfig(verbose=4), "verbose"),
        (lambda: RunConfig(stop=3), "stop must be a dict"),
        (lambda: RunConfig(callbacks=[Callback]), r"write Callback\(\.\.\.\)"),
        (lambda: RunConfig(callbacks=Callback()), "callbacks must be a list"),
        (lambda: RunConfig(log_to_file=3), "log_to_file"),
        (lambda: RunConfig(log_to_file=("a", "b", "c")), "log_to_file"),
        (lambda: RunConfig(failure_config=CheckpointConfig()), "failure_config"),
    ],
)
def test_mistakes_are_told_where_they_are_made(make, say) -> None:
    with pytest.raises((TypeError, ValueError), match=say):
        make()
