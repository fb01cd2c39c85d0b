"""Real drivers, killed with SIGKILL again and again: the sweep comes to the same end as one that nobody disturbed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.tune.durable_driver import LENGTH, TRIALS
from tune.controller.history import ResultReader, exists, read_experiment
from tune.trial import Trial

ROOT = Path(__file__).parents[2]
KILLS = 20
#: bytes that the journal may grow between a driver's start and its death; it begins with about 800 of its own
GROWTH = 2_200


def start(storage: Path) -> subprocess.Popen[bytes]:
    """Start a driver. What it prints goes into a file: it may be killed with a full pipe."""
    command = [sys.executable, "-m", "tests.tune.durable_driver", str(storage)]
    environment = {**os.environ, "SKATE_TEST_ENDS": str(storage / "ends")}
    with (storage / "output").open("ab") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)


def journal_size(storage: Path) -> int:
    return sum(path.stat().st_size for path in (storage / "sweep" / "journal").glob("*.log"))


def ends(storage: Path) -> Counter[str]:
    """Return how often each trial's function ran to its end."""
    path = storage / "ends"
    return Counter(path.read_text().split() if path.exists() else [])


def finish(storage: Path) -> list[Trial]:
    """Run a driver to its end, and return what the sweep came to."""
    driver = start(storage)
    assert driver.wait(timeout=110) == 0, (storage / "output").read_text()
    return read_experiment(storage / "sweep").trials


def story(trials: list[Trial]) -> list[Any]:
    """Return what must not depend on what happened."""
    return [(t.trial_id, t.config, str(t.status), t.iteration, t.last_result["loss"], t.seed) for t in trials]


def kill_at(storage: Path, growth: int) -> bool:
    """Have a driver go on until the journal has grown so much, kill it; return whether it was still alive."""
    before = journal_size(storage)
    driver = start(storage)
    try:
        eventually(lambda: journal_size(storage) >= before + growth or driver.poll() is not None, 60)
    finally:
        driver.kill()
    return driver.wait() < 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """The sweep when nobody kills its driver."""
    return finish(tmp_path_factory.mktemp("undisturbed"))


def test_undisturbed_the_sweep_is_what_it_should_be(undisturbed: list[Trial]) -> None:
    assert len(undisturbed) == TRIALS
    assert {str(trial.status) for trial in undisturbed} == {"TERMINATED"}
    assert {LENGTH, 2} <= {trial.iteration for trial in undisturbed}, "some are stopped, some run to their ends"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_twenty_random_moments_it_comes_to_the_same_end(tmp_path: Path, undisturbed: list[Trial]) -> None:
    luck = random.Random(2026)
    killed = 0
    sweeps = 0
    while killed < KILLS:
        storage = tmp_path / str(sweeps)
        storage.mkdir()
        sweeps += 1
        killed += disturb(storage, luck, KILLS - killed)
        assert story(finish(storage)) == story(undisturbed)
        check_results(storage)


def disturb(storage: Path, luck: random.Random, kills: int) -> int:
    """Kill drivers of a sweep at random moments, at most so often; return how often before it had finished."""
    for number in range(kills):
        if not kill_at(storage, luck.randrange(GROWTH)):
            return number
        if not exists(storage / "sweep"):
            continue
        done = {trial.trial_id: trial for trial in read_experiment(storage / "sweep").trials if trial.status.finished}
        times = ends(storage)
        # What has ended is never begun again, whoever dies afterwards.
        if luck.random() < 0.3:
            kill_at(storage, luck.randrange(GROWTH))
            for trial in read_experiment(storage / "sweep").trials:
                if trial.trial_id in done:
                    assert trial.attempts == done[trial.trial_id].attempts
                    assert ends(storage)[trial.trial_id] == times[trial.trial_id]
    return kills


def check_results(storage: Path) -> None:
    """Every result is there once, in the journal and in the files made of it."""
    reader = ResultReader(storage / "sweep")
    for trial in read_experiment(storage / "sweep").trials:
        iterations = [result["training_iteration"] for result in reader.results(trial)]
        assert iterations == list(range(1, trial.iteration + 1))
        lines = Path(trial.local_path, "result.json").read_text().splitlines()
        assert len(lines) == trial.iteration


def test_killed_before_it_has_written_anything_it_begins(tmp_path: Path, undisturbed: list[Trial]) -> None:
    driver = start(tmp_path)
    eventually(lambda: (tmp_path / "sweep").exists() or driver.poll() is not None, 60)
    driver.kill()
    driver.wait()
    assert story(finish(tmp_path)) == story(undisturbed)


def test_no_process_outlives_a_killed_driver_by_much(tmp_path: Path) -> None:
    driver = start(tmp_path)
    eventually(lambda: journal_size(tmp_path) > 3_000, 60)
    assert len(processes_of(tmp_path)) > 2
    driver.kill()
    driver.wait()
    eventually(lambda: not processes_of(tmp_path), 10)


def processes_of(storage: Path) -> list[int]:
    """Return the processes of a sweep's drivers, by what is in their environments."""
    mark = f"SKATE_TEST_ENDS={storage / 'ends'}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found
