"""Plays the controller for a scheduler: real trials, no processes, no time, any order of happenings that a test wants.

It keeps the contract of `tune.schedulers.base` and checks that the scheduler keeps it too, after every call.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import cloudpickle

from tune.schedulers.base import (
    NEW,
    WAIT,
    Continue,
    Decision,
    Exploit,
    Pause,
    Resize,
    Resume,
    Stop,
    TrialScheduler,
    View,
)
from tune.trial import CheckpointRecord, Config, Trial, TrialStatus

#: of a configuration and the iterations of training that are in the trial: what it reports
Curve = Callable[[Config, int], dict[str, Any]]


class Harness:
    """A sweep without a backend.

    Args:
        scheduler: with its metric and mode.
        configs: of the trials, in order.
        curve: what trials report.
        places: how many run at once.
        length: iterations after which a trial returns by itself; None for never.
        limiter: as a `ConcurrencyLimiter`: so many unfinished trials at most.
        advance: makes the trials stateful instead: of a state (None at first) and a configuration, the next state and
            what is reported; then `curve` is not used.
        saves_each: whether trials save with every result, as functions do; otherwise as told, as classes do.
    """

    def __init__(
        self,
        scheduler: TrialScheduler,
        configs: Sequence[Config],
        curve: Curve,
        *,
        places: int = 2,
        length: int | None = None,
        limiter: int | None = None,
        saves_each: bool = False,
        pure: bool = True,
        advance: Callable[[Any, Config], tuple[Any, dict[str, Any]]] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.configs = list(configs)
        self.curve = curve
        self.places = places
        self.length = length
        self.limiter = limiter
        self.saves_each = saves_each
        self.pure = pure
        self.advance = advance
        #: of each trial, and as it was saved
        self.states: dict[str, Any] = {}
        self.saved_states: dict[str, Any] = {}
        self.trials: dict[str, Trial] = {}
        self.live: dict[str, Trial] = {}
        #: trials that occupy a place, in the order they took it
        self.running: list[str] = []
        #: told to pause, have not yet
        self.pausing: list[str] = []
        #: iterations of training in each trial, and in what it saved
        self.trained: dict[str, int] = {}
        self.saved: dict[str, int] = {}
        #: every answer that asked for something
        self.log: list[tuple[Any, ...]] = []
        #: iterations that were run in all
        self.work = 0
        self.documents: dict[str, str] = {}
        self.exhausted = False
        self.fill()

    # ------------------------------------------------------------------------------------- what tests make happen

    def run(self, limit: int = 100_000) -> None:
        """Let the trials that run report in turn until nothing runs any more."""
        turn = 0
        while self.running:
            assert turn < limit, "the sweep does not end"
            turn += 1
            self.settle()
            if self.running:
                self.step(self.running[turn % len(self.running)])
        assert not self.live, f"left lying: {[(t.trial_id, t.status) for t in self.live.values()]}"

    def step(self, trial_id: str) -> None:
        """Let a running trial report once."""
        trial = self.trials[trial_id]
        if trial_id in self.pausing:
            self.settle()
            return
        if self.length is not None and self.trained[trial_id] >= self.length:
            self.finish(trial_id)
            return
        self.trained[trial_id] += 1
        self.work += 1
        trial.iteration += 1
        result = {"training_iteration": trial.iteration, "time_total_s": float(trial.iteration)}
        if self.advance is None:
            result |= self.curve(trial.config, self.trained[trial_id])
        else:
            self.states[trial_id], metrics = self.advance(self.states.get(trial_id), trial.config)
            result |= metrics
        waits = self.scheduler.sync(trial).waits(result)
        trial.last_result = result
        if self.saves_each:
            self._save(trial)
        decision = self.scheduler.on_trial_result(trial, result, self.view())
        self.scheduler.validate()
        assert waits or decision == Continue(), f"{decision} at a result that the trial did not wait at: {result}"
        self._apply(trial, decision)
        self.fill()

    def settle(self) -> None:
        """Let those that were told to pause have paused."""
        for trial_id in list(self.pausing):
            self.pausing.remove(trial_id)
            self.running.remove(trial_id)
            self.trials[trial_id].status = TrialStatus.PAUSED
            self.fill()

    def finish(self, trial_id: str) -> None:
        """Let a running trial return by itself."""
        self._end(self.trials[trial_id], TrialStatus.TERMINATED)
        self.fill()

    def fail(self, trial_id: str) -> None:
        """Let a running trial fail for good."""
        self._end(self.trials[trial_id], TrialStatus.ERROR)
        self.fill()

    def repickle(self) -> None:
        """Go on with a pickled copy of the scheduler."""
        self.scheduler = pickle.loads(cloudpickle.dumps(self.scheduler))

    # ------------------------------------------------------------------------------------------ what it does itself

    def view(self, *, starved: bool = False) -> View:
        """Return what the scheduler may see."""
        more = not starved and not self.exhausted
        return View(MappingProxyType(self.live), more, {"CPU": float(self.places)}, self.exhausted)

    def fill(self) -> None:
        """Ask for directives, and give free places away."""
        self._direct()
        starved = False
        while len(self.running) < self.places:
            view = self.view(starved=starved)
            before = self._state()
            choice = self.scheduler.choose(view)
            self.scheduler.validate()
            if choice == WAIT:
                assert self._state() == before, "waiting changed the scheduler"
                if self.live and not self.running and not view.more_trials:
                    self._close()
                break
            if isinstance(choice, Resume):
                self._resume(choice.trial_id)
                continue
            assert choice == NEW
            if not self._create():
                assert self._state() == before, "a choice that came to nothing changed the scheduler"
                assert not starved or view.more_trials is False
                if starved:
                    break
                starved = True
        self.documents |= self.scheduler.documents()

    def _direct(self) -> None:
        if not any(trial.status is TrialStatus.PAUSED for trial in self.live.values()):
            return
        before = self._state()
        decisions = self.scheduler.directives(self.view())
        self.scheduler.validate()
        if not decisions:
            assert self._state() == before, "directives about nothing changed the scheduler"
        for trial_id, decision in decisions:
            trial = self.live[trial_id]
            assert trial.status is TrialStatus.PAUSED
            assert isinstance(decision, Stop | Exploit | Continue)
            self.log.append(("direct", trial_id, decision))
            if isinstance(decision, Stop):
                self._end(trial, TrialStatus.TERMINATED)
            elif isinstance(decision, Exploit):
                self._exploit(trial, decision)

    def _close(self) -> None:
        """End the sweep and what is still paused; the scheduler must agree that all that is out of the race."""
        decisions = self.scheduler.directives(self.view(starved=True))
        assert {trial_id for trial_id, decision in decisions if decision == Stop()} == set(self.live), "left lying"
        for trial in list(self.live.values()):
            self._end(trial, TrialStatus.TERMINATED)

    def _create(self) -> bool:
        if len(self.trials) == len(self.configs):
            self.exhausted = True  # a searcher that tells its end when asked once more
            return False
        if self.limiter is not None and len(self.live) >= self.limiter:
            return False
        index = len(self.trials)
        trial = Trial(f"t{index}", index, self.configs[index], {}, f"t{index}")
        config = self.scheduler.on_trial_add(trial)
        self.scheduler.validate()
        trial.config = trial.config if config is None else config
        self.trials[trial.trial_id] = self.live[trial.trial_id] = trial
        self.trained[trial.trial_id] = 0
        self._launch(trial)
        return True

    def _resume(self, trial_id: str) -> None:
        trial = self.live[trial_id]
        assert trial.status is TrialStatus.PAUSED
        self.log.append(("resume", trial_id))
        self._launch(trial)

    def _launch(self, trial: Trial) -> None:
        trial.status = TrialStatus.RUNNING
        self.scheduler.sync(trial)
        self.running.append(trial.trial_id)

    def _apply(self, trial: Trial, decision: Decision) -> None:
        if decision != Continue():
            self.log.append(("result", trial.trial_id, trial.iteration, decision))
        if isinstance(decision, Continue):
            if decision.save:
                self._save(trial)
        elif isinstance(decision, Stop):
            self._end(trial, TrialStatus.TERMINATED)
        elif isinstance(decision, Pause):
            self._save(trial)
            self.pausing.append(trial.trial_id)
        elif isinstance(decision, Exploit):
            self._exploit(trial, decision)
        else:
            assert isinstance(decision, Resize)
            trial.resources = decision.resources

    def _exploit(self, trial: Trial, decision: Exploit) -> None:
        if decision.donor_id != trial.trial_id:
            self.trained[trial.trial_id] = self.saved[decision.donor_id]
            self.states[trial.trial_id] = self.saved_states.get(decision.donor_id)
        trial.config = decision.config

    def _save(self, trial: Trial) -> None:
        self.saved[trial.trial_id] = self.trained[trial.trial_id]
        self.saved_states[trial.trial_id] = self.states.get(trial.trial_id)
        trial.checkpoint = CheckpointRecord(f"checkpoint_{trial.iteration:06d}", trial.iteration, {})

    def _end(self, trial: Trial, status: TrialStatus) -> None:
        trial.status = status
        for names in (self.running, self.pausing):
            if trial.trial_id in names:
                names.remove(trial.trial_id)
        del self.live[trial.trial_id]
        self.log.append((status.value, trial.trial_id, trial.iteration))
        if status is TrialStatus.TERMINATED:
            self.scheduler.on_trial_complete(trial, trial.last_result)
        else:
            self.scheduler.on_trial_error(trial)
        self.scheduler.validate()

    def _state(self) -> bytes:
        return cloudpickle.dumps(self.scheduler) if self.pure else b""
