"""Schedulers with real trials in real processes: pauses, promotions, takeovers, replays, resizes, the simulator."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core
import tune
from tune.backend import SimulatorBackend, TabularBenchmark
from tune.schedulers import (
    PB2,
    ASHAScheduler,
    DistributeResources,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    PopulationBasedTrainingReplay,
    ResourceChangingScheduler,
)
from tune.search import ConcurrencyLimiter
from tune.search.bohb import TuneBOHB


@pytest.fixture(autouse=True)
def session() -> Iterator[None]:
    core.init(num_cpus=2)
    yield
    core.shutdown()


def narrowing(config: dict[str, Any]) -> None:
    """The best rate falls with progress; it goes on from checkpoints, and says how often it has begun anew."""
    progress = 0.0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as directory:
            progress = json.loads((Path(directory) / "state.json").read_text())
    for _ in range(config.get("steps", 24)):
        best = -1 - 3 * progress / 24
        progress += max(0.0, 1 - abs(math.log10(config["rate"]) - best))
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "state.json").write_text(json.dumps(progress))
            tune.report({"progress": progress}, checkpoint=tune.Checkpoint.from_directory(directory))


class Counter(tune.Trainable):
    """Counts what is in its checkpoint on."""

    def setup(self, config: dict[str, Any]) -> None:
        self.total = 0.0

    def step(self) -> dict[str, Any]:
        self.total += self.config["gain"]
        return {"total": self.total}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "total").write_text(str(self.total))

    def load_checkpoint(self, checkpoint: str) -> None:
        self.total = float((Path(checkpoint) / "total").read_text())


def run(trainable: Any, storage: Path, **options: Any) -> Any:
    return tune.run(trainable, storage_path=storage, name="sweep", verbose=0, callbacks=[], **options)


def test_promotion_pauses_class_trainables_and_goes_on_where_they_were(tmp_path: Path) -> None:
    analysis = run(
        Counter,
        tmp_path,
        config={"gain": tune.grid_search([1.0, 5.0, 3.0, 2.0, 9.0, 4.0, 8.0, 7.0, 6.0])},
        metric="total",
        mode="max",
        scheduler=ASHAScheduler(max_t=9, reduction_factor=3, variant="promotion"),
        max_concurrent_trials=1,
    )
    for trial in analysis.trials:
        assert trial.last_result["total"] == pytest.approx(trial.config["gain"] * trial.iteration)
    assert [trial.iteration for trial in analysis.trials] == [1, 3, 1, 1, 9, 1, 3, 3, 1]
    # Those that were not promoted on the spot were paused, and went on in another attempt.
    assert [trial.attempts for trial in analysis.trials] == [1, 2, 1, 1, 2, 1, 1, 2, 1]


def test_hyperband_halves_real_trials(tmp_path: Path) -> None:
    analysis = run(
        Counter,
        tmp_path,
        config={"gain": tune.grid_search([float(gain) for gain in range(9)])},
        metric="total",
        mode="max",
        scheduler=HyperBandScheduler(max_t=9),
    )
    assert [trial.iteration for trial in analysis.trials] == [1] * 6 + [3, 3, 9]
    assert analysis.best_config == {"gain": 8.0}


@pytest.mark.parametrize("limit", [None, 2])
def test_bohb_is_hyperband_with_its_searcher_also_below_a_limit(tmp_path: Path, limit: int | None) -> None:
    search: Any = TuneBOHB(max_t=9)
    analysis = run(
        Counter,
        tmp_path,
        config={"gain": tune.uniform(0, 1), "constant": 1},
        metric="total",
        mode="max",
        num_samples=17,
        search_alg=search if limit is None else ConcurrencyLimiter(search, limit),
        scheduler=HyperBandForBOHB(max_t=9, reduction_factor=3),
        seed=1,
    )
    # Brackets of 9, 5 and 3: paused trials leave room for those that fill them.
    assert sorted(trial.iteration for trial in analysis.trials) == [1] * 6 + [3] * 5 + [9] * 6
    assert analysis.best_result["total"] == pytest.approx(9 * analysis.best_config["gain"])


@pytest.mark.parametrize("synch", [False, True])
def test_pbt_takes_over_writes_its_policy_and_is_replayed(tmp_path: Path, synch: bool) -> None:
    scheduler = PopulationBasedTraining(
        "training_iteration",
        perturbation_interval=3,
        hyperparam_mutations={"rate": tune.loguniform(1e-5, 1.0)},
        quantile_fraction=0.5,
        synch=synch,
    )
    analysis = run(
        narrowing,
        tmp_path,
        config={"rate": tune.grid_search([0.1, 0.01, 0.001, 0.0001])},
        metric="progress",
        mode="max",
        scheduler=scheduler,
        stop={"training_iteration": 24},
        seed=1,
    )
    taken = [trial for trial in analysis.trials if "pbt_donor" in trial.tags]
    assert taken
    best = max(taken, key=lambda trial: trial.last_result["progress"])
    policy = tmp_path / "sweep" / f"pbt_policy_{best.trial_id}.txt"
    assert len(policy.read_text().splitlines()) >= 1
    assert (tmp_path / "sweep" / "pbt_global.txt").exists()

    replay = PopulationBasedTrainingReplay(policy)
    last_change = json.loads(policy.read_text().splitlines()[-1])[3]
    again = tune.run(
        narrowing,
        storage_path=tmp_path,
        name="replay",
        verbose=0,
        callbacks=[],
        config={},
        scheduler=replay,
        metric="progress",
        mode="max",
        stop={"training_iteration": last_change + 1},
    )
    assert again.trials[0].config["rate"] == best.config["rate"]
    assert again.trials[0].iteration == last_change + 1


def test_pb2_runs(tmp_path: Path) -> None:
    analysis = run(
        Counter,
        tmp_path,
        config={"gain": tune.uniform(0.0, 1.0)},
        num_samples=3,
        metric="total",
        mode="max",
        scheduler=PB2("training_iteration", perturbation_interval=2, hyperparam_bounds={"gain": [0.0, 1.0]}),
        stop={"training_iteration": 12},
        seed=0,
    )
    assert all(trial.iteration == 12 for trial in analysis.trials)
    assert all(0 <= trial.config["gain"] <= 1 for trial in analysis.trials)


def test_the_median_rule_stops_real_trials(tmp_path: Path) -> None:
    analysis = run(
        Counter,
        tmp_path,
        config={"gain": tune.grid_search([5.0, 6.0, 7.0, 1.0])},
        metric="total",
        mode="max",
        scheduler=MedianStoppingRule("training_iteration", grace_period=2, min_samples_required=2),
        stop={"training_iteration": 8},
        max_concurrent_trials=1,
    )
    assert [trial.iteration for trial in analysis.trials][3] == 2


def test_resources_grow_when_others_have_ended(tmp_path: Path) -> None:
    analysis = run(
        Counter,
        tmp_path,
        config={"gain": tune.grid_search([1.0])},
        metric="total",
        mode="max",
        scheduler=ResourceChangingScheduler(resources_allocation_function=DistributeResources()),
        stop={"training_iteration": 4},
    )
    [trial] = analysis.trials
    assert trial.resources.total == {"CPU": 2.0}
    assert trial.last_result["total"] == 4.0


def test_a_longer_max_t_goes_on_with_the_best(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "config": {"gain": tune.grid_search([1.0, 2.0, 3.0])},
        "metric": "total",
        "mode": "max",
        "max_concurrent_trials": 1,
        "checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=1),
    }
    first = run(Counter, tmp_path, scheduler=ASHAScheduler(max_t=3, reduction_factor=3), **options)
    assert [trial.iteration for trial in first.trials] == [3, 3, 3]
    second = run(Counter, tmp_path, scheduler=ASHAScheduler(max_t=9, reduction_factor=3), resume=True, **options)
    assert [trial.iteration for trial in second.trials] == [3, 3, 9]
    assert second.trials[2].last_result["total"] == 27.0


def test_the_simulator_through_tune_run(tmp_path: Path) -> None:
    table = TabularBenchmark.load("digits_mlp")
    backend = SimulatorBackend(table, workers=4)
    analysis = run(
        narrowing,
        tmp_path,
        config=table.space,
        num_samples=40,
        metric="accuracy",
        mode="max",
        scheduler=ASHAScheduler(max_t=27, reduction_factor=3, variant="promotion"),
        backend=backend,
        seed=0,
    )
    assert len(analysis.trials) == 40
    assert max(trial.iteration for trial in analysis.trials) == 27
    assert sum(trial.iteration for trial in analysis.trials) < 40 * 27 / 4
    assert backend.elapsed > 0
