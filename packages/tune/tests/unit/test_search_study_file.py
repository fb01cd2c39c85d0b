"""The study file: what Optuna and its dashboard read of a sweep."""

from __future__ import annotations

import json
import math
import threading
import urllib.request
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import numpy as np
import optuna
import pytest

from tune import space as s
from tune.search.objectives import Constraints
from tune.search.study_file import StudyFileCallback, _worth_keeping
from tune.search.study_log import Beginning, Ending, StudyLog
from tune.space import as_space
from tune.trial import FailureKind, Trial, TrialFailure, TrialStatus

SPACE = {
    "lr": s.loguniform(1e-4, 1),
    "n": s.randint(1, 5),
    "net": s.choice([{"kind": "a", "w": s.uniform(0, 1)}, {"kind": "b"}]),
    "noise": s.randn(),
    "twice": s.sample_from(lambda config: config["n"] * 2),
    "object": s.choice([len, max]),
    "steps": 7,
}


class Sweep:
    """Calls a study file as the controller would."""

    def __init__(self, path: Path, space: Any = SPACE, constraints: Constraints | None = None, **info: Any) -> None:
        self.callback = StudyFileCallback(space, constraints=constraints)
        self.space = as_space(space)
        self.trials: list[Trial] = []
        info = {"metric": "loss", "mode": "min", "experiment_name": "sweep", "resumed": False} | info
        self.callback.setup(experiment_path=str(path), **info)

    def new(self, index: int) -> Trial:
        rng = np.random.default_rng(index)
        config = self.space.resolve(lambda _name, domain: domain.draw(rng)).config
        params = self.space.evaluated_params(config)
        trial = Trial(f"t_{index}", index, config, params, f"t_{index}", start_time=1_700_000_000.0 + index)
        self.trials.append(trial)
        return trial

    def start(self, trial: Trial) -> None:
        trial.status = TrialStatus.RUNNING
        self.callback.on_step_begin(0, self.trials)
        self.callback.on_trial_start(0, self.trials, trial)

    def report(self, trial: Trial, **metrics: Any) -> None:
        trial.iteration += 1
        trial.last_result = {"training_iteration": trial.iteration, "time_total_s": 0.1, **metrics}
        self.callback.on_trial_result(0, self.trials, trial, trial.last_result)

    def end(self, trial: Trial, failure: str | None = None) -> None:
        if failure is None:
            trial.status = TrialStatus.TERMINATED
            self.callback.on_trial_complete(0, self.trials, trial)
        else:
            trial.status = TrialStatus.ERROR
            trial.failures.append(TrialFailure(FailureKind.RAISED, "ValueError", failure))
            self.callback.on_trial_error(0, self.trials, trial)

    def flush(self) -> None:
        self.callback._written = -math.inf
        self.callback.on_step_end(0, self.trials)

    def close(self) -> None:
        self.callback.on_experiment_end(self.trials)

    def whole(self, index: int, **metrics: Any) -> Trial:
        trial = self.new(index)
        self.start(trial)
        self.report(trial, **metrics)
        self.end(trial)
        return trial


def loaded(path: Path, name: str = "sweep") -> optuna.Study:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path / "optuna.log")))
    return optuna.load_study(study_name=name, storage=storage)


@pytest.mark.parametrize("flushed", [True, False])
def test_optuna_loads_what_was_searched_and_found(tmp_path: Path, flushed: bool) -> None:
    """Whether a trial's start, curve and end are appended together or one after the other."""
    sweep = Sweep(tmp_path)
    trials = [sweep.new(index) for index in range(3)]
    for trial in trials:
        sweep.start(trial)
        if flushed:
            sweep.flush()
    for step, trial in enumerate(trials * 2):
        sweep.report(trial, loss=10.0 - step, accuracy=0.5, note="x", big=[1])
        if flushed:
            sweep.flush()
    sweep.end(trials[0])
    sweep.end(trials[1], failure="bad")
    sweep.close()
    study = loaded(tmp_path)
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE]
    assert study.metric_names == ["loss"]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "RUNNING"]
    first, second, third = study.trials
    assert first.values == [7.0]
    assert first.intermediate_values == {1: 10.0, 2: 7.0}
    assert first.user_attrs == {
        "trial_id": "t_0", "accuracy": 0.5, "note": "x", "twice": trials[0].config["twice"],
    }  # fmt: skip
    assert second.values is None
    assert second.user_attrs["error"] == "ValueError: bad"
    assert third.intermediate_values == {1: 8.0, 2: 5.0}
    for trial, stored in zip(trials, study.trials, strict=True):
        expected = {name: value for name, value in trial.evaluated_params.items() if name != "twice"}
        assert stored.params == expected
        assert stored.datetime_start.timestamp() == trial.start_time
        for name in ("lr", "n", "net", "object"):
            assert stored.distributions[name] == s.to_distributions({name: SPACE[name]})[name]
    assert study.best_trial.number == 0


def test_several_objectives_and_constraints(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, constraints={"c": 1}, metric=["a", "b"], mode=["min", "max"])
    sweep.whole(0, a=1.0, b=2.0, c=0.5)
    sweep.whole(1, a=1.5, b=3.0, c=2.5)
    sweep.whole(2, a=1.5, b=3.0)
    sweep.close()
    study = loaded(tmp_path)
    assert [trial.values for trial in study.trials] == [[1.0, 2.0], [1.5, 3.0], None]
    assert [trial.system_attrs.get("constraints") for trial in study.trials] == [[-0.5], [1.5], None]
    assert [trial.number for trial in study.best_trials] == [0]  # the other one breaks the constraint


def test_define_by_run_parameters_have_their_distributions(tmp_path: Path) -> None:
    def space(trial: Any) -> dict[str, Any]:
        depth = trial.suggest_int("depth", 1, 3)
        return {"w": [trial.suggest_float(f"w{layer}", 0, layer + 1) for layer in range(depth)]}

    sweep = Sweep(tmp_path, space)
    made = sweep.whole(3, loss=1.0)
    sweep.close()
    stored = loaded(tmp_path).trials[0]
    assert stored.params == {name: value for name, value in made.config.items() if name != "w"}
    assert stored.distributions["w0"] == optuna.distributions.FloatDistribution(0, 1)


def test_a_resumed_sweep_appends_without_doubles(tmp_path: Path) -> None:
    first = Sweep(tmp_path)
    done = first.whole(0, loss=3.0)
    failed = first.new(1)
    first.start(failed)
    first.end(failed, failure="once")
    running = first.new(2)
    first.start(running)
    first.close()
    # After the crash: what was appended is there; trial 3 ended without having been written at all, 4 never started.
    second = Sweep(tmp_path, resumed=True)
    lost = second.new(3)
    lost.status, lost.last_result = TrialStatus.TERMINATED, {"loss": 1.0, "training_iteration": 1}
    second.trials = [done, failed, running, lost]
    second.start(running)
    second.report(running, loss=2.0)
    second.end(running)
    second.start(failed)  # tried again: another trial, as Optuna has it
    second.report(failed, loss=2.5)
    second.end(failed)
    second.whole(4, loss=0.5)
    second.close()
    study = loaded(tmp_path)
    found = [(trial.user_attrs["trial_id"], trial.state.name, trial.values) for trial in study.trials]
    assert sorted(found, key=str) == sorted(
        [
            ("t_0", "COMPLETE", [3.0]),
            ("t_1", "FAIL", None),
            ("t_1", "COMPLETE", [2.5]),
            ("t_2", "COMPLETE", [2.0]),
            ("t_3", "COMPLETE", [1.0]),
            ("t_4", "COMPLETE", [0.5]),
        ],
        key=str,
    )


def test_a_line_that_a_crash_cut_off_is_removed(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.whole(0, loss=1.0)
    sweep.close()
    path = tmp_path / "optuna.log"
    with path.open("a") as file:
        file.write('{"op_code":4,"worker_id":"x","stu')
    again = Sweep(tmp_path, resumed=True)
    again.whole(1, loss=2.0)
    again.close()
    assert [trial.values for trial in loaded(tmp_path).trials] == [[1.0], [2.0]]


def test_others_may_write_to_the_file_meanwhile(tmp_path: Path) -> None:
    """Optuna numbers trials by their order in the file, so ours must follow what others append."""
    sweep = Sweep(tmp_path)
    sweep.whole(0, loss=1.0)
    sweep.flush()
    study = loaded(tmp_path)
    other = optuna.create_study(study_name="other", storage=study._storage)
    other.optimize(lambda trial: trial.suggest_float("z", 0, 1), n_trials=2)
    study.trials[0]
    study._storage.set_study_user_attr(study._study_id, "note", "by the dashboard")
    late = sweep.new(1)
    sweep.start(late)
    sweep.flush()
    other.optimize(lambda trial: trial.suggest_float("z", 0, 1), n_trials=1)
    sweep.report(late, loss=2.0)
    sweep.end(late)
    sweep.close()
    assert [trial.values for trial in loaded(tmp_path).trials] == [[1.0], [2.0]]
    assert len(loaded(tmp_path, "other").trials) == 3
    assert loaded(tmp_path).user_attrs == {"note": "by the dashboard"}


def test_a_study_that_somebody_deletes_stays_deleted(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.whole(0, loss=1.0)
    sweep.flush()
    study = loaded(tmp_path)
    optuna.delete_study(study_name="sweep", storage=study._storage)
    sweep.whole(1, loss=1.0)
    sweep.close()
    assert optuna.get_all_study_names(study._storage) == []


def test_a_lock_is_not_waited_for_until_the_end(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    path = tmp_path / "optuna.log"
    lock = Path(f"{path}.lock")
    lock.symlink_to(path)
    sweep.whole(0, loss=1.0)
    before = path.read_bytes()
    sweep.flush()
    assert path.read_bytes() == before
    waiting = threading.Thread(target=sweep.close)
    waiting.start()
    lock.unlink()
    waiting.join()
    assert [trial.values for trial in loaded(tmp_path).trials] == [[1.0]]
    assert not lock.exists()


def test_a_sweep_without_a_metric_has_no_study(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, metric=None)
    sweep.whole(0, loss=1.0)
    sweep.close()
    assert not (tmp_path / "optuna.log").exists()


def test_a_paused_trial_is_one_trial(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    trial = sweep.new(0)
    for _ in range(3):
        sweep.start(trial)
        sweep.report(trial, loss=1.0)
        sweep.flush()
    sweep.end(trial)
    sweep.close()
    assert len(loaded(tmp_path).trials) == 1


def test_long_curves_are_thinned() -> None:
    kept = [step for step in range(1, 1_000_001) if _worth_keeping(step)]
    assert kept[:100] == list(range(1, 101))
    assert len(kept) < 500
    assert kept[-1] == 1_000_000


def test_nothing_is_kept_for_ended_trials(tmp_path: Path) -> None:
    log = StudyLog(tmp_path / "optuna.log", "s", ("loss",), ("min",))
    log.load()
    log.forget()
    for number in range(200):
        log.begin(f"t{number}", Beginning(0.0, {}))
        log.end(f"t{number}", Ending(1.0, [1.0]))
        if number % 20 == 0:
            log.flush()
    log.close()
    assert not (log._open or log._keys or log._pending or log._queue or log._ended)


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.filterwarnings("ignore")  # the dashboard's imports are its own affair
def test_optunas_dashboard_shows_it(tmp_path: Path) -> None:
    from optuna_dashboard import wsgi

    sweep = Sweep(tmp_path, constraints={"c": 1})
    for index in range(6):
        sweep.whole(index, loss=float(index), c=0.0)
    running = sweep.new(6)
    sweep.start(running)
    sweep.report(running, loss=4.0, c=0.5)
    sweep.flush()
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.log")))
    with make_server("127.0.0.1", 0, wsgi(storage), handler_class=Quiet) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            (study,) = get(f"{address}/api/studies")["study_summaries"]
            assert study["study_name"] == "sweep"
            detail = get(f"{address}/api/studies/{study['study_id']}")
            assert [trial["state"] for trial in detail["trials"]] == ["Complete"] * 6 + ["Running"]
            assert [trial["values"] for trial in detail["trials"][:6]] == [[float(index)] for index in range(6)]
            assert detail["trials"][6]["intermediate_values"] == [{"step": 1, "value": 4.0}]
            assert {"lr", "n", "net"} <= {param["name"] for param in detail["trials"][0]["params"]}
            assert detail["trials"][0]["constraints"] == [-1.0]
            # and what it reads follows a sweep that goes on (its pages do so some seconds later: it has a cache)
            sweep.end(running)
            sweep.close()
            assert storage.get_all_trials(study["study_id"])[6].state.name == "COMPLETE"
        finally:
            server.shutdown()
            serving.join()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)
