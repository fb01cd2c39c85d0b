"""What the controller does with trials that fail, hang, report nonsense or nothing, and sweeps that end early."""

from __future__ import annotations

import math
import os
import pickle
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packages.tune.tests.unit.controller_harness import Listed, Script, ScriptedBackend, make_plan
from tune.callback import Callback
from tune.controller.history import ResultReader, read_experiment
from tune.controller.loop import run_sweep
from tune.controller.outcome import EndReason, SweepOutcome
from tune.controller.plan import CheckpointPlan, FailurePlan
from tune.errors import CallbackError, TrialFailedError
from tune.messages import Launch, Sync
from tune.schedulers.base import (
    CONTINUE,
    NEW,
    PAUSE,
    WAIT,
    Choice,
    Decision,
    Exploit,
    Resize,
    Resume,
    TrialScheduler,
    View,
)
from tune.stopper.base import Stopper
from tune.trial import Config, EndCause, FailureKind, ResourceRequest, Result, Trial, TrialStatus

Scripts = Callable[[Launch], Script]


def index_of(launch: Launch) -> int:
    return int(launch.trial_id.split("_")[1])


def only(index: int, script: Script) -> Scripts:
    """Have one trial follow a script of its own."""
    return lambda launch: script if index_of(launch) == index else Script()


def sweep(directory: Path, scripts: Scripts = lambda launch: Script(), **plan: Any) -> tuple[SweepOutcome, Any]:
    backend = ScriptedBackend(scripts, **plan.pop("backend", {}))
    return run_sweep(make_plan(directory, **plan), backend), backend


def statuses(outcome: SweepOutcome) -> list[str]:
    return [str(trial.status) for trial in outcome.trials]


# -- trials that go wrong


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FailureKind.RAISED, "ERROR"),
        (FailureKind.DIED, "ERROR"),
        (FailureKind.UNPICKLABLE, "ERROR"),
        (FailureKind.TIMEOUT, "TIMEOUT"),
        (FailureKind.OUT_OF_MEMORY, "OUT_OF_MEMORY"),
    ],
)
def test_a_failure_ends_its_trial_and_no_other(tmp_path: Path, kind: FailureKind, status: str) -> None:
    outcome, _ = sweep(tmp_path, only(1, Script(fail_after={1: 2}, kind=kind)))
    assert statuses(outcome) == ["TERMINATED", status, "TERMINATED", "TERMINATED"]
    failed = outcome.trials[1]
    assert failed.error is not None
    assert (failed.error.kind, failed.error.message) == (kind, "as the script says")
    assert failed.iteration == 2
    assert outcome.ended is EndReason.COMPLETE
    assert outcome.failed == [failed]


def curve_of(value: Any) -> Callable[[Config, int], Result]:
    return lambda config, iteration: {"score": value} if iteration == 2 else {"score": 1.0}


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (curve_of(math.nan), "'score' is NaN"),
        (curve_of("high"), "'score' is a str"),
        (lambda config, iteration: {"loss": 1.0}, "a result has no 'score'.*it has 'loss'"),
    ],
)
def test_a_metric_that_cannot_be_judged_is_the_trials_failure(tmp_path: Path, curve: Any, message: str) -> None:
    searcher = Listed([1.0, 2.0, 3.0])
    outcome, _ = sweep(
        tmp_path, only(1, Script(curve=curve)), searcher=searcher, failures=FailurePlan(max_failures=3), num_samples=3
    )
    assert statuses(outcome) == ["TERMINATED", "ERROR", "TERMINATED"]
    error = outcome.trials[1].error
    assert error is not None
    assert error.kind is FailureKind.BAD_METRIC
    assert re.search(message, error.message)
    assert ("t_00001", None, True) in searcher.ends
    assert outcome.trials[1].attempts == 1, "the same would come of another attempt"


class Watching(TrialScheduler):
    """Lets everything go on and remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__(metric="score", mode="max")
        self.seen: list[tuple[str, Any]] = []
        self.ends: list[tuple[str, Result]] = []

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        assert trial.trial_id in view.live
        self.seen.append((trial.trial_id, result.get("score")))
        return CONTINUE

    def on_trial_complete(self, trial: Trial, result: Result) -> None:
        self.ends.append((trial.trial_id, result))


@pytest.mark.parametrize(("mode", "worst"), [("max", -math.inf), ("min", math.inf)])
def test_not_strict_nan_counts_as_the_worst_value_and_a_missing_one_is_not_shown(
    tmp_path: Path, mode: str, worst: float
) -> None:
    def curve(config: Config, iteration: int) -> Result:
        return {1: {"score": math.nan}, 2: {"other": 1.0}, 3: {"score": 7.0}}[iteration]

    scheduler = Watching()
    outcome, _ = sweep(
        tmp_path,
        lambda launch: Script(3, curve),
        num_samples=1,
        mode=mode,
        scheduler=scheduler,
        failures=FailurePlan(strict_metric=False),
    )
    assert statuses(outcome) == ["TERMINATED"]
    assert scheduler.seen == [("t_00000", worst), ("t_00000", 7.0)]
    results = list(ResultReader(tmp_path).results(outcome.trials[0]))
    assert math.isnan(results[0]["score"]), "the record is what was reported"


def test_a_trial_that_never_reports_fails_if_a_metric_is_needed(tmp_path: Path) -> None:
    outcome, _ = sweep(tmp_path, only(0, Script(length=0)), num_samples=2)
    assert statuses(outcome) == ["ERROR", "TERMINATED"]
    error = outcome.trials[0].error
    assert error is not None
    assert error.kind is FailureKind.NEVER_REPORTED
    assert "call tune.report" in error.message


@pytest.mark.parametrize("plan", [{"metric": None, "mode": None}, {"failures": FailurePlan(strict_metric=False)}])
def test_else_it_ends_well(tmp_path: Path, plan: dict[str, Any]) -> None:
    outcome, _ = sweep(tmp_path, only(0, Script(length=0)), num_samples=2, **plan)
    assert statuses(outcome) == ["TERMINATED", "TERMINATED"]


def test_what_no_cluster_has_room_for_fails_at_once_and_says_so(tmp_path: Path) -> None:
    outcome, _ = sweep(
        tmp_path,
        searcher=Listed([1.0, 9.0, 2.0]),
        num_samples=3,
        resources=lambda config: ResourceRequest(({"CPU": config["x"]},)),
    )
    assert statuses(outcome) == ["TERMINATED", "ERROR", "TERMINATED"]
    error = outcome.trials[1].error
    assert error is not None
    assert error.kind is FailureKind.INFEASIBLE
    assert "needs {'CPU': 9.0}" in error.message


# -- trying again


@pytest.mark.parametrize(("save_every", "goes_on_at"), [(0, 0), (1, 2), (2, 2)])
def test_a_failed_trial_is_tried_again_from_its_newest_checkpoint(
    tmp_path: Path, save_every: int, goes_on_at: int
) -> None:
    script = Script(5, save_every=save_every, fail_after={1: 2})
    outcome, backend = sweep(tmp_path, lambda launch: script, num_samples=1, failures=FailurePlan(max_failures=1))
    (trial,) = outcome.trials
    assert trial.status is TrialStatus.TERMINATED
    assert [launch.iteration for launch in backend.launches] == [0, goes_on_at]
    assert [bool(launch.checkpoint) for launch in backend.launches] == [False, bool(save_every)]
    assert len(trial.failures) == 1
    results = list(ResultReader(tmp_path).results(trial))
    assert [result["training_iteration"] for result in results] == [1, 2, 3, 4, 5], "each counts once"


@pytest.mark.parametrize(("limit", "attempts"), [(0, 1), (1, 2), (2, 3), (-1, 4)])
def test_it_is_tried_as_often_as_allowed(tmp_path: Path, limit: int, attempts: int) -> None:
    script = Script(fail_after={1: 1, 2: 1, 3: 1})
    outcome, backend = sweep(tmp_path, lambda launch: script, num_samples=1, failures=FailurePlan(max_failures=limit))
    assert len(backend.launches) == attempts
    assert statuses(outcome) == ["TERMINATED" if limit < 0 else "ERROR"]


@pytest.mark.parametrize("fail_fast", [True, "raise"])
def test_fail_fast_ends_the_sweep(tmp_path: Path, fail_fast: bool | str) -> None:
    outcome, _ = sweep(
        tmp_path, only(0, Script(fail_after={1: 1})), num_samples=50, failures=FailurePlan(fail_fast=fail_fast)
    )
    assert outcome.ended is EndReason.FAIL_FAST
    assert outcome.trials[0].status is TrialStatus.ERROR
    assert len(outcome.trials) < 50
    assert {trial.ended_by for trial in outcome.trials[1:] if trial.status.finished} <= set(EndCause)
    assert isinstance(outcome.error, TrialFailedError) if fail_fast == "raise" else outcome.error is None


def test_fail_fast_raises_the_trials_own_exception(tmp_path: Path) -> None:
    script = Script(fail_after={1: 1}, pickled=pickle.dumps(KeyError("lr")))
    outcome, _ = sweep(tmp_path, lambda launch: script, failures=FailurePlan(fail_fast="raise"))
    assert isinstance(outcome.error, KeyError)


# -- ends


def test_bounds_are_checked_by_the_trial_and_say_who_ended_it(tmp_path: Path) -> None:
    outcome, backend = sweep(tmp_path, lambda launch: Script(9), stop_bounds={"training_iteration": 3}, num_samples=2)
    assert [trial.iteration for trial in outcome.trials] == [3, 3]
    assert {trial.ended_by for trial in outcome.trials} == {EndCause.BOUND}
    assert all(launch.stop.bounds == {"training_iteration": 3} for launch in backend.launches)


class Third(Stopper):
    """Ends trials with their third result, and all with a number of results."""

    def __init__(self, most: float = math.inf) -> None:
        self.count = 0
        self.most = most

    def __call__(self, trial_id: str, result: Result) -> bool:
        self.count += 1
        return bool(result["training_iteration"] >= 3)

    def stop_all(self) -> bool:
        return self.count >= self.most


def test_a_stopper_sees_every_result_before_the_next_is_made(tmp_path: Path) -> None:
    outcome, backend = sweep(tmp_path, lambda launch: Script(9), stopper=Third(), num_samples=3)
    assert [trial.iteration for trial in outcome.trials] == [3, 3, 3]
    assert {trial.ended_by for trial in outcome.trials} == {EndCause.STOPPER}
    assert all(launch.sync == Sync(every=True) for launch in backend.launches)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_stopper_ends_the_sweep(tmp_path: Path, ordered: bool) -> None:
    outcome, backend = sweep(
        tmp_path, lambda launch: Script(9), stopper=Third(most=7), num_samples=50, deterministic=ordered, seed=1
    )
    assert outcome.ended is EndReason.STOPPER
    assert all(trial.status.finished for trial in outcome.trials)
    assert outcome.trials[-1].ended_by is EndCause.SWEEP
    assert not backend.attempts


@pytest.mark.parametrize("ordered", [False, True])
def test_the_time_budget_ends_the_sweep_on_time_also_with_deaf_trials(tmp_path: Path, ordered: bool) -> None:
    outcome, backend = sweep(
        tmp_path,
        lambda launch: Script(deaf=True),
        time_budget_s=5.0,
        num_samples=-1,
        seed=1,
        deterministic=ordered,
    )
    assert outcome.ended is EndReason.TIME_BUDGET
    assert backend.time - 1_000_000 <= 6.0
    assert sorted(backend.kills) == ["t_00000", "t_00001"]
    assert [trial.ended_by for trial in outcome.trials] == [EndCause.SWEEP, EndCause.SWEEP]
    assert all(trial.iteration > 0 for trial in outcome.trials)


def test_no_more_at_once_than_allowed_and_than_fit(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert sweep(tmp_path / "a", backend={"places": 4}, num_samples=9)[1].most_at_once == 4
    assert sweep(tmp_path / "b", backend={"places": 4}, num_samples=9, max_concurrent=3)[1].most_at_once == 3


def test_ctrl_c_ends_the_sweep_in_order_and_says_how_to_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Interrupting(ScriptedBackend):
        def poll(self, timeout: float | None) -> list[Any]:
            if self.polls == 6:
                os.kill(os.getpid(), signal.SIGINT)
            return super().poll(timeout)

    before = signal.getsignal(signal.SIGINT)
    plan = make_plan(tmp_path, num_samples=50, resume_hint="tune resume sweep")
    outcome = run_sweep(plan, Interrupting(lambda launch: Script(9)))
    assert outcome.ended is EndReason.INTERRUPTED
    assert "PENDING" in statuses(outcome)
    assert "To go on with it: tune resume sweep" in caplog.text
    assert signal.getsignal(signal.SIGINT) is before


# -- checkpoints


@pytest.mark.parametrize(
    ("keep", "score", "order", "kept"),
    [
        (None, None, "max", [1, 2, 3, 4, 5]),
        (2, None, "max", [4, 5]),
        (1, None, "max", [5]),
        (2, "score", "max", [2, 3]),
        (2, "score", "min", [1, 5]),
    ],
)
def test_the_newest_or_the_best_checkpoints_are_kept(
    tmp_path: Path, keep: int | None, score: str | None, order: str, kept: list[int]
) -> None:
    values = {1: 0.0, 2: 9.0, 3: 8.0, 4: 2.0, 5: 1.0}
    script = Script(5, lambda config, iteration: {"score": values[iteration]}, save_every=1)
    plan = CheckpointPlan(num_to_keep=keep, score_attribute=score, score_order=order)
    outcome, backend = sweep(tmp_path, lambda launch: script, num_samples=1, checkpoints=plan)
    (trial,) = outcome.trials
    assert [record.iteration for record in trial.checkpoints] == kept
    deleted = {int(name.split("_")[1]) for _, name in backend.deleted}
    assert deleted == {1, 2, 3, 4, 5} - set(kept)


def test_the_newest_is_kept_whatever_its_score_while_the_trial_may_need_it(tmp_path: Path) -> None:
    script = Script(4, lambda config, iteration: {"score": -iteration}, save_every=1, fail_after={1: 3})
    outcome, backend = sweep(
        tmp_path,
        lambda launch: script,
        num_samples=1,
        checkpoints=CheckpointPlan(num_to_keep=1, score_attribute="score"),
        failures=FailurePlan(max_failures=1),
    )
    assert [launch.iteration for launch in backend.launches] == [0, 3]
    assert [record.iteration for record in outcome.trials[0].checkpoints] == [1]


# -- what schedulers ask for


class WrittenForRay(TrialScheduler):
    """Has Ray's signature and answers, which are others."""

    def on_trial_result(self, controller: Any, trial: Any, result: Any) -> Any:
        return "STOP"


def test_an_answer_that_is_no_decision_is_named(tmp_path: Path) -> None:
    with pytest.raises(CallbackError, match="WrittenForRay answered 'STOP'"):
        finished, _ = sweep(tmp_path, scheduler=WrittenForRay(metric="score", mode="max"))
        raise finished.error or AssertionError("nothing was raised")


class Directing(TrialScheduler):
    """Decides once, about the first trial's second result; takes up paused trials when nothing else is to be done."""

    def __init__(self, decision: Decision, about: str = "t_00000") -> None:
        super().__init__(metric="score", mode="max")
        self.decision = decision
        self.about = about
        self.done = False
        self.resumed: list[str] = []

    def sync(self, trial: Trial) -> Sync:
        return Sync(every=True)

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        ready = all(other.iteration >= 2 for other in view.live.values())
        if not self.done and trial.trial_id == self.about and result["training_iteration"] >= 2 and ready:
            self.done = True
            return self.decision
        return CONTINUE

    def choose(self, view: View) -> Choice:
        if view.more_trials:
            return NEW
        for trial in view.paused():
            self.resumed.append(trial.trial_id)
            return Resume(trial.trial_id)
        return WAIT


def test_a_paused_trial_gives_its_place_away_and_goes_on_later(tmp_path: Path) -> None:
    scheduler = Directing(PAUSE)
    outcome, backend = sweep(
        tmp_path, lambda launch: Script(6), scheduler=scheduler, num_samples=3, backend={"places": 1}
    )
    assert statuses(outcome) == ["TERMINATED"] * 3
    assert scheduler.resumed == ["t_00000"]
    assert [launch.trial_id for launch in backend.launches] == ["t_00000", "t_00001", "t_00002", "t_00000"]
    assert backend.launches[-1].iteration == 2
    assert "checkpoint_000002" in (backend.launches[-1].checkpoint or "")


def test_an_exploit_goes_on_from_the_donors_checkpoint_with_the_trials_own_count(tmp_path: Path) -> None:
    scheduler = Directing(Exploit("t_00001", {"x": 50.0}, {"donor": "t_00001"}))
    outcome, backend = sweep(
        tmp_path,
        lambda launch: Script(8, save_every=1),
        scheduler=scheduler,
        num_samples=2,
        checkpoints=CheckpointPlan(num_to_keep=1),
    )
    first = outcome.trials[0]
    again = next(launch for launch in backend.launches if launch.attempt == 2)
    assert again.trial_id == "t_00000"
    assert f"/{outcome.trials[1].dirname}/" in (again.checkpoint or "")
    assert again.config == first.config == {"x": 50.0}
    assert again.iteration == len([r for r in ResultReader(tmp_path).results(first) if r["score"] < 50])
    assert first.tags == {"donor": "t_00001"}
    assert statuses(outcome) == ["TERMINATED"] * 2


def test_an_exploit_of_a_trial_without_a_checkpoint_is_refused_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome, backend = sweep(tmp_path, scheduler=Directing(Exploit("t_00001", {"x": 50.0})), num_samples=2)
    assert statuses(outcome) == ["TERMINATED"] * 2
    assert len(backend.launches) == 2
    assert "cannot go on from" in caplog.text


def test_a_resize_goes_on_with_other_resources(tmp_path: Path) -> None:
    both = ResourceRequest(({"CPU": 2.0},))
    outcome, backend = sweep(tmp_path, lambda launch: Script(6), scheduler=Directing(Resize(both)), num_samples=1)
    assert [launch.bundles for launch in backend.launches] == [({"CPU": 1.0},), ({"CPU": 2.0},)]
    assert [launch.iteration for launch in backend.launches] == [0, 2]
    assert outcome.trials[0].resources == both


def test_a_scheduler_that_needs_checkpoints_refuses_trainables_that_cannot_save(tmp_path: Path) -> None:
    scheduler = TrialScheduler(metric="score", mode="max")
    scheduler.needs_checkpoints = True
    with pytest.raises(ValueError, match="give it save_checkpoint"):
        sweep(tmp_path, scheduler=scheduler, can_save=False)


def test_paused_trials_that_nobody_takes_up_end_with_the_sweep(tmp_path: Path) -> None:
    class Forgetful(Directing):
        def choose(self, view: View) -> Choice:
            return NEW if view.more_trials else WAIT

    outcome, _ = sweep(tmp_path, lambda launch: Script(6), scheduler=Forgetful(PAUSE), num_samples=2)
    assert statuses(outcome) == ["TERMINATED"] * 2
    assert outcome.trials[0].ended_by is EndCause.SCHEDULER
    assert [str(trial.status) for trial in read_experiment(tmp_path).trials] == ["TERMINATED"] * 2


# -- callbacks and code that raises


class Diary(Callback):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.results: list[tuple[str, int]] = []
        self.info: dict[str, Any] = {}
        self.ends = 0

    def setup(self, *args: Any, **info: Any) -> None:
        self.info = info

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.heard.append(("start", trial.trial_id))

    def on_trial_restore(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.heard.append(("restore", trial.trial_id))

    def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Result, **info: Any) -> None:
        self.results.append((trial.trial_id, result["training_iteration"]))

    def on_trial_recover(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.heard.append(("recover", trial.trial_id))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.heard.append(("complete", trial.trial_id))

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        self.heard.append(("error", trial.trial_id))

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        self.ends += 1


def test_callbacks_hear_everything_once_and_in_order(tmp_path: Path) -> None:
    diary = Diary()
    script = Script(3, save_every=1, fail_after={1: 2})
    sweep(
        tmp_path,
        lambda launch: script if index_of(launch) == 0 else Script(2, fail_after={1: 1, 2: 1}),
        num_samples=2,
        callbacks=[diary],
        failures=FailurePlan(max_failures=1),
    )
    first = [what for what, trial_id in diary.heard if trial_id == "t_00000"]
    assert first == ["start", "recover", "start", "restore", "complete"]
    assert [what for what, trial_id in diary.heard if trial_id == "t_00001"] == ["start", "recover", "start", "error"]
    assert [i for trial_id, i in diary.results if trial_id == "t_00000"] == [1, 2, 3]
    assert [i for trial_id, i in diary.results if trial_id == "t_00001"] == [1]
    assert diary.ends == 1
    assert diary.info["experiment_path"] == str(tmp_path)
    assert [result["training_iteration"] for result in diary.info["recorded"]("t_00000")] == [1, 2, 3]


def test_a_callback_that_raises_ends_the_sweep_which_can_be_gone_on_with(tmp_path: Path) -> None:
    class Breaking(Diary):
        def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Result, **info: Any) -> None:
            super().on_trial_result(iteration, trials, trial, result)
            if len(self.results) == 3:
                raise OSError("disk full")

    breaking, other = Breaking(), Diary()
    outcome, backend = sweep(tmp_path, callbacks=[breaking, other])
    assert outcome.ended is EndReason.ERROR
    assert isinstance(outcome.error, CallbackError)
    assert isinstance(outcome.error.__cause__, OSError)
    assert "Breaking.on_trial_result of a callback raised OSError: disk full" in str(outcome.error)
    assert (breaking.ends, other.ends) == (1, 1)
    assert backend.closed
    assert len(read_experiment(tmp_path).trials) == len(outcome.trials)


@pytest.mark.parametrize("method", ["suggest", "on_trial_complete"])
def test_a_searcher_that_raises_is_named(tmp_path: Path, method: str) -> None:
    class Broken(Listed):
        pass

    def fail(*args: Any, **named: Any) -> None:
        raise ZeroDivisionError("oops")

    setattr(Broken, method, fail)
    outcome, backend = sweep(tmp_path, searcher=Broken([1.0, 2.0]))
    assert isinstance(outcome.error, CallbackError)
    assert f"search algorithm's {method} raised ZeroDivisionError: oops" in str(outcome.error)
    assert backend.closed


def test_memory_stays_flat_over_many_trials(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    count = 3000
    before = resident()
    outcome, _ = sweep(
        tmp_path,
        lambda launch: Script(1),
        searcher=Listed([float(x) for x in range(count)]),
        num_samples=count,
        backend={"places": 50},
    )
    assert len(outcome.trials) == count
    assert resident() - before < 50e6 * count / 10_000 + 10e6
