"""Stoppers, each alone, and what ``stop=`` takes."""

from __future__ import annotations

import datetime
import pickle

import pytest

from tune.stopper import (
    CombinedStopper,
    ExperimentPlateauStopper,
    FunctionStopper,
    MaximumIterationStopper,
    NoopStopper,
    Stopper,
    TimeoutStopper,
    TrialPlateauStopper,
    coerce_stop,
)


def feed(stopper: Stopper, values: list[float], trial: str = "a") -> list[bool]:
    """Pass results with a metric ``m`` and return the answers."""
    return [stopper(trial, {"m": value, "training_iteration": i}) for i, value in enumerate(values, 1)]


def test_noop_stops_nothing_and_makes_nobody_wait() -> None:
    stopper = NoopStopper()
    assert feed(stopper, [0.0] * 5) == [False] * 5
    assert not stopper.stop_all()
    assert stopper.bounds() == {}


def test_maximum_iteration_counts_per_trial() -> None:
    stopper = MaximumIterationStopper(2)
    assert feed(stopper, [0, 0]) == [False, True]
    assert feed(stopper, [0], "b") == [False]
    assert stopper.bounds() == {"training_iteration": 2}


def test_maximum_iteration_counts_results_that_do_not_say_their_number() -> None:
    stopper = MaximumIterationStopper(3)
    assert [stopper("a", {}) for _ in range(3)] == [False, False, True]


def test_maximum_iteration_counts_on_after_a_checkpoint() -> None:
    assert MaximumIterationStopper(10)("a", {"training_iteration": 10})


def test_a_function_is_asked_with_trial_and_result() -> None:
    asked = []
    stopper = FunctionStopper(lambda trial_id, result: asked.append((trial_id, result)) or result["m"] > 1)  # type: ignore[func-returns-value]
    assert feed(stopper, [1, 2]) == [False, True]
    assert asked[0] == ("a", {"m": 1, "training_iteration": 1})
    assert stopper.bounds() is None


def test_timeout_runs_from_the_first_question() -> None:
    now = [100.0]
    stopper = TimeoutStopper(datetime.timedelta(seconds=10), clock=lambda: now[0])
    answers = []
    for _ in range(3):
        answers.append(stopper.stop_all())
        now[0] += 6
    assert answers == [False, False, True]
    assert not stopper("a", {})


def now_zero() -> float:
    return 0.0


def test_timeout_does_not_count_the_time_between_two_drivers() -> None:
    stopper = TimeoutStopper(10, clock=now_zero)
    assert not stopper.stop_all()
    again = pickle.loads(pickle.dumps(stopper))
    again._clock = lambda: 1e6
    assert not again.stop_all()


def test_combined_stops_when_any_does_and_all_see_everything() -> None:
    stopper = CombinedStopper(MaximumIterationStopper(1), TrialPlateauStopper("m", num_results=2, grace_period=2))
    assert feed(stopper, [1.0, 1.0]) == [True, True]
    parts = CombinedStopper(MaximumIterationStopper(3), MaximumIterationStopper(2), NoopStopper())
    assert parts.bounds() == {"training_iteration": 2}
    assert stopper.bounds() is None


def test_combined_ends_the_sweep_when_any_does() -> None:
    times = iter([0.0, 0.0, 5.0])
    stopper = CombinedStopper(NoopStopper(), TimeoutStopper(1, clock=lambda: next(times)))
    assert [stopper.stop_all() for _ in range(3)] == [False, False, True]


def test_trial_plateau() -> None:
    stopper = TrialPlateauStopper("m", std=0.1, num_results=3, grace_period=4)
    assert feed(stopper, [1, 1, 1, 1]) == [False, False, False, True]
    assert feed(stopper, [1, 2, 3, 4, 4, 4], "b") == [False] * 5 + [True]


def test_trial_plateau_waits_until_the_metric_is_good_enough() -> None:
    low = TrialPlateauStopper("m", num_results=2, grace_period=0, metric_threshold=0.5, mode="min")
    assert feed(low, [1, 1, 0.4, 0.4]) == [False, False, False, True]
    high = TrialPlateauStopper("m", num_results=2, grace_period=0, metric_threshold=0.0, mode="max")
    assert feed(high, [-1, -1, 1, 1]) == [False, False, False, True]


def test_trial_plateau_is_not_made_of_missing_or_infinite_values() -> None:
    stopper = TrialPlateauStopper("m", num_results=2, grace_period=0)
    assert feed(stopper, [float("inf")] * 3 + [float("nan")] * 3) == [False] * 6
    assert not stopper("a", {})


def test_experiment_plateau_over_all_trials() -> None:
    stopper = ExperimentPlateauStopper("m", std=0.01, top=2)
    assert not stopper("a", {"m": 1.0})
    assert not stopper("b", {"m": 5.0})
    assert stopper("c", {"m": 1.0})
    assert stopper.stop_all()


def test_experiment_plateau_must_last() -> None:
    stopper = ExperimentPlateauStopper("m", std=0.01, top=2, mode="max", patience=2)
    assert feed(stopper, [3, 3, 1, 4, 4]) == [False, False, True, False, False]


def test_experiment_plateau_skips_what_is_not_a_number() -> None:
    stopper = ExperimentPlateauStopper("m", top=2)
    assert feed(stopper, [float("nan"), float("inf")]) == [False, False]
    assert not stopper("a", {})


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaximumIterationStopper(0),
        lambda: MaximumIterationStopper(1.5),  # type: ignore[arg-type]
        lambda: TimeoutStopper(0),
        lambda: TimeoutStopper("1"),  # type: ignore[arg-type]
        lambda: FunctionStopper(3),  # type: ignore[arg-type]
        lambda: TrialPlateauStopper("m", std=0),
        lambda: TrialPlateauStopper("m", num_results=1),
        lambda: TrialPlateauStopper("m", grace_period=-1),
        lambda: TrialPlateauStopper("m", metric_threshold=1.0),
        lambda: ExperimentPlateauStopper("m", std=-1),
        lambda: ExperimentPlateauStopper("m", top=1),
        lambda: ExperimentPlateauStopper("m", mode="best"),
        lambda: ExperimentPlateauStopper("m", patience=-1),
        lambda: CombinedStopper(len),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_refused(make) -> None:
    with pytest.raises((TypeError, ValueError)):
        make()


@pytest.mark.parametrize(
    "stopper",
    [
        NoopStopper(),
        MaximumIterationStopper(3),
        FunctionStopper(len),
        TimeoutStopper(3),
        CombinedStopper(NoopStopper()),
        TrialPlateauStopper("m"),
        ExperimentPlateauStopper("m"),
    ],
    ids=lambda stopper: type(stopper).__name__,
)
def test_stoppers_pickle(stopper: Stopper) -> None:
    assert type(pickle.loads(pickle.dumps(stopper))) is type(stopper)


def test_stop_takes_a_dict() -> None:
    assert coerce_stop(None) == (None, {})
    assert coerce_stop({"a": 1, "b": {"c": 2.5}, "done": True}) == (None, {"a": 1.0, "b/c": 2.5, "done": 1.0})


def test_stop_takes_a_function_a_stopper_and_a_list() -> None:
    stopper, bounds = coerce_stop(lambda trial_id, result: True)
    assert isinstance(stopper, FunctionStopper)
    assert bounds == {}
    stopper, bounds = coerce_stop(MaximumIterationStopper(4))
    assert stopper is None
    assert bounds == {"training_iteration": 4}
    stopper, bounds = coerce_stop([MaximumIterationStopper(4), TimeoutStopper(5)])
    assert isinstance(stopper, CombinedStopper)
    assert bounds == {"training_iteration": 4}
    assert coerce_stop(NoopStopper()) == (None, {})


class LooksLikeOne:
    def __call__(self, trial_id, result):
        return False

    def stop_all(self):
        return False


@pytest.mark.parametrize(
    ("stop", "say"),
    [
        (3, "got 3"),
        ("loss", "got 'loss'"),
        (NoopStopper, r"NoopStopper\(\.\.\.\)"),
        (LooksLikeOne(), "derive from tune.Stopper"),
        ({"a": "x"}, r"stop\['a'\]"),
        ({1: 1}, "the key 1"),
        ({"a": {"b": float("nan")}}, r"stop\['a/b'\]"),
    ],
)
def test_stop_refuses_what_it_cannot_mean(stop, say) -> None:
    with pytest.raises((TypeError, ValueError), match=say):
        coerce_stop(stop)
