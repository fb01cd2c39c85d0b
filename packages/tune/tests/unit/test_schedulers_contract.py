"""Every scheduler, under any order of results, pauses, failures and ends: the contract of `tune.schedulers.base`."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from packages.tune.tests.unit.scheduler_harness import Harness
from tune.schedulers import (
    PB2,
    ASHAScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    ResourceChangingScheduler,
    TrialScheduler,
)

SCORE: dict[str, Any] = {"metric": "score", "mode": "max"}
ITERATIONS: dict[str, Any] = {"time_attr": "training_iteration"}

MAKERS: dict[str, Callable[[], TrialScheduler]] = {
    "fifo": FIFOScheduler,
    "stopping": lambda: ASHAScheduler(max_t=9, reduction_factor=3, **SCORE),
    "stopping, brackets": lambda: ASHAScheduler(max_t=20, reduction_factor=2, brackets=3, **SCORE),
    "promotion": lambda: ASHAScheduler(max_t=9, reduction_factor=3, variant="promotion", **SCORE),
    "promotion, brackets": lambda: ASHAScheduler(
        max_t=12, reduction_factor=2, brackets=3, variant="promotion", **SCORE
    ),
    "promotion, constrained": lambda: ASHAScheduler(
        max_t=9, reduction_factor=3, variant="promotion", constraints={"cost": 50.0}, **SCORE
    ),
    "promotion, two metrics": lambda: ASHAScheduler(
        max_t=9, reduction_factor=3, variant="promotion", metric=["score", "cost"], mode=["max", "min"]
    ),
    "stopping, two metrics": lambda: ASHAScheduler(
        max_t=9, reduction_factor=3, metric=["score", "cost"], mode=["max", "min"]
    ),
    "hyperband": lambda: HyperBandScheduler(max_t=9, **SCORE),
    "hyperband, two metrics": lambda: HyperBandScheduler(
        max_t=9, metric=["score", "cost"], mode=["max", "min"], constraints={"cost": 60.0}
    ),
    "bohb": lambda: HyperBandForBOHB(max_t=27, **SCORE),
    "median": lambda: MedianStoppingRule(grace_period=2, min_samples_required=2, **ITERATIONS, **SCORE),
    "median, soft": lambda: MedianStoppingRule(
        grace_period=2, min_samples_required=2, hard_stop=False, min_time_slice=1, **ITERATIONS, **SCORE
    ),
    "pbt": lambda: PopulationBasedTraining(
        perturbation_interval=3, hyperparam_mutations={"x": [0.1, 0.2, 0.5, 0.9]}, **ITERATIONS, **SCORE
    ),
    "pbt, synch": lambda: PopulationBasedTraining(
        perturbation_interval=3, hyperparam_mutations={"x": [0.1, 0.5, 0.9]}, synch=True, **ITERATIONS, **SCORE
    ),
    "pb2": lambda: PB2(
        perturbation_interval=3, hyperparam_bounds={"x": [0.0, 1.0]}, quantile_fraction=0.5, **ITERATIONS, **SCORE
    ),
    "resources": lambda: ResourceChangingScheduler(ASHAScheduler(max_t=9, reduction_factor=3, **SCORE)),
}
#: rankings of several metrics are sorted when they are looked at, so looking changes what is pickled (not what is said)
IMPURE = {name for name in MAKERS if "two metrics" in name}
#: refuse results without the metric (``require_attrs``, tested with PBT)
STRICT = {"pbt", "pbt, synch", "pb2"}


def curve(config: dict[str, Any], trained: int) -> dict[str, Any]:
    """Improves with training, faster for a larger x; not a number for some."""
    score = config["x"] * (1 - math.exp(-trained / 4))
    return {"score": math.nan if config["x"] > 0.97 else score, "cost": 100 * config["x"] ** 2}


def make(name: str, seed: int = 0, **options: Any) -> Harness:
    scheduler = MAKERS[name]()
    scheduler.set_search_properties("score", "max", seed=seed)
    rng = random.Random(seed)
    configs = [{"x": rng.random()} for _ in range(options.pop("trials", 12))]
    return Harness(scheduler, configs, curve, pure=name not in IMPURE, length=30, **options)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("places", [1, 2, 5])
def test_a_sweep_comes_to_its_end(name: str, places: int) -> None:
    harness = make(name, places=places)
    harness.run()
    assert len(harness.trials) == 12
    assert all(trial.status.finished for trial in harness.trials.values())
    assert isinstance(harness.scheduler.debug_string(), str)


@pytest.mark.parametrize("name", MAKERS)
def test_a_limiter_below_what_a_scheduler_wants_does_not_stall_it(name: str) -> None:
    harness = make(name, places=2, limiter=3)
    harness.run()
    assert len(harness.trials) == 12


@pytest.mark.parametrize("name", MAKERS)
def test_one_trial_alone(name: str) -> None:
    make(name, trials=1).run()


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in STRICT])
def test_results_without_the_metric_decide_nothing(name: str) -> None:
    harness = make(name)
    harness.curve = lambda _config, _trained: {"other": 1.0}
    harness.run()
    assert {entry[0] for entry in harness.log} <= {"TERMINATED", "result", "resume"}
    assert all(trial.iteration == 30 for trial in harness.trials.values())


class Sweep(RuleBasedStateMachine):
    """Any order of happenings; the harness checks the contract, the scheduler its invariants."""

    @initialize(
        name=st.sampled_from(sorted(MAKERS)),
        seed=st.integers(0, 5),
        places=st.integers(1, 4),
        limiter=st.sampled_from([None, None, 3]),
        saves_each=st.booleans(),
    )
    def begin(self, name: str, seed: int, places: int, limiter: int | None, saves_each: bool) -> None:
        self.harness = make(name, seed, places=places, limiter=limiter, saves_each=saves_each)

    def pick(self, number: int) -> str:
        return self.harness.running[number % len(self.harness.running)]

    @precondition(lambda self: self.harness.running)
    @rule(number=st.integers(0, 3), times=st.integers(1, 6))
    def report(self, number: int, times: int) -> None:
        for _ in range(times):
            if self.harness.running:
                self.harness.step(self.pick(number))

    @rule()
    def settle(self) -> None:
        self.harness.settle()

    @precondition(lambda self: self.harness.running)
    @rule(number=st.integers(0, 3))
    def fail(self, number: int) -> None:
        self.harness.fail(self.pick(number))

    @precondition(lambda self: self.harness.running)
    @rule(number=st.integers(0, 3))
    def finish(self, number: int) -> None:
        self.harness.finish(self.pick(number))

    @rule()
    def repickle(self) -> None:
        self.harness.repickle()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "harness"):
            self.harness.scheduler.validate()

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.run()


TestAnyOrder = Sweep.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def play(name: str, moves: list[tuple[int, int]], pickle_at: int | None, places: int) -> list[tuple[Any, ...]]:
    """Play moves and return what was decided; go on with a pickled copy before one of them."""
    harness = make(name, 3, places=places)
    for at, (kind, number) in enumerate(moves):
        if at == pickle_at:
            harness.repickle()
        if not harness.running:
            break
        trial_id = harness.running[number % len(harness.running)]
        if kind < 8:
            harness.step(trial_id)
        elif kind == 8:
            harness.settle()
        else:
            harness.fail(trial_id)
    harness.run()
    return harness.log


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(MAKERS)),
    moves=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=80),
    pickle_at=st.integers(0, 79),
    places=st.integers(1, 4),
)
def test_decisions_are_the_same_after_pickling_in_the_middle_and_in_a_replay(
    name: str, moves: list[tuple[int, int]], pickle_at: int, places: int
) -> None:
    log = play(name, moves, None, places)
    assert play(name, moves, pickle_at, places) == log
    assert play(name, moves, None, places) == log


@pytest.mark.parametrize("name", MAKERS)
def test_a_scheduler_pickles_before_it_has_a_metric(name: str) -> None:
    scheduler = pickle.loads(pickle.dumps(MAKERS[name]()))
    scheduler.set_search_properties("score", "max", seed=1)
    scheduler.validate()
