"""Going on with a sweep: one that was interrupted or failed, and one that had finished, with other wishes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from packages.tune.tests.unit.controller_harness import Counting, Listed, Script, ScriptedBackend, make_plan
from tune.callback import Callback
from tune.controller.history import ResultReader, read_experiment
from tune.controller.loop import run_sweep
from tune.controller.outcome import EndReason, SweepOutcome
from tune.controller.plan import FailurePlan, ResumePlan
from tune.messages import Launch
from tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from tune.trial import EndCause, FailureKind


def run(directory: Path, script: Any = None, *, backend: Any = None, **plan: Any) -> tuple[SweepOutcome, Any]:
    backend = backend or ScriptedBackend(script if callable(script) else lambda launch: script or Script())
    return run_sweep(make_plan(directory, **plan), backend), backend


def again(directory: Path, script: Any = None, **plan: Any) -> tuple[SweepOutcome, Any]:
    return run(directory, script, **{"resume": ResumePlan(), **plan})


def statuses(outcome: SweepOutcome) -> list[str]:
    return [str(trial.status) for trial in outcome.trials]


def index_of(launch: Launch) -> int:
    return int(launch.trial_id.split("_")[1])


def failing(launch: Launch) -> Script:
    """Have trial 1 fail after its second result, having saved the first."""
    return Script(save_every=1, fail_after={1: 2}) if index_of(launch) == 1 else Script(save_every=1)


class Interrupting(ScriptedBackend):
    """Ctrl-C in a given poll."""

    def __init__(self, *args: Any, at: int, **named: Any) -> None:
        super().__init__(*args, **named)
        self.at = at

    def poll(self, timeout: float | None) -> list[Any]:
        if self.polls == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().poll(timeout)


def test_a_directory_with_a_sweep_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        run(tmp_path)


def test_resuming_where_nothing_is_begins(tmp_path: Path) -> None:
    outcome, _ = again(tmp_path)
    assert statuses(outcome) == ["TERMINATED"] * 4


def test_a_finished_sweep_that_is_resumed_as_it_was_does_nothing(tmp_path: Path) -> None:
    before, _ = run(tmp_path)
    outcome, backend = again(tmp_path)
    assert backend.launches == []
    assert outcome.ended is EndReason.COMPLETE
    assert [trial.config for trial in outcome.trials] == [trial.config for trial in before.trials]


@pytest.mark.parametrize("at", [2, 5, 9, 14])
@pytest.mark.parametrize("save_every", [0, 1])
def test_interrupted_and_resumed_it_is_the_sweep_that_it_would_have_been(
    tmp_path: Path, at: int, save_every: int
) -> None:
    def settings() -> dict[str, Any]:
        scheduler = ASHAScheduler(max_t=4, reduction_factor=2, metric="score", mode="max")
        return {"scheduler": scheduler, "deterministic": True, "seed": 3, "num_samples": 6}

    script = Script(save_every=save_every)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, _ = run(tmp_path / "whole", script, **settings())
    first, _ = run(tmp_path / "parts", backend=Interrupting(lambda launch: script, at=at), **settings())
    assert first.ended is EndReason.INTERRUPTED
    outcome, _ = again(tmp_path / "parts", script, **settings())
    assert outcome.ended is EndReason.COMPLETE
    assert [(t.config, t.status, t.last_result) for t in outcome.trials] == [
        (t.config, t.status, t.last_result) for t in whole.trials
    ]


def test_more_samples(tmp_path: Path) -> None:
    searcher = Counting(1)
    run(tmp_path, searcher=searcher, num_samples=3)
    outcome, _ = again(tmp_path, searcher=Counting(99), num_samples=5)
    assert [trial.config["x"] for trial in outcome.trials] == [1.0, 2.0, 3.0, 4.0, 5.0], "the searcher goes on"
    assert outcome.trials[4].config["heard"] > 0, "and remembers"
    assert [trial.trial_id for trial in outcome.trials] == [f"t_{index:05d}" for index in range(5)]


def test_more_samples_of_a_searcher_that_had_no_more(tmp_path: Path) -> None:
    run(tmp_path, searcher=Listed([1.0, 2.0]), num_samples=-1)
    outcome, _ = again(tmp_path, searcher=Listed([]), num_samples=-1)
    assert len(outcome.trials) == 2
    (tmp_path / "b").mkdir()
    run(tmp_path / "b", searcher=Listed([1.0, 2.0]), num_samples=2)
    outcome, _ = again(tmp_path / "b", searcher=Listed([]), num_samples=4)
    assert [trial.config["x"] for trial in outcome.trials] == [1.0, 2.0, 100.0, 101.0]


@pytest.mark.parametrize(("save_every", "iterations"), [(1, [5, 5, 5, 5]), (0, [2, 2, 2, 2])])
def test_raised_bounds_let_trials_go_on_from_their_checkpoints(
    tmp_path: Path, save_every: int, iterations: list[int]
) -> None:
    script = Script(9, save_every=save_every)
    before, _ = run(tmp_path, script, stop_bounds={"training_iteration": 2})
    assert {trial.ended_by for trial in before.trials} == {EndCause.BOUND}
    outcome, backend = again(tmp_path, script, stop_bounds={"training_iteration": 5})
    assert [trial.iteration for trial in outcome.trials] == iterations
    assert all(launch.iteration == 2 for launch in backend.launches)
    reader = ResultReader(tmp_path)
    for trial in outcome.trials:
        assert [r["training_iteration"] for r in reader.results(trial)] == list(range(1, trial.iteration + 1))


def test_a_longer_max_t_promotes_what_the_new_scheduler_wants(tmp_path: Path) -> None:
    def asha(max_t: int) -> TrialScheduler:
        return ASHAScheduler(max_t=max_t, reduction_factor=2, variant="promotion", metric="score", mode="max")

    script = Script(99, save_every=1)
    before, _ = run(tmp_path, script, scheduler=asha(2), num_samples=6)
    assert max(trial.iteration for trial in before.trials) == 2
    outcome, backend = again(tmp_path, script, scheduler=asha(8), num_samples=6)
    assert max(trial.iteration for trial in outcome.trials) == 8
    assert all(launch.checkpoint for launch in backend.launches)
    assert len(outcome.trials) == 6
    assert outcome.ended is EndReason.COMPLETE


@pytest.mark.parametrize(
    ("plan", "launched", "iterations"),
    [
        (ResumePlan(), [], [4, 2, 4, 4]),
        (ResumePlan(errored="RESUME"), [("t_00001", 2)], [4, 4, 4, 4]),
        (ResumePlan(errored="RESTART"), [("t_00001", 0)], [4, 4, 4, 4]),
        (ResumePlan(finished="RESTART"), [("t_00000", 0), ("t_00002", 0), ("t_00003", 0)], [4, 2, 4, 4]),
    ],
)
def test_what_becomes_of_trials_that_had_ended(
    tmp_path: Path, plan: ResumePlan, launched: list[tuple[str, int]], iterations: list[int]
) -> None:
    before, _ = run(tmp_path, failing)
    assert statuses(before) == ["TERMINATED", "ERROR", "TERMINATED", "TERMINATED"]
    searcher = Listed([])
    outcome, backend = again(tmp_path, Script(save_every=1), resume=plan, searcher=searcher)
    assert [(launch.trial_id, launch.iteration) for launch in backend.launches] == launched
    assert [trial.iteration for trial in outcome.trials] == iterations
    reader = ResultReader(tmp_path)
    for trial in outcome.trials:
        assert [r["training_iteration"] for r in reader.results(trial)] == list(range(1, trial.iteration + 1))


def test_unfinished_trials_can_be_left_or_begun_anew(tmp_path: Path) -> None:
    script = Script(50, save_every=1)
    for name in ("left", "anew", "on"):
        (tmp_path / name).mkdir()
        first, _ = run(tmp_path / name, backend=Interrupting(lambda launch: script, at=9), num_samples=2)
        assert statuses(first) == ["PENDING", "PENDING"]
    left, backend = again(tmp_path / "left", script, num_samples=2, resume=ResumePlan(unfinished="SKIP"))
    assert statuses(left) == ["TERMINATED"] * 2
    assert backend.launches == []
    _, backend = again(tmp_path / "anew", script, num_samples=2, resume=ResumePlan(unfinished="RESTART"))
    assert [launch.iteration for launch in backend.launches] == [0, 0]
    _, backend = again(tmp_path / "on", script, num_samples=2)
    assert all(launch.iteration > 0 for launch in backend.launches)


def test_trials_that_the_time_budget_ended_go_on(tmp_path: Path) -> None:
    before, _ = run(tmp_path, Script(deaf=True, save_every=1), time_budget_s=3.0, num_samples=2)
    assert {trial.ended_by for trial in before.trials} == {EndCause.SWEEP}
    at = [trial.iteration for trial in before.trials]
    outcome, backend = again(tmp_path, lambda launch: Script(10_000, save_every=1), time_budget_s=3.0, num_samples=2)
    assert [launch.iteration for launch in backend.launches] == at
    assert all(trial.iteration > before for trial, before in zip(outcome.trials, at, strict=True))


def test_a_moved_directory_goes_on(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    run(tmp_path / "here", num_samples=2)
    (tmp_path / "here").rename(tmp_path / "there")
    outcome, _ = again(tmp_path / "there", num_samples=3)
    assert {trial.experiment_dir for trial in outcome.trials} == {str(tmp_path / "there")}
    assert len(outcome.trials) == 3


def test_callbacks_get_their_state_back(tmp_path: Path) -> None:
    class Counter(Callback):
        def __init__(self) -> None:
            self.count = 0

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.count += 1

        def get_state(self) -> dict[str, Any]:
            return {"count": self.count}

        def set_state(self, state: dict[str, Any]) -> None:
            self.count = state["count"]

    run(tmp_path, callbacks=[Counter(), Counter()], num_samples=3)
    callbacks = [Counter(), Counter()]
    again(tmp_path, callbacks=callbacks, num_samples=5)
    assert [callback.count for callback in callbacks] == [5, 5]


def test_a_scheduler_or_searcher_that_cannot_be_pickled_costs_only_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Locked(Counting):
        def __getstate__(self) -> Any:
            raise TypeError("cannot pickle this")

    run(tmp_path, searcher=Locked(1), num_samples=3)
    assert "cannot pickle this" in caplog.text
    outcome, _ = again(tmp_path, searcher=Locked(1), num_samples=5)
    assert [trial.config["x"] for trial in outcome.trials] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_searcher_with_its_own_way_of_saving_is_saved_that_way(tmp_path: Path) -> None:
    class Own(Counting):
        def save(self, path: str) -> None:
            Path(path).write_text(str(self.count))

        def restore(self, path: str) -> None:
            self.count = int(Path(path).read_text())

    run(tmp_path, searcher=Own(1), num_samples=3)
    outcome, _ = again(tmp_path, searcher=Own(1), num_samples=5)
    assert [trial.config["x"] for trial in outcome.trials] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_same_scheduler_keeps_its_state_and_another_one_takes_over(tmp_path: Path) -> None:
    taken: list[tuple[str, int]] = []

    class Taking(FIFOScheduler):
        def on_resume(self, previous: TrialScheduler, trials: Any) -> list[str]:
            taken.append((type(previous).__name__, len(trials)))
            return []

    run(tmp_path, scheduler=FIFOScheduler(), num_samples=2)
    again(tmp_path, scheduler=Taking(), num_samples=3)
    assert taken == [("FIFOScheduler", 2)]
    again(tmp_path, scheduler=Taking(), num_samples=4)
    assert len(taken) == 1


def test_reading_needs_none_of_the_sweeps_code(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, failing, failures=FailurePlan(max_failures=0))
    (tmp_path / "snapshot.pkl").unlink()
    read = read_experiment(tmp_path)
    assert read.ended is EndReason.COMPLETE
    assert read.running is None
    assert [(t.trial_id, t.status, t.last_result) for t in read.trials] == [
        (t.trial_id, t.status, t.last_result) for t in outcome.trials
    ]
    error = read.trials[1].error
    assert error is not None
    assert error.kind is FailureKind.RAISED
