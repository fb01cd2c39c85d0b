"""What each scheduler decides, on sequences small enough to follow by hand."""

from __future__ import annotations

import math
import random
from types import MappingProxyType
from typing import Any

import pytest

from packages.tune.tests.unit.scheduler_harness import Harness
from tune.messages import Sync
from tune.schedulers import (
    ASHAScheduler,
    AsyncHyperBandScheduler,
    DistributeResources,
    DistributeResourcesToTopJob,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    ResourceChangingScheduler,
    TrialScheduler,
    create_scheduler,
)
from tune.schedulers.base import CONTINUE, PAUSE, STOP, Resize, Resume, View
from tune.schedulers.create import SCHEDULERS
from tune.schedulers.phases import TRANSITIONS, Phase, Phases, Step
from tune.schedulers.rungs import ladder
from tune.trial import CheckpointRecord, ResourceRequest, Trial, TrialStatus

SCORE: dict[str, Any] = {"metric": "score", "mode": "max"}
VIEW = View(MappingProxyType({}), True, {"CPU": 4.0})


def started(scheduler: TrialScheduler, count: int) -> list[Trial]:
    scheduler.set_search_properties(None, None, seed=0)
    trials = [Trial(f"t{index}", index, {}, {}, f"t{index}", status=TrialStatus.RUNNING) for index in range(count)]
    for trial in trials:
        scheduler.on_trial_add(trial)
    return trials


def sweep(scheduler: TrialScheduler, configs: list[Any], **options: Any) -> Harness:
    """Run a sweep of trials that report their configurations, one of them a score."""
    scheduler.set_search_properties(None, None, seed=0)
    configs = [config if isinstance(config, dict) else {"score": config} for config in configs]
    harness = Harness(scheduler, configs, lambda config, _trained: config, **options)
    harness.run()
    return harness


def iterations(harness: Harness) -> list[int]:
    return [trial.iteration for trial in harness.trials.values()]


def report(scheduler: TrialScheduler, trial: Trial, iteration: int, view: View = VIEW, **metrics: float) -> Any:
    trial.iteration = iteration
    trial.last_result = {"training_iteration": iteration, "time_total_s": float(iteration), **metrics}
    decision = scheduler.on_trial_result(trial, trial.last_result, view)
    scheduler.validate()
    return decision


def test_ladders_are_exact() -> None:
    assert ladder(1, 100, 4) == [1, 4, 16, 64, 100]
    assert ladder(1, 243, 3) == [1, 3, 9, 27, 81, 243]  # by logarithms: 4.999...
    assert ladder(1, 1000, 10) == [1, 10, 100, 1000]
    assert ladder(5, 5, 2) == [5]
    assert ladder(1, 10, 1.5)[:3] == [1, 1.5, 2.25]


class TestStopping:
    def test_it_stops_below_the_percentile_of_those_before(self) -> None:
        scheduler = ASHAScheduler(max_t=16, reduction_factor=4, **SCORE)
        trials = started(scheduler, 6)
        assert scheduler.sync(trials[0]) == Sync(at=1)
        assert report(scheduler, trials[0], 1, score=0.5) == CONTINUE  # the first always goes on
        assert scheduler.sync(trials[0]) == Sync(at=4)
        assert report(scheduler, trials[0], 2, score=0.0) == CONTINUE  # no milestone
        assert report(scheduler, trials[1], 1, score=0.5) == CONTINUE  # as good as the only one
        assert report(scheduler, trials[2], 1, score=0.1) == STOP
        # Ray's cut-off: numpy.nanpercentile([.5, .5, .1], 75) = .5
        assert report(scheduler, trials[3], 1, score=0.49) == STOP
        # nanpercentile([.5, .5, .1, .49], 75) = .5; and with a .9: [.1, .49, .5, .5, .9] -> .5
        assert report(scheduler, trials[4], 1, score=0.9) == CONTINUE
        assert report(scheduler, trials[5], 1, score=0.5) == CONTINUE
        assert report(scheduler, trials[0], 16, score=0.5) == STOP  # max_t

    def test_the_percentile_is_rays(self) -> None:
        numpy = pytest.importorskip("numpy")
        rng = random.Random(0)
        for factor in (2, 3, 4, 2.5):
            scheduler = ASHAScheduler(max_t=16, reduction_factor=factor, **SCORE)
            seen: list[float] = []
            for trial in started(scheduler, 60):
                score = rng.random()
                cutoff = numpy.nanpercentile(seen, (1 - 1 / factor) * 100) if seen else -math.inf
                assert report(scheduler, trial, 1, score=score) == (CONTINUE if score >= cutoff else STOP)
                seen.append(score)

    def test_a_smaller_loss_is_better_and_nan_is_worst(self) -> None:
        scheduler = ASHAScheduler(metric="loss", mode="min", max_t=16, reduction_factor=2)
        trials = started(scheduler, 4)
        assert report(scheduler, trials[0], 1, loss=1.0) == CONTINUE
        assert report(scheduler, trials[1], 1, loss=2.0) == STOP
        assert report(scheduler, trials[2], 1, loss=math.nan) == STOP
        assert report(scheduler, trials[3], 1, loss=0.5) == CONTINUE

    def test_who_reports_seldom_is_recorded_at_the_highest_rung_below(self) -> None:
        scheduler = ASHAScheduler(max_t=64, reduction_factor=4, **SCORE)
        first, second = started(scheduler, 2)
        assert report(scheduler, first, 10, score=0.5) == CONTINUE
        assert scheduler.sync(first) == Sync(at=16)
        assert report(scheduler, second, 4, score=0.4) == STOP

    def test_it_may_let_the_last_go_on(self) -> None:
        scheduler = ASHAScheduler(max_t=4, reduction_factor=4, stop_last_trials=False, **SCORE)
        [trial] = started(scheduler, 1)
        report(scheduler, trial, 1, score=1)
        assert scheduler.sync(trial) == Sync()
        assert report(scheduler, trial, 9, score=1) == CONTINUE

    def test_brackets_start_higher_and_are_drawn_with_the_seed(self) -> None:
        def drawn(seed: int) -> list[float | None]:
            scheduler = ASHAScheduler(max_t=64, reduction_factor=4, brackets=3, seed=seed, **SCORE)
            return [scheduler.sync(trial).at for trial in started(scheduler, 40)]

        assert drawn(1) == drawn(1)
        assert drawn(1) != drawn(2)
        counts = [drawn(1).count(at) for at in (1, 4, 16)]
        assert sum(counts) == 40
        assert counts[0] > counts[1] > 0

    def test_time_may_be_another_attribute(self) -> None:
        scheduler = ASHAScheduler(time_attr="time_total_s", max_t=60, grace_period=10, **SCORE)
        [trial] = started(scheduler, 1)
        assert scheduler.sync(trial) == Sync(at=10, attribute="time_total_s")

    def test_a_longer_max_t_goes_on_with_the_best_of_those_that_ended(self) -> None:
        old = ASHAScheduler(max_t=9, reduction_factor=3, **SCORE)
        trials = started(old, 6)
        for rank, trial in enumerate(reversed(trials)):  # each better than the one before
            for iteration in (1, 3, 9):
                report(old, trial, iteration, score=rank)
            trial.status = TrialStatus.TERMINATED
            old.on_trial_complete(trial, trial.last_result)
        new = ASHAScheduler(max_t=27, reduction_factor=3, **SCORE)
        new.set_search_properties(None, None)
        assert new.on_resume(old, trials) == ["t0", "t1"]
        new.validate()
        for trial in trials[:2]:
            trial.status = TrialStatus.PAUSED
        view = View(MappingProxyType({"t0": trials[0], "t1": trials[1]}), True, {})
        assert new.choose(view) == Resume("t0")
        assert new.sync(trials[0]) == Sync(at=27)
        assert report(new, trials[0], 27, view, score=1) == STOP

    def test_a_longer_max_t_off_the_ladder_goes_on_with_all(self) -> None:
        old = ASHAScheduler(max_t=5, reduction_factor=3, **SCORE)
        trials = started(old, 2)
        for trial in trials:
            for iteration in (1, 3, 5):
                report(old, trial, iteration, score=1)
            trial.status = TrialStatus.TERMINATED
        new = ASHAScheduler(max_t=8, reduction_factor=3, **SCORE)
        new.set_search_properties(None, None)
        assert sorted(new.on_resume(old, trials)) == ["t0", "t1"]
        assert new.sync(trials[0]) == Sync(at=8)


class TestPromotion:
    def test_it_promotes_the_best_of_the_highest_rung(self) -> None:
        scheduler = ASHAScheduler(max_t=9, reduction_factor=3, variant="promotion", **SCORE)
        harness = sweep(scheduler, [1, 5, 3, 2, 9, 4, 8, 7, 6], places=1)
        # One of three, two of six, three of nine go on to 3. t1 (5) is the best of the first three, t4 (9) of the first
        # five, t6 (8) is the second of seven, t7 (7) the third of nine. When three are at 3, t4 goes on to 9.
        assert iterations(harness) == [1, 3, 1, 1, 9, 1, 3, 3, 1]
        # t4 and t6 would have been chosen for their own places, so they went on to 3 without a pause.
        assert [entry[1] for entry in harness.log if entry[0] == "resume"] == ["t1", "t4", "t7"]

    def test_the_winner_is_trained_to_the_end_even_if_the_quota_is_too_small(self) -> None:
        scheduler = ASHAScheduler(max_t=27, reduction_factor=3, variant="promotion", **SCORE)
        assert iterations(sweep(scheduler, [1, 2])) == [1, 27]

    def test_who_ends_by_itself_wins_too(self) -> None:
        scheduler = ASHAScheduler(max_t=1000, reduction_factor=3, variant="promotion", **SCORE)
        assert iterations(sweep(scheduler, list(range(9, 0, -1)), length=5)) == [5, 3, 3, 1, 1, 1, 1, 1, 1]

    def test_a_failed_promotion_does_not_come_again(self) -> None:
        scheduler = ASHAScheduler(max_t=9, reduction_factor=2, variant="promotion", **SCORE)
        trials = started(scheduler, 3)
        view = View(MappingProxyType({trial.trial_id: trial for trial in trials}), True, {})
        assert report(scheduler, trials[0], 1, view, score=2) == PAUSE
        trials[0].status = TrialStatus.PAUSED
        assert report(scheduler, trials[1], 1, view, score=1) == PAUSE
        trials[1].status = TrialStatus.PAUSED
        assert scheduler.choose(view) == Resume("t0")
        trials[0].status = TrialStatus.ERROR
        scheduler.on_trial_error(trials[0])
        assert scheduler.choose(View(view.live, False, {}, True)) != Resume("t0")

    def test_it_needs_checkpoints(self) -> None:
        assert ASHAScheduler(variant="promotion").needs_checkpoints
        assert not ASHAScheduler().needs_checkpoints


class TestSeveralMetrics:
    def winners(self, **settings: Any) -> list[str]:
        pairs = ((0.9, 9), (0.5, 1), (0.8, 10), (0.4, 2), (0.7, 5), (0.6, 6))
        configs = [{"accuracy": accuracy, "latency": latency} for accuracy, latency in pairs]
        harness = sweep(HyperBandScheduler(max_t=8, reduction_factor=2, **settings), configs, pure=False)
        return [trial_id for trial_id, trial in harness.trials.items() if trial.iteration > 1]

    def test_the_front_that_nothing_dominates_goes_on(self) -> None:
        assert self.winners(metric=["accuracy", "latency"], mode=["max", "min"]) == ["t0", "t1", "t4"]

    def test_weights_make_one_number(self) -> None:
        weights = {"accuracy": 0.0, "latency": 1.0}
        assert self.winners(metric=["accuracy", "latency"], mode=["max", "min"], weights=weights) == ["t1", "t3", "t4"]

    def test_who_breaks_a_constraint_comes_last(self) -> None:
        assert self.winners(metric="accuracy", mode="max", constraints={"latency": 5}) == ["t1", "t3", "t4"]
        assert self.winners(metric="accuracy", mode="max", constraints={"latency": (6, None)}) == ["t0", "t2", "t5"]
        assert self.winners(metric="accuracy", mode="max", constraints=lambda result: result["latency"] - 5) == [
            "t1",
            "t3",
            "t4",
        ]

    def test_stopping_keeps_to_constraints(self) -> None:
        scheduler = ASHAScheduler(max_t=9, reduction_factor=2, constraints={"cost": 1.0}, **SCORE)
        trials = started(scheduler, 4)
        assert report(scheduler, trials[0], 1, score=1, cost=0.5) == CONTINUE
        assert report(scheduler, trials[1], 1, score=100, cost=5.0) == STOP
        assert report(scheduler, trials[2], 1, score=2, cost=1.0) == CONTINUE
        assert report(scheduler, trials[3], 1, score=3) == STOP  # a constraint that nobody reports is not kept


class TestHyperBand:
    def test_brackets_have_the_papers_sizes(self) -> None:
        scheduler = HyperBandScheduler(max_t=81, **SCORE)
        trials = started(scheduler, 81 + 34 + 15 + 8 + 5 + 1)
        firsts = [scheduler.sync(trial).at for trial in trials]
        assert [firsts.count(at) for at in (1, 3, 9, 27, 81)] == [82, 34, 15, 8, 5]
        assert firsts[:81] == [1] * 81  # the most sparing bracket first

    def test_a_bracket_is_halved_when_all_are_there(self) -> None:
        harness = sweep(HyperBandScheduler(max_t=9, **SCORE), list(range(9)), places=3)
        assert iterations(harness) == [1] * 6 + [3, 3, 9]

    @pytest.mark.parametrize("maker", [HyperBandScheduler, HyperBandForBOHB])
    def test_a_bracket_that_is_not_full_is_halved_by_what_it_has(self, maker: type[HyperBandScheduler]) -> None:
        assert iterations(sweep(maker(max_t=9, **SCORE), list(range(4)))) == [1, 1, 3, 9]

    def test_other_settings_cannot_take_over(self) -> None:
        old, new = HyperBandScheduler(max_t=9, **SCORE), HyperBandScheduler(max_t=27, **SCORE)
        with pytest.raises(ValueError, match="ASHAScheduler"):
            new.on_resume(old, [])


class TestMedian:
    def rule(self, **settings: Any) -> MedianStoppingRule:
        return MedianStoppingRule("training_iteration", grace_period=2, min_samples_required=2, **SCORE, **settings)

    def test_it_stops_what_is_worse_than_the_median_of_means(self) -> None:
        scheduler = self.rule()
        trials = started(scheduler, 4)
        assert scheduler.sync(trials[0]) == Sync(at=2)
        for trial, score in zip(trials[:3], (1, 2, 3), strict=True):
            for iteration in (1, 2, 3):
                assert report(scheduler, trial, iteration, score=score) == CONTINUE
        assert report(scheduler, trials[3], 1, score=0) == CONTINUE  # in the grace period
        assert report(scheduler, trials[3], 2, score=1.9) == STOP
        assert report(scheduler, trials[3], 3, score=9) == STOP  # no second chance

    def test_its_best_counts_not_its_last(self) -> None:
        scheduler = self.rule()
        trials = started(scheduler, 4)
        for trial, score in zip(trials[:3], (1, 2, 3), strict=True):
            for iteration in (1, 2, 3):
                report(scheduler, trial, iteration, score=score)
        report(scheduler, trials[3], 1, score=5)
        assert report(scheduler, trials[3], 2, score=0) == CONTINUE

    def test_soft_puts_back_and_goes_on_at_the_end(self) -> None:
        harness = sweep(self.rule(hard_stop=False), [3, 2, 1, 0], places=3, length=5)
        assert iterations(harness) == [5] * 4
        assert ("resume", "t3") in harness.log

    def test_several_metrics_need_weights(self) -> None:
        with pytest.raises(ValueError, match="weights"):
            MedianStoppingRule(metric=["a", "b"], mode="max")


class TestResources:
    def view(self, trials: list[Trial], cpus: float = 8) -> View:
        return View(MappingProxyType({trial.trial_id: trial for trial in trials}), False, {"CPU": cpus}, True)

    def test_free_resources_are_shared_evenly(self) -> None:
        scheduler = ResourceChangingScheduler()
        trials = started(scheduler, 3)
        assert scheduler.sync(trials[0]) == Sync(every=True)
        view = self.view(trials)
        for trial, expected in zip(trials, (3.0, 3.0, 2.0), strict=True):
            decision = report(scheduler, trial, 1, view)
            assert decision == Resize(ResourceRequest(({"CPU": expected},)))
            trial.resources = decision.resources
        assert report(scheduler, trials[0], 2, view) == CONTINUE
        alone = self.view(trials[:1])
        assert report(scheduler, trials[0], 3, alone) == Resize(ResourceRequest(({"CPU": 8.0},)))

    def test_only_what_is_free_is_given(self) -> None:
        scheduler = ResourceChangingScheduler()
        trials = started(scheduler, 2)
        trials[1].resources = ResourceRequest(({"CPU": 7.0},))
        assert report(scheduler, trials[0], 1, self.view(trials)) == CONTINUE
        assert report(scheduler, trials[1], 1, self.view(trials)) == Resize(ResourceRequest(({"CPU": 4.0},)))

    def test_limits_reserves_bundles(self) -> None:
        def first(function: DistributeResources) -> Any:
            scheduler = ResourceChangingScheduler(resources_allocation_function=function)
            trials = started(scheduler, 1)
            return report(scheduler, trials[0], 1, self.view(trials)).resources

        assert first(DistributeResources(reserve_resources={"CPU": 2})) == ResourceRequest(({"CPU": 6.0},))
        limited = DistributeResources(increase_by={"CPU": 2}, increase_by_times=2)
        assert first(limited) == ResourceRequest(({"CPU": 5.0},))
        assert first(DistributeResources(add_bundles=True)) == ResourceRequest(({"CPU": 1.0},) * 8)
        with pytest.raises(ValueError, match="increase_by"):
            DistributeResources(increase_by={"CPU": 0})

    def test_the_top_job_gets_all(self) -> None:
        scheduler = ResourceChangingScheduler(ASHAScheduler(**SCORE), DistributeResourcesToTopJob())
        trials = started(scheduler, 2)
        view = self.view(trials)
        assert report(scheduler, trials[0], 2, view, score=1) == Resize(ResourceRequest(({"CPU": 7.0},)))
        trials[1].last_result = {"score": 5}
        assert report(scheduler, trials[0], 3, view, score=1) == CONTINUE

    def test_the_base_scheduler_decides_first(self) -> None:
        scheduler = ResourceChangingScheduler(ASHAScheduler(max_t=2, **SCORE), lambda *_: {"cpu": 3})
        [trial] = started(scheduler, 1)
        assert report(scheduler, trial, 1, self.view([trial]), score=1) == Resize(ResourceRequest(({"CPU": 3.0},)))
        assert report(scheduler, trial, 2, self.view([trial]), score=1) == STOP

    def test_none_changes_nothing_and_nonsense_is_named(self) -> None:
        scheduler = ResourceChangingScheduler(None, None)
        [trial] = started(scheduler, 1)
        assert scheduler.sync(trial) == Sync()
        assert report(scheduler, trial, 1) == CONTINUE
        scheduler = ResourceChangingScheduler(None, lambda *_: 3)
        [trial] = started(scheduler, 1)
        with pytest.raises(TypeError, match="resources_allocation_function"):
            report(scheduler, trial, 1)

    def test_a_changed_base_shows(self) -> None:
        same, other = (ResourceChangingScheduler(ASHAScheduler(max_t=9)).base_parameters for _ in range(2))
        assert same == other != ResourceChangingScheduler(ASHAScheduler(max_t=27)).base_parameters

    def test_trials_start_alike(self) -> None:
        scheduler = ResourceChangingScheduler()
        started(scheduler, 1)
        with pytest.raises(ValueError, match="same resources"):
            scheduler.on_trial_add(Trial("x", 9, {}, {}, "x", resources=ResourceRequest(({"CPU": 2.0},))))


class TestNames:
    @pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "pbt_replay"])
    def test_schedulers_by_rays_names(self, name: str) -> None:
        arguments: dict[str, Any] = {
            "metric": "m",
            "mode": "min",
            "hyperparam_mutations": {"x": [1]},
            "hyperparam_bounds": {"x": [0, 1]},
        }
        scheduler = create_scheduler(name.upper(), **arguments)
        assert type(scheduler) is SCHEDULERS[name]
        assert scheduler.metric == ("m" if name not in {"fifo", "resource_changing"} else None)

    def test_another_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="asynchyperband"):
            create_scheduler("nonsense")

    def test_asha_is_async_hyperband(self) -> None:
        assert ASHAScheduler is AsyncHyperBandScheduler


def test_rays_defaults() -> None:
    asha, band, median = ASHAScheduler(), HyperBandScheduler(), MedianStoppingRule()
    assert (asha.max_t, asha.grace_period, asha.reduction_factor, asha.brackets) == (100, 1, 4, 1)
    assert (band.max_t, band.reduction_factor, band.stop_last_trials) == (81, 3, True)
    assert (median.time_attr, median.grace_period, median.min_samples_required) == ("time_total_s", 60, 3)
    pbt = PopulationBasedTraining(hyperparam_mutations={"x": [1]})
    assert (pbt.time_attr, pbt.perturbation_interval, pbt.quantile_fraction) == ("time_total_s", 60, 0.25)
    assert (pbt.resample_probability, pbt.perturbation_factors, pbt.synch) == (0.25, (1.2, 0.8), False)


def test_the_sweeps_metric_is_taken_where_there_is_none() -> None:
    scheduler = ASHAScheduler()
    with pytest.raises(ValueError, match="compares trials by a metric"):
        scheduler.set_search_properties(None, None)
    scheduler = ASHAScheduler(metric="own", mode="min")
    scheduler.set_search_properties("sweep's", "max")
    assert (scheduler.metric, scheduler.mode) == ("own", "min")
    with pytest.raises(ValueError, match="mode"):
        ASHAScheduler(metric="m", mode="biggest")
    with pytest.raises(ValueError, match="modes"):
        ASHAScheduler(metric=["a", "b"], mode=["max"])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ASHAScheduler(max_t=0), "max_t"),
        (lambda: ASHAScheduler(grace_period=0), "grace_period"),
        (lambda: ASHAScheduler(max_t=2, grace_period=3), "grace_period"),
        (lambda: ASHAScheduler(reduction_factor=1), "reduction_factor"),
        (lambda: ASHAScheduler(brackets=0), "brackets"),
        (lambda: ASHAScheduler(variant="other"), "variant"),
        (lambda: HyperBandScheduler(max_t=0), "max_t"),
        (lambda: HyperBandScheduler(reduction_factor=1), "reduction_factor"),
        (lambda: MedianStoppingRule(min_samples_required=0), "min_samples_required"),
        (lambda: MedianStoppingRule(grace_period=-1), "grace_period"),
    ],
)
def test_bad_arguments_are_named(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_phases_follow_the_table() -> None:
    phases = Phases()
    phases.begin("t")
    for step, expected in (
        (Step.HOLD, Phase.HELD),
        (Step.RELEASE, Phase.READY),
        (Step.TAKE_UP, Phase.ACTIVE),
        (Step.END, Phase.OVER),
        (Step.END, Phase.OVER),
        (Step.REOPEN, Phase.READY),
    ):
        phases.step("t", step)
        assert phases["t"] is expected
    with pytest.raises(KeyError):
        phases.step("t", Step.RELEASE)
    assert {phase for phase, _ in TRANSITIONS} == set(Phase)


def test_fifo_lets_all_run_and_takes_up_what_was_paused() -> None:
    scheduler = FIFOScheduler()
    [trial] = started(scheduler, 1)
    trial.checkpoint = CheckpointRecord("checkpoint_000001", 1, {})
    assert scheduler.sync(trial) == Sync()
    assert report(scheduler, trial, 1) == CONTINUE
    trial.status = TrialStatus.PAUSED
    assert scheduler.choose(View(MappingProxyType({"t0": trial}), False, {}, True)) == Resume("t0")
