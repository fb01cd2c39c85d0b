"""A sweep whose driver dies at any moment, any number of times, comes to the same end as one that is left alone."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packages.tune.tests.unit.controller_harness import Counting, Killed, Listed, Script, ScriptedBackend, make_plan
from tune.controller import journal
from tune.controller.history import ResultReader, read_experiment
from tune.controller.loop import run_sweep
from tune.controller.outcome import EndReason, SweepOutcome
from tune.controller.plan import CheckpointPlan, FailurePlan, ResumePlan
from tune.messages import Launch
from tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

SCORE: dict[str, Any] = {"metric": "score", "mode": "max"}
TIMED: dict[str, Any] = {**SCORE, "time_attr": "training_iteration"}

#: of each property; SKATE_EXAMPLES asks for more
EXAMPLES = int(os.environ.get("SKATE_EXAMPLES", "15"))

SCHEDULERS: dict[str, Callable[[], TrialScheduler]] = {
    "fifo": FIFOScheduler,
    "asha": lambda: ASHAScheduler(max_t=6, reduction_factor=2, **SCORE),
    "asha by promotion": lambda: ASHAScheduler(max_t=6, reduction_factor=2, variant="promotion", **SCORE),
    "hyperband": lambda: HyperBandScheduler(max_t=4, reduction_factor=2, **SCORE),
    "median": lambda: MedianStoppingRule(grace_period=1, min_samples_required=2, **TIMED),
    "pbt": lambda: PopulationBasedTraining(
        perturbation_interval=2, hyperparam_mutations={"x": [1.0, 2.0, 3.0, 50.0]}, seed=3, **TIMED
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _no_disk() -> Iterator[None]:
    """Drivers die here, machines do not: whether data is on the disk makes no difference, but for the time it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _file: None)
        yield


def curve(config: dict[str, Any], iteration: int) -> dict[str, Any]:
    """Depend on the configuration and the iteration alone, in no monotone way."""
    return {"score": (config["x"] * 7919 + iteration * 104729) % 101 / 10 + iteration}


class Sweep:
    """One kind of sweep, to be run undisturbed or not."""

    def __init__(self, scheduler: str, save_every: int, *, ordered: bool, failing: bool = False) -> None:
        self.scheduler = scheduler
        self.save_every = save_every
        self.ordered = ordered
        self.failing = failing

    def script(self, launch: Launch) -> Script:
        index = int(launch.trial_id.split("_")[1])
        fails = 2 if self.failing and index % 3 == 1 else None
        return Script(3 + index % 4, curve, self.save_every, always_fails_after=fails)

    def plan(self, directory: Path, *, resume: bool) -> Any:
        scheduler = SCHEDULERS[self.scheduler]()
        return make_plan(
            directory,
            num_samples=8,
            seed=5,
            deterministic=self.ordered,
            searcher=Counting(5),
            scheduler=scheduler,
            checkpoints=CheckpointPlan(num_to_keep=1 if self.save_every else None),
            failures=FailurePlan(max_failures=1),
            resume=ResumePlan() if resume else None,
        )

    def run(self, directory: Path, luck: int, deaths: list[int]) -> tuple[SweepOutcome, list[ScriptedBackend]]:
        """Run until it ends; the n-th driver dies in the poll that `deaths` says."""
        backends = []
        for attempt in itertools.count():
            dies_at = deaths[attempt] if attempt < len(deaths) else None
            backend = ScriptedBackend(self.script, places=3, seed=luck + attempt, dies_at=dies_at)
            backends.append(backend)
            try:
                return run_sweep(self.plan(directory, resume=attempt > 0), backend), backends
            except Killed:
                continue
        raise AssertionError

    def run_again(self, directory: Path) -> tuple[SweepOutcome, ScriptedBackend]:
        """Go on with what is there, undisturbed."""
        backend = ScriptedBackend(self.script, places=3, seed=77)
        return run_sweep(self.plan(directory, resume=True), backend), backend


def story(outcome: SweepOutcome) -> list[Any]:
    """Return what must not depend on timing."""
    return [
        (trial.trial_id, trial.config, str(trial.status), trial.iteration, trial.last_result, trial.seed)
        for trial in outcome.trials
    ]


def check(outcome: SweepOutcome, directory: Path) -> None:
    """Check what holds after any sweep, whatever happened to it."""
    assert outcome.error is None
    assert outcome.ended is EndReason.COMPLETE
    assert [trial.index for trial in outcome.trials] == list(range(8))
    assert all(trial.status.finished for trial in outcome.trials)
    read = read_experiment(directory)
    assert [(t.trial_id, t.config, t.status, t.iteration, t.tags) for t in read.trials] == [
        (t.trial_id, t.config, t.status, t.iteration, t.tags) for t in outcome.trials
    ]
    reader = ResultReader(directory)
    for trial in outcome.trials:
        results = list(reader.results(trial))
        assert [result["training_iteration"] for result in results] == list(range(1, trial.iteration + 1))
        assert results[-1] == trial.last_result


deaths_lists = st.lists(st.integers(1, 60), max_size=5)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(luck=st.integers(0, 1000), deaths=deaths_lists, save_every=st.sampled_from([0, 1, 2]), failing=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_virtual_order_neither_luck_nor_deaths_change_anything(
    scheduler: str, luck: int, deaths: list[int], save_every: int, failing: bool
) -> None:
    sweep = Sweep(scheduler, save_every, ordered=True, failing=failing)
    with tempfile.TemporaryDirectory() as alone, tempfile.TemporaryDirectory() as disturbed:
        undisturbed, _ = sweep.run(Path(alone), 0, [])
        outcome, _ = sweep.run(Path(disturbed), luck, deaths)
        check(undisturbed, Path(alone))
        check(outcome, Path(disturbed))
        assert story(outcome) == story(undisturbed)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(luck=st.integers(0, 1000), deaths=deaths_lists, save_every=st.sampled_from([0, 1, 2]))
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_order_of_arrival_nothing_is_lost_and_nothing_comes_twice(
    scheduler: str, luck: int, deaths: list[int], save_every: int
) -> None:
    sweep = Sweep(scheduler, save_every, ordered=False)
    with tempfile.TemporaryDirectory() as directory:
        outcome, backends = sweep.run(Path(directory), luck, deaths)
        check(outcome, Path(directory))
        if scheduler == "fifo":
            assert all(trial.status == "TERMINATED" for trial in outcome.trials)
            ends = Counter(trial_id for backend in backends for trial_id in backend.returned)
            # An end that the driver had no time to hear of comes again, no other does: one for each death at most.
            assert sum(ends.values()) <= 8 + len(deaths)
            assert set(ends) == {trial.trial_id for trial in outcome.trials}


class TornWrites:
    """Stands before the kernel: the write with a given number stops in its middle, and the driver dies."""

    def __init__(self, number: int, fraction: float) -> None:
        self.number = number
        self.fraction = fraction
        self.count = 0
        self.real = os.write

    def __call__(self, file: int, data: Any) -> int:
        self.count += 1
        if self.count == self.number:
            self.real(file, bytes(data)[: int(len(data) * self.fraction)])
            raise Killed
        return self.real(file, data)


@given(
    number=st.integers(1, 60),
    fraction=st.floats(0, 1),
    scheduler=st.sampled_from(sorted(SCHEDULERS)),
    save_every=st.sampled_from([0, 1]),
)
@settings(max_examples=2 * EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_record_that_was_torn_is_as_if_it_had_not_come(
    number: int, fraction: float, scheduler: str, save_every: int
) -> None:
    sweep = Sweep(scheduler, save_every, ordered=True)
    with tempfile.TemporaryDirectory() as alone, tempfile.TemporaryDirectory() as disturbed:
        undisturbed, _ = sweep.run(Path(alone), 0, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal.os, "write", TornWrites(number, fraction))
            try:
                run_sweep(sweep.plan(Path(disturbed), resume=False), ScriptedBackend(sweep.script, places=3))
            except Killed:
                pass
        outcome, _ = sweep.run_again(Path(disturbed))
        check(outcome, Path(disturbed))
        assert story(outcome) == story(undisturbed)


@given(cut=st.integers(0, 4000), save_every=st.sampled_from([0, 1]))
@settings(max_examples=2 * EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_journal_without_a_snapshot_and_cut_at_any_byte_is_gone_on_with(cut: int, save_every: int) -> None:
    """As after a crash of the machine: whatever of the file's end is gone, the sweep comes to the same end."""
    sweep = Sweep("asha by promotion", save_every, ordered=True)
    with tempfile.TemporaryDirectory() as alone, tempfile.TemporaryDirectory() as disturbed:
        undisturbed, _ = sweep.run(Path(alone), 0, [])
        with pytest.raises(Killed):
            run_sweep(
                sweep.plan(Path(disturbed), resume=False), ScriptedBackend(sweep.script, places=3, dies_at=18, seed=cut)
            )
        Path(disturbed, "snapshot.pkl").unlink()
        path = journal.segment_path(Path(disturbed), 1)
        os.truncate(path, max(0, path.stat().st_size - cut))
        outcome, _ = sweep.run_again(Path(disturbed))
        check(outcome, Path(disturbed))
        assert story(outcome) == story(undisturbed)


def test_recorded_configurations_win_over_a_searcher_that_answers_differently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Killed):
        run_sweep(make_plan(tmp_path, searcher=Listed([1.0, 2.0, 3.0, 4.0])), ScriptedBackend(dies_at=9))
    before = [trial.config for trial in read_experiment(tmp_path).trials]
    assert before
    (tmp_path / "snapshot.pkl").unlink()
    searcher = Listed([-1.0, -2.0, -3.0, -4.0])
    outcome = run_sweep(make_plan(tmp_path, searcher=searcher, resume=ResumePlan()), ScriptedBackend())
    assert [trial.config for trial in outcome.trials][: len(before)] == before
    assert len(outcome.trials) == 4
    assert caplog.text.count("answers differently than before") == 1
    # it learns the truth about them as points of their own
    assert sorted(config["x"] for config, _ in searcher.points) == sorted(config["x"] for config in before)
