"""A backend without processes for tests of the controller: trials follow scripts, and luck decides who gets on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune.backend.base import TrialBackend
from tune.controller.plan import SweepPlan
from tune.messages import (
    Action,
    Event,
    Launch,
    Reported,
    Sync,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialReturned,
    TrialSaved,
    TrialStarted,
    Verdict,
)
from tune.schedulers.base import TrialScheduler
from tune.search.base import FINISHED, Searcher, _Finished
from tune.trial import CheckpointRecord, Config, FailureKind, ResourceRequest, Result, TrialFailure


class Killed(BaseException):
    """The driver dies here."""


@dataclass
class Script:
    """What a trial does."""

    length: int = 4
    #: what it reports, of its configuration and iteration
    curve: Callable[[Config, int], Result] = lambda config, iteration: {"score": config["x"] * iteration}
    #: saves with every so many results; 0: never
    save_every: int = 0
    #: saves when it pauses
    save_at_pause: bool = True
    #: after which iteration its n-th attempt fails
    fail_after: dict[int, int] = field(default_factory=dict)
    #: after which iteration every attempt fails
    always_fails_after: int | None = None
    kind: FailureKind = FailureKind.RAISED
    pickled: bytes | None = None
    #: hears nothing; has to be killed
    deaf: bool = False


@dataclass
class _Attempt:
    launch: Launch
    script: Script
    iteration: int
    sync: Sync
    told: Verdict | None = None
    waiting: bool = False
    started: bool = False


class ScriptedBackend(TrialBackend):
    """Runs scripts.

    Args:
        script: of a launch, what its trial does.
        places: how many trials fit.
        seed: of the luck.
        dies_at: number of the poll in which the driver dies.
    """

    def __init__(
        self,
        script: Callable[[Launch], Script] = lambda launch: Script(),
        *,
        places: int = 2,
        seed: int = 0,
        dies_at: int | None = None,
        batch: int = 3,
    ) -> None:
        self.script = script
        self.places = places
        self.luck = random.Random(seed)
        self.dies_at = dies_at
        self.batch = batch
        self.polls = 0
        self.time = 1_000_000.0
        self.attempts: dict[str, _Attempt] = {}
        self.events: list[Event] = []
        self.launches: list[Launch] = []
        self.deleted: list[tuple[str, str]] = []
        self.kills: list[str] = []
        self.closed = False
        #: ids of trials whose code has run to its end, each as often as it has
        self.returned: list[str] = []
        self.most_at_once = 0

    def now(self) -> float:
        return self.time

    def capacity(self, request: ResourceRequest) -> int:
        return int(self.places // request.total.get("CPU", 1))

    def cluster(self) -> dict[str, float]:
        return {"CPU": float(self.places)}

    def start(self, launch: Launch) -> None:
        assert launch.trial_id not in self.attempts, "started twice"
        if launch.checkpoint is not None:
            directory, _, name = launch.checkpoint.rpartition("/")
            assert (directory, name) not in self.deleted, "goes on from a checkpoint that was deleted"
        self.launches.append(launch)
        self.attempts[launch.trial_id] = _Attempt(launch, self.script(launch), launch.iteration, launch.sync)
        self.most_at_once = max(self.most_at_once, len(self.attempts))

    def answer(self, trial_id: str, verdict: Verdict) -> None:
        attempt = self.attempts.get(trial_id)
        if attempt is None or attempt.script.deaf:
            return
        if attempt.waiting:
            attempt.waiting = False
            self._obey(attempt, verdict)
        elif verdict.action is Action.CONTINUE:
            attempt.sync = verdict.sync
        else:
            attempt.told = verdict

    def kill(self, trial_id: str) -> None:
        self.kills.append(trial_id)
        if trial_id in self.attempts:
            self._end(self.attempts[trial_id], TrialReturned(trial_id, self._number(trial_id), stopped=True))

    def delete_checkpoint(self, trial_dir: str, name: str) -> None:
        self.deleted.append((trial_dir, name))

    def close(self) -> None:
        self.closed = True
        self.attempts.clear()

    def poll(self, timeout: float | None) -> list[Event]:
        self.polls += 1
        if self.polls == self.dies_at:
            raise Killed
        movable = [attempt for attempt in self.attempts.values() if not attempt.waiting]
        if movable:
            self._move(self.luck.choice(movable))
            self.time += 0.01
        elif not self.events:
            self.time += 1.0 if timeout is None else timeout
        events, self.events = self.events, []
        return events

    # -- scripts

    def _number(self, trial_id: str) -> int:
        return self.attempts[trial_id].launch.attempt

    def _end(self, attempt: _Attempt, event: Event) -> None:
        del self.attempts[attempt.launch.trial_id]
        self.events.append(event)

    def _obey(self, attempt: _Attempt, verdict: Verdict) -> None:
        launch = attempt.launch
        match verdict.action:
            case Action.STOP:
                self._end(attempt, TrialReturned(launch.trial_id, launch.attempt, stopped=True))
            case Action.PAUSE:
                if attempt.script.save_at_pause and attempt.iteration > 0:
                    self._save(attempt)
                self._end(attempt, TrialPaused(launch.trial_id, launch.attempt))
            case Action.SAVE:
                self._save(attempt)
                attempt.sync = verdict.sync
            case _:
                attempt.sync = verdict.sync

    def _save(self, attempt: _Attempt) -> None:
        launch = attempt.launch
        self.events.append(TrialSaved(launch.trial_id, launch.attempt, self._checkpoint(attempt, {})))

    def _checkpoint(self, attempt: _Attempt, result: Result) -> CheckpointRecord:
        metrics = {name: float(value) for name, value in result.items() if isinstance(value, int | float)}
        # an attempt never writes over what an earlier one wrote
        name = f"checkpoint_{attempt.iteration:06d}_{attempt.launch.attempt}"
        return CheckpointRecord(name, attempt.iteration, metrics)

    def _move(self, attempt: _Attempt) -> None:
        """Let a trial go on for a few results."""
        launch = attempt.launch
        if not attempt.started:
            attempt.started = True
            self.events.append(TrialStarted(launch.trial_id, launch.attempt, 1, "here"))
            return
        reports: list[Reported] = []
        end: Event | None = None
        told: Verdict | None = None
        for _ in range(self.luck.randint(1, self.batch)):
            end = self._own_end(attempt)
            if end is not None:
                break
            attempt.iteration += 1
            result = {**attempt.script.curve(launch.config, attempt.iteration), "training_iteration": attempt.iteration}
            every = attempt.script.save_every
            saved = self._checkpoint(attempt, result) if every and attempt.iteration % every == 0 else None
            reports.append(Reported(result, saved))
            if launch.stop.holds(result):
                end = TrialReturned(launch.trial_id, launch.attempt, stopped=True)
                self.returned.append(launch.trial_id)
                break
            if attempt.told is not None:
                told, attempt.told = attempt.told, None
                break
            if attempt.sync.waits(result):
                attempt.waiting = True
                break
        if reports:
            self.events.append(TrialReported(launch.trial_id, launch.attempt, reports, attempt.waiting))
        if told is not None:
            self._obey(attempt, told)
        elif end is not None:
            self._end(attempt, end)

    def _own_end(self, attempt: _Attempt) -> Event | None:
        launch, script = attempt.launch, attempt.script
        if attempt.iteration in {script.fail_after.get(launch.attempt), script.always_fails_after}:
            failure = TrialFailure(script.kind, "ValueError", "as the script says", "", script.pickled)
            return TrialFailed(launch.trial_id, launch.attempt, failure)
        if attempt.iteration >= script.length and not script.deaf:
            self.returned.append(launch.trial_id)
            return TrialReturned(launch.trial_id, launch.attempt)
        return None


class Counting(Searcher):
    """Suggests x = 1, 2, 3, ..., and the best x so far: what it says depends on what it has heard, in which order."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__("score", "max")
        self.luck = random.Random(seed)
        self.count = 0
        self.heard: list[tuple[str, Any]] = []

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        self.count += 1
        return {"x": float(self.count), "luck": self.luck.random(), "heard": len(self.heard), "last": self.heard[-1:]}

    def on_trial_result(self, trial_id: str, result: Result) -> None:
        self.heard.append((trial_id, result.get("score")))

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        self.heard.append((trial_id, "error" if error else (result or {}).get("score")))


class Listed(Searcher):
    """Suggests given values of x, whatever comes."""

    adaptive = False

    def __init__(self, values: list[float]) -> None:
        super().__init__("score", "max")
        self.values = list(values)
        self.ends: list[tuple[str, Any, bool]] = []
        self.points: list[tuple[Config, Any]] = []

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        return {"x": self.values.pop(0)} if self.values else FINISHED

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        self.ends.append((trial_id, None if result is None else result.get("score"), error))

    def add_evaluated_point(self, config: Config, value: Any, error: bool = False) -> None:
        self.points.append((config, value))

    def extend(self, num_samples: int, config: Config | None) -> None:
        self.values += [100.0 + i for i in range(num_samples)]


def make_plan(directory: Path, **changes: Any) -> SweepPlan:
    """Return a plan of a sweep with the metric ``score``."""
    settings: dict[str, Any] = {
        "name": "sweep",
        "directory": directory,
        "space": {},
        "metric": "score",
        "mode": "max",
        "num_samples": 4,
        "trial_prefix": "t",
        "trainable_name": "f",
        **changes,
    }
    settings.setdefault("searcher", Counting())
    settings.setdefault("scheduler", TrialScheduler(metric="score", mode="max"))
    settings["scheduler"].set_search_properties(settings["metric"], settings["mode"], seed=settings.get("seed"))
    return SweepPlan(**settings)
