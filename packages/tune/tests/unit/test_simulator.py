"""The simulator and its tables: what happens when, and whole sweeps through the real controller."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tune.backend import SimulatorBackend, TabularBenchmark
from tune.controller import EndReason, SweepOutcome, SweepPlan, run_sweep
from tune.controller.plan import CheckpointPlan, LimitPlan
from tune.messages import (
    Action,
    Event,
    Launch,
    StopRule,
    Sync,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialReturned,
    TrialSaved,
    TrialStarted,
    Verdict,
)
from tune.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler, PopulationBasedTraining, TrialScheduler
from tune.search.base import FINISHED, Searcher
from tune.space import choice, loguniform, randint, uniform
from tune.trial import FailureKind, ResourceRequest, TrialStatus


def small(rows: int = 3, epochs: int = 4) -> TabularBenchmark:
    """Row r's score is 10 r + epoch, its epochs take r + 1 seconds."""
    scores = 10.0 * np.arange(rows)[:, None] + np.arange(1, epochs + 1)[None, :]
    return TabularBenchmark.from_arrays({"x": list(range(rows))}, {"score": scores}, np.arange(rows) + 1.0)


def launch(trial_id: str, row: int, **options: Any) -> Launch:
    values: dict[str, Any] = {"attempt": 1, "config": {"x": row}, "trial_dir": f"/e/{trial_id}", **options}
    return Launch(trial_id=trial_id, bundles=({"CPU": 1.0},), **values)


def drain(backend: SimulatorBackend) -> list[tuple[float, Event]]:
    seen = []
    while events := backend.poll(None):
        seen += [(backend.elapsed, event) for event in events]
    return seen


class TestTime:
    def test_epochs_end_when_they_end(self) -> None:
        backend = SimulatorBackend(small(), workers=2)
        backend.start(launch("a", 0))
        backend.start(launch("b", 1))
        backend.start(launch("c", 0))
        seen = [(at, event.trial_id, type(event).__name__) for at, event in drain(backend)]
        assert [(at, trial_id) for at, trial_id, kind in seen if kind == "TrialReported"] == [
            *((1, "a"), (2, "b"), (2, "a"), (3, "a"), (4, "b"), (4, "a")),
            *((5, "c"), (6, "b"), (6, "c"), (7, "c"), (8, "b"), (8, "c")),
        ]
        assert [trial_id for _, trial_id, kind in seen if kind == "TrialStarted"] == ["a", "b", "c"]
        assert [(at, trial_id) for at, trial_id, kind in seen if kind == "TrialReturned"] == [
            (4, "a"),
            (8, "b"),
            (8, "c"),
        ]

    def test_results_have_the_automatic_metrics(self) -> None:
        backend = SimulatorBackend(small(), start_s=0.5)
        backend.start(launch("a", 1, iteration=7, time_total_s=100.0))
        results = [event.reports[0].result for _, event in drain(backend) if isinstance(event, TrialReported)]
        assert results[1] == {
            "score": 12.0,
            "training_iteration": 9,
            "time_this_iter_s": 2.0,
            "time_total_s": 104.0,
            "time_since_restore": 4.0,
            "iterations_since_restore": 2,
            "timestamp": results[1]["timestamp"],
        }

    def test_waiting_goes_no_further_than_it_is_asked(self) -> None:
        backend = SimulatorBackend(small())
        backend.start(launch("a", 2))
        assert [type(event) for event in backend.poll(0.0)] == [TrialStarted]
        assert backend.poll(1.0) == []
        assert backend.elapsed == 1
        assert [type(event) for event in backend.poll(5.0)] == [TrialReported]
        assert backend.elapsed == 3
        assert backend.now() - backend.elapsed == SimulatorBackend(small()).now()

    def test_jitter_is_seeded(self) -> None:
        def ends(seed: int) -> float:
            backend = SimulatorBackend(small(), jitter=0.3, seed=seed)
            backend.start(launch("a", 0))
            drain(backend)
            return backend.elapsed

        assert ends(1) == ends(1) != ends(2)

    def test_workers_are_cpus(self) -> None:
        backend = SimulatorBackend(small(), workers=4)
        assert backend.cluster() == {"CPU": 4.0}
        assert backend.capacity(ResourceRequest()) == 4
        assert backend.capacity(ResourceRequest(({"CPU": 1.0}, {"CPU": 2.0}))) == 1
        assert backend.capacity(ResourceRequest(({"CPU": 5.0},))) == 0
        assert backend.capacity(ResourceRequest(({},))) == 4


class TestVerdicts:
    def waiting(self, **options: Any) -> SimulatorBackend:
        backend = SimulatorBackend(small(), save_s=0.25)
        backend.start(launch("a", 0, sync=Sync(at=2), **options))
        while not (events := backend.poll(None)) or not getattr(events[-1], "waiting", False):
            assert events
        assert backend.elapsed == 2
        assert backend.poll(None) == []
        return backend

    def test_it_goes_on(self) -> None:
        backend = self.waiting()
        backend.answer("a", Verdict(Action.CONTINUE))
        assert [at for at, event in drain(backend) if isinstance(event, TrialReported)] == [3, 4]

    def test_it_waits_again_where_it_is_told(self) -> None:
        backend = self.waiting()
        backend.answer("a", Verdict(Action.CONTINUE, Sync(at=3)))
        [event] = backend.poll(None)
        assert isinstance(event, TrialReported)
        assert event.waiting

    def test_it_stops(self) -> None:
        backend = self.waiting(checkpoint_at_end=True)
        backend.answer("a", Verdict(Action.STOP))
        saved, returned = (event for _, event in drain(backend))
        assert isinstance(saved, TrialSaved)
        assert saved.checkpoint.name == "checkpoint_000002"
        assert returned == TrialReturned("a", 1, stopped=True)

    def test_it_saves_and_that_takes_time(self) -> None:
        backend = self.waiting()
        backend.answer("a", Verdict(Action.SAVE))
        seen = drain(backend)
        assert isinstance(seen[0][1], TrialSaved)
        assert [at for at, event in seen if isinstance(event, TrialReported)] == [3.25, 4.25]

    def test_it_pauses_and_goes_on_where_it_was(self) -> None:
        backend = self.waiting()
        backend.answer("a", Verdict(Action.PAUSE))
        saved, paused = (event for _, event in drain(backend))
        assert isinstance(saved, TrialSaved)
        assert saved.checkpoint.iteration == 2
        assert saved.checkpoint.metrics["score"] == 2
        assert paused == TrialPaused("a", 1)
        backend.start(launch("a", 0, attempt=2, checkpoint="/e/a/checkpoint_000002", iteration=2, time_total_s=2.0))
        results = [event.reports[0].result for _, event in drain(backend) if isinstance(event, TrialReported)]
        assert [result["score"] for result in results] == [3, 4]
        assert [result["time_total_s"] for result in results] == [3, 4]

    def test_a_word_to_one_that_runs_counts_at_its_next_result(self) -> None:
        backend = SimulatorBackend(small())
        backend.start(launch("a", 0))
        backend.poll(1.5)
        backend.answer("a", Verdict(Action.STOP))
        seen = drain(backend)
        assert [type(event) for _, event in seen][-2:] == [TrialReported, TrialReturned]
        assert backend.elapsed <= 2
        backend.answer("a", Verdict(Action.STOP))  # void

    def test_it_stops_by_its_own_rule(self) -> None:
        backend = SimulatorBackend(small())
        backend.start(launch("a", 0, stop=StopRule({"score": 3}), sync=Sync(every=False)))
        assert drain(backend)[-1] == (3, TrialReturned("a", 1, stopped=True))

    def test_it_is_killed_running_or_not(self) -> None:
        backend = SimulatorBackend(small())
        backend.start(launch("a", 0))
        backend.start(launch("b", 0))
        backend.kill("b")
        backend.kill("a")
        ended = [event for _, event in drain(backend) if isinstance(event, TrialReturned)]
        assert ended == [TrialReturned("b", 1, stopped=True), TrialReturned("a", 1, stopped=True)]
        backend.close()
        backend.close()


class TestFailures:
    def test_a_time_limit(self) -> None:
        backend = SimulatorBackend(small())
        backend.start(launch("a", 1, time_limit_s=5.0))
        at, event = drain(backend)[-1]
        assert at == 5
        assert isinstance(event, TrialFailed)
        assert event.failure.kind is FailureKind.TIMEOUT

    def test_a_configuration_that_the_table_cannot_place(self) -> None:
        backend = SimulatorBackend(small())
        backend.start(launch("a", 0, config={"y": 1}))
        _, event = drain(backend)[-1]
        assert isinstance(event, TrialFailed)
        assert "lacks x" in event.failure.message

    @pytest.mark.parametrize("options", [{"workers": 0}, {"start_s": -1.0}, {"jitter": -0.1}])
    def test_bad_arguments(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="must"):
            SimulatorBackend(small(), **options)


class TestTable:
    SPACE = (uniform(0.0, 1.0), loguniform(1e-4, 1.0), randint(1, 11), choice(["a", "b"]))

    def table(self) -> TabularBenchmark:
        configs = {"u": [0.1, 0.9, 0.9], "l": [1e-4, 1e-1, 1e-2], "i": [1, 5, 5], "c": ["a", "b", "b"]}
        curves = np.arange(6.0).reshape(3, 2)
        return TabularBenchmark(configs, {"m": curves}, np.ones((3, 2)), dict(zip("ulic", self.SPACE, strict=True)))

    def test_the_nearest_row_in_the_space(self) -> None:
        table = self.table()
        for row in range(3):
            assert table.row(table.config(row)) == row
        assert table.row({"u": 0.2, "l": 2e-4, "i": 2, "c": "a"}) == 0
        assert table.row({"u": 0.9, "l": 0.04, "i": 5, "c": "b"}) == 1  # nearer in the logarithm
        assert table.row({"u": 0.9, "l": 0.02, "i": 5, "c": "b"}) == 2
        assert table.row({"row": 1}) == 1
        with pytest.raises(ValueError, match="rows 0 to 2"):
            table.row({"row": 3})
        assert table.rows_space["row"].categories == (0, 1, 2)
        assert table.result(2, 1) == {"m": 4.0}
        assert table.final("m").tolist() == [1.0, 3.0, 5.0]

    def test_it_comes_back_from_a_file(self, tmp_path: Path) -> None:
        table = self.table()
        table.save(tmp_path / "table.npz")
        again = TabularBenchmark.from_npz(tmp_path / "table.npz")
        assert again.configs == table.configs
        assert again.space == table.space
        assert (again.metrics["m"] == table.metrics["m"]).all()
        assert (again.seconds == table.seconds).all()

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"metrics": {"m": [1.0]}}, "rows times epochs"),
            ({"metrics": {}}, "rows times epochs"),
            ({"configs": {"x": [1]}}, "2 rows"),
            ({"configs": {}}, "2 rows"),
            ({"seconds": [1.0]}, "seconds"),
            ({"space": {"y": choice([1])}}, "must agree"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, changes: dict[str, Any], match: str) -> None:
        good: dict[str, Any] = {"configs": {"x": [1, 2]}, "metrics": {"m": [[1.0], [2.0]]}, "seconds": [1.0, 1.0]}
        TabularBenchmark(**good)
        with pytest.raises(ValueError, match=match):
            TabularBenchmark(**{**good, **changes})

    def test_the_one_that_comes_with_the_package(self) -> None:
        table = TabularBenchmark.load("digits_mlp")
        assert (table.num_rows, table.num_epochs) == (300, 27)
        assert set(table.metrics) == {"accuracy", "loss"}
        assert 0.97 < table.final("accuracy").max() <= 1
        for row in (0, 17, 299):
            config = table.config(row)
            assert table.row(config) == row
            assert all(table.space[name].is_valid(value) for name, value in config.items())
        with pytest.raises(ValueError, match="digits_mlp"):
            TabularBenchmark.load("other")


class Rows(Searcher):
    def __init__(self, rows: int) -> None:
        super().__init__("score", "max")
        self._rows = list(range(rows))

    def suggest(self, trial_id: str) -> Any:
        return {"x": self._rows.pop()} if self._rows else FINISHED


def sweep(
    directory: Path, scheduler: TrialScheduler, *, rows: int = 9, workers: int = 2, **options: Any
) -> SweepOutcome:
    scheduler.set_search_properties("score", "max", seed=1)
    directory.mkdir(exist_ok=True)
    plan = SweepPlan(
        name="s",
        directory=directory,
        space={},
        metric="score",
        mode="max",
        num_samples=rows,
        searcher=Rows(rows),
        scheduler=scheduler,
        **options,
    )
    outcome = run_sweep(plan, SimulatorBackend(small(rows, 9), workers=workers))
    if outcome.error is not None:
        raise outcome.error
    return outcome


class TestSweeps:
    @pytest.mark.parametrize("workers", [1, 2, 5])
    @pytest.mark.parametrize(
        "make",
        [
            lambda: ASHAScheduler(max_t=9, reduction_factor=3),
            lambda: ASHAScheduler(max_t=9, reduction_factor=3, variant="promotion"),
            lambda: HyperBandScheduler(max_t=9),
        ],
    )
    def test_the_best_is_trained_to_the_end_and_others_are_spared(
        self, tmp_path: Path, make: Any, workers: int
    ) -> None:
        outcome = sweep(tmp_path, make(), workers=workers)
        assert outcome.ended is EndReason.COMPLETE
        assert {trial.status for trial in outcome.trials} == {TrialStatus.TERMINATED}
        epochs = {trial.config["x"]: trial.iteration for trial in outcome.trials}
        assert epochs[8] == 9
        assert epochs[0] < 9
        assert sum(epochs.values()) < 9 * 9

    def test_pbt_takes_over_through_the_controller(self, tmp_path: Path) -> None:
        scheduler = PopulationBasedTraining(
            "training_iteration", perturbation_interval=2, hyperparam_mutations={"x": list(range(9))}, synch=True
        )
        outcome = sweep(tmp_path, scheduler, workers=3)
        assert {trial.status for trial in outcome.trials} == {TrialStatus.TERMINATED}
        taken = [trial for trial in outcome.trials if "pbt_donor" in trial.tags]
        assert taken
        assert (tmp_path / "pbt_global.txt").read_text().count("\n") >= len(taken)
        assert (tmp_path / f"pbt_policy_{taken[0].trial_id}.txt").exists()

    def test_the_same_seed_gives_the_same_sweep(self, tmp_path: Path) -> None:
        def run(name: str) -> list[Any]:
            scheduler = PopulationBasedTraining(
                "training_iteration", perturbation_interval=2, hyperparam_mutations={"x": list(range(9))}
            )
            outcome = sweep(tmp_path / name, scheduler, workers=2, deterministic=True, seed=3)
            return [(trial.config, trial.iteration, trial.last_result["score"]) for trial in outcome.trials]

        assert run("a") == run("b")

    def test_a_time_budget_is_in_simulated_seconds(self, tmp_path: Path) -> None:
        outcome = sweep(tmp_path, FIFOScheduler(), workers=1, time_budget_s=60.0)
        assert outcome.ended is EndReason.TIME_BUDGET
        assert sum(trial.iteration * (trial.config["x"] + 1) for trial in outcome.trials) <= 60

    def test_limits_bounds_and_checkpoints(self, tmp_path: Path) -> None:
        outcome = sweep(
            tmp_path,
            FIFOScheduler(),
            stop_bounds={"training_iteration": 4},
            checkpoints=CheckpointPlan(frequency=2, num_to_keep=1),
            limits=LimitPlan(time_limit_s=30.0),
        )
        for trial in outcome.trials:
            if trial.config["x"] < 7:  # four epochs of up to 7 s
                assert (trial.status, trial.iteration) == (TrialStatus.TERMINATED, 4)
                assert [record.iteration for record in trial.checkpoints] == [4]
            else:
                assert trial.status is TrialStatus.TIMEOUT
                assert trial.iteration == 3

    def test_more_workers_are_sooner(self, tmp_path: Path) -> None:
        spans = []
        for workers in (1, 2, 4):
            backend = SimulatorBackend(small(8, 2), workers=workers)
            for number in range(8):
                backend.start(launch(f"t{number}", number))
            drain(backend)
            spans.append(backend.elapsed)
        assert all(slow > fast for slow, fast in itertools.pairwise(spans))
