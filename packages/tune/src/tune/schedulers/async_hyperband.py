"""ASHA: asynchronous successive halving (Li et al., MLSys 2020), in both variants.

Rules. Trials climb a ladder of milestones ``grace_period * reduction_factor**k`` up to ``max_t``. A bracket ``s``
leaves out the lowest ``s`` rungs; each trial draws one.

*Stopping* (what Ray does under this name): a trial that reaches a milestone goes on if it is at least as good as the
best ``1/reduction_factor`` of those that reached it before, and ends otherwise. The first to come always go on: a bad
trial that came early is trained on, and nobody who was stopped comes back.

*Promotion* (the paper's algorithm): a trial that reaches a milestone pauses. A free place goes to the best paused
trial, of the highest rung that has one, that is among the best ``1/reduction_factor`` of its rung and was not promoted
yet; if there is none, to a new trial. It needs checkpoints. A trial that would be chosen for its own place goes on
without a pause.

When neither new trials nor promotions are left, the best paused trial of the highest rung is promoted, one rung at a
time, until one trial has come to ``max_t`` or to an end of its own: the winner is always fully trained (not in the
paper, which has no end). The others are told to end. A searcher that has nothing as long as so many trials are
unfinished (a `ConcurrencyLimiter`) would wait for paused ones forever: if nothing else is left to do, the best of them
is promoted and the others are told to end.

A rung is recorded once for each trial; a trial that was restarted and passes a milestone again goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

from tune.messages import Sync
from tune.schedulers.base import CONTINUE, NEW, PAUSE, STOP, WAIT, Choice, Decision, Resume, TrialScheduler, View
from tune.schedulers.judging import JudgingScheduler, check_positive
from tune.schedulers.phases import Phase, Phases, Step
from tune.schedulers.ranking import Constraints, Outcome
from tune.schedulers.rungs import Rung, ladder
from tune.trial import Result, Trial, TrialStatus


class AsyncHyperBandScheduler(JudgingScheduler):
    """Asynchronous successive halving; also named `ASHAScheduler`.

    Args:
        time_attr: the result's name that measures progress. It must never fall within a trial.
        metric: the result's name to judge by, or names for several objectives; None takes the sweep's.
        mode: ``"min"`` or ``"max"``, for each metric if they differ; None takes the sweep's.
        max_t: in units of `time_attr`: where trials end.
        grace_period: in units of `time_attr`: no trial is stopped or paused before.
        reduction_factor: one of so many goes on at each rung.
        brackets: how many brackets trials are spread over; each starts one rung higher.
        stop_last_trials: whether trials end at `max_t`.
        variant: ``"stopping"``, or ``"promotion"``, which pauses trials at each rung and needs checkpoints.
        weights: of several metrics, name to weight: judge by the weighted sum. None judges by non-dominated sorting.
        constraints: what results must keep: names to an upper bound or a pair of lower and upper bound (None for
            none), or a function of the result whose positive values are breaches.
        seed: of the draw of brackets; None takes the sweep's.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        max_t: float = 100,
        grace_period: float = 1,
        reduction_factor: float = 4,
        brackets: int = 1,
        stop_last_trials: bool = True,
        *,
        variant: Literal["stopping", "promotion"] = "stopping",
        weights: Mapping[str, float] | None = None,
        constraints: Constraints | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            metric=metric, mode=mode, time_attr=time_attr, weights=weights, constraints=constraints, seed=seed
        )
        check_positive(max_t=max_t, grace_period=grace_period, brackets=brackets)
        if max_t < grace_period:
            raise ValueError(f"max_t ({max_t}) must be at least grace_period ({grace_period})")
        if not reduction_factor > 1:
            raise ValueError(f"reduction_factor must be greater than 1, not {reduction_factor!r}")
        if variant not in {"stopping", "promotion"}:
            raise ValueError(f"variant must be 'stopping' or 'promotion', not {variant!r}")
        self.max_t = max_t
        self.grace_period = grace_period
        self.reduction_factor = reduction_factor
        self.brackets = brackets
        self.stop_last_trials = stop_last_trials
        self.variant = variant
        self.needs_checkpoints: bool = variant == "promotion"
        #: ladders bottom first, made when the metric is known; brackets beyond the ladder's height are left out
        self._ladders: list[list[Rung]] = []
        self._bracket_of: dict[str, int] = {}
        self._phases = Phases()
        #: whether a trial has come to ``max_t``, or to an end of its own
        self._won = False
        #: the paused trials are to be told to end
        self._flushing = False

    # ------------------------------------------------------------------------------------------------ what happens

    def set_search_properties(
        self, metric: str | Sequence[str] | None, mode: str | Sequence[str] | None, *, seed: int | None = None
    ) -> None:
        """Take the sweep's metric, mode and seed where none was given, and put up the ladders."""
        super().set_search_properties(metric, mode, seed=seed)
        milestones = ladder(self.grace_period, self.max_t, self.reduction_factor)
        height = max(1, min(self.brackets, len(milestones) - 1))
        self._ladders = [[Rung(milestone, self.judge) for milestone in milestones[low:]] for low in range(height)]

    def on_trial_add(self, trial: Trial) -> None:
        """Draw the trial's bracket, the higher ones with lower probability (Ray's: a softmax of their heights)."""
        if trial.trial_id in self._phases:
            return
        self._phases.begin(trial.trial_id)
        if trial.trial_id in self._bracket_of:
            return
        heights = [len(rungs) for rungs in self._ladders]
        odds = [math.exp(height - max(heights)) for height in heights]
        bracket = self._rng.choices(range(len(heights)), odds)[0] if len(heights) > 1 else 0
        self._bracket_of[trial.trial_id] = bracket

    def sync(self, trial: Trial) -> Sync:
        """Wait at the next milestone."""
        rung = self._next_rung(trial.trial_id)
        if rung is None or (rung.milestone >= self.max_t and not self.stop_last_trials):
            return Sync()
        return Sync(at=rung.milestone, attribute=self.time_attr)

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        """Go on up to the next milestone; there, go on, stop or pause."""
        if trial.trial_id not in self._phases:
            return STOP
        measured = self._measure(result)
        if measured is None:
            return CONTINUE
        time, outcome = measured
        rung = self._rung_at(trial.trial_id, time)
        if rung is None:
            return CONTINUE
        if rung.milestone >= self.max_t:
            return self._at_the_top(trial.trial_id, rung, outcome)
        if self.variant == "promotion":
            return self._hold(trial.trial_id, rung, outcome, view)
        keeps = rung.ranking.keeps(outcome, self.reduction_factor)
        rung.reach(trial.trial_id, outcome)
        if keeps:
            rung.promoted.add(trial.trial_id)
            return CONTINUE
        self._phases.step(trial.trial_id, Step.END)
        return STOP

    def on_trial_complete(self, trial: Trial, result: Result) -> None:
        """Forget what the trial waited for."""
        self._won |= self._phases[trial.trial_id] in {Phase.ACTIVE, Phase.READY}
        self._end(trial.trial_id)

    def on_trial_error(self, trial: Trial) -> None:
        """Forget what the trial waited for. What it reached still counts in the rungs."""
        self._end(trial.trial_id)

    def choose(self, view: View) -> Choice:
        """Promote, or start a new trial, or train the winner to the end."""
        eligible = partial(_is_paused, view)
        for trial_id in self._phases.paused(Phase.READY, view):
            self._phases.step(trial_id, Step.TAKE_UP)
            return Resume(trial_id)
        found = self._promotable(view)
        if found is None and view.more_trials:
            return NEW
        if found is None and view.idle and (not self._has_winner() or not view.exhausted):
            # For a searcher that has nothing until trials end (a limiter), the others make room.
            found = self._best_paused(eligible)
            self._flushing = not view.exhausted
        if found is None:
            return WAIT
        rung, trial_id = found
        self._promote(rung, trial_id)
        return Resume(trial_id)

    def directives(self, view: View) -> list[tuple[str, Decision]]:
        """End the paused trials when nothing can lift them any more."""
        if not self._flushing and not self._is_decided(view):
            return []
        beaten = list(self._phases.paused(Phase.HELD, view))
        if beaten:
            self._flushing = False
        for trial_id in beaten:
            self._end(trial_id)
        return [(trial_id, STOP) for trial_id in beaten]

    def on_resume(self, previous: TrialScheduler, trials: Sequence[Trial]) -> list[str]:
        """Take over the rungs; with a longer ``max_t``, the best of those that ended at the old one go on."""
        super().on_resume(previous, trials)
        if not isinstance(previous, AsyncHyperBandScheduler) or previous.judge.metrics != self.judge.metrics:
            return []
        for trial in trials:
            bracket = min(previous._bracket_of.get(trial.trial_id, 0), len(self._ladders) - 1)  # noqa: SLF001 - of its own class
            self._bracket_of[trial.trial_id] = bracket
        arrived: list[tuple[Rung, str]] = []
        ended = {trial.trial_id for trial in trials if trial.status is TrialStatus.TERMINATED}
        for bracket, rungs in enumerate(previous._ladders):  # noqa: SLF001 - of its own class
            for rung in rungs:
                arrived += self._take_over(rung, bracket, ended if rung.milestone >= previous.max_t else set())
        return self._reopen(arrived)

    def debug_string(self) -> str:
        """Return one line about the rungs."""
        parts = []
        for bracket, rungs in enumerate(self._ladders):
            steps = ", ".join(f"{rung.milestone:g}: {len(rung.ranking)}" for rung in reversed(rungs))
            parts.append(f"bracket {bracket} ({steps})")
        return f"ASHA by {self.variant}, trials at each rung: {'; '.join(parts)}"

    def validate(self) -> None:
        """Check that rungs hold together."""
        for rungs in self._ladders:
            assert all(low.milestone < high.milestone for low, high in pairwise(rungs))
            for rung in rungs:
                assert rung.promoted | set(rung.waiting) <= set(rung.ranking.top(len(rung.ranking)))
                assert rung.promoted.isdisjoint(rung.waiting)
                for trial_id in rung.waiting:
                    assert self._phases[trial_id] is Phase.HELD
        waiting = [trial_id for rungs in self._ladders for rung in rungs for trial_id in rung.waiting]
        assert sorted(waiting) == sorted(self._phases.all(Phase.HELD)), "a held trial waits at exactly one rung"

    # --------------------------------------------------------------------------------------------------- how it is done

    def _rungs(self, trial_id: str) -> list[Rung]:
        return self._ladders[self._bracket_of[trial_id]]

    def _next_rung(self, trial_id: str) -> Rung | None:
        """Return the rung at which the trial is wanted next: where it is held, or else above all that it reached."""
        following = None
        for rung in reversed(self._rungs(trial_id)):
            if trial_id in rung.waiting:
                return rung
            if trial_id in rung.ranking:
                break
            following = rung
        return following

    def _rung_at(self, trial_id: str, time: float) -> Rung | None:
        """Return the highest rung at or below `time` that the trial waits at or has not been recorded at.

        Rungs that a trial jumped over, because it reports seldom, do not learn of it.
        """
        lowest = self._next_rung(trial_id)
        if lowest is None or time < lowest.milestone:
            return None
        return next(rung for rung in reversed(self._rungs(trial_id)) if rung.milestone <= time)

    def _at_the_top(self, trial_id: str, rung: Rung, outcome: Outcome) -> Decision:
        if trial_id not in rung.ranking:
            rung.reach(trial_id, outcome)
        self._won = True
        if not self.stop_last_trials:
            return CONTINUE
        self._end(trial_id)
        return STOP

    def _hold(self, trial_id: str, rung: Rung, outcome: Outcome, view: View) -> Decision:
        # A trial that is held already failed while it was paused, and was started again.
        if self._phases[trial_id] is not Phase.HELD:
            self._phases.step(trial_id, Step.HOLD)
        self._leave(trial_id)
        if trial_id not in rung.ranking:
            rung.reach(trial_id, outcome)
        rung.waiting[trial_id] = None
        best = self._promotable(view, trial_id)
        if best is None or best[1] != trial_id:
            return PAUSE
        self._promote(rung, trial_id)
        return CONTINUE

    def _promotable(self, view: View, also: str | None = None) -> tuple[Rung, str] | None:
        """Return who is next to be promoted, highest rung first; `also` may be chosen though it is not paused yet."""
        if self.variant != "promotion":
            return None
        for rung in self._rungs_top_first():
            found = rung.promotable(self.reduction_factor, lambda other: other == also or _is_paused(view, other))
            if found is not None:
                return rung, found
        return None

    def _best_paused(self, eligible: partial[bool]) -> tuple[Rung, str] | None:
        for rung in self._rungs_top_first():
            found = rung.best_waiting(eligible)
            if found is not None:
                return rung, found
        return None

    def _rungs_top_first(self) -> list[Rung]:
        """Return the rungs below ``max_t`` of all brackets."""
        rungs = [rung for rungs in self._ladders for rung in rungs[:-1]]
        return sorted(rungs, key=lambda rung: -rung.milestone)

    def _is_decided(self, view: View) -> bool:
        """Tell whether nothing can lift the paused trials any more."""
        if view.more_trials or not view.idle or self._phases.any(Phase.READY) or self._promotable(view):
            return False
        return self._has_winner()

    def _has_winner(self) -> bool:
        """Tell whether a trial was trained to its end, or nobody waits who could be."""
        return self._won or not self._phases.any(Phase.HELD)

    def _promote(self, rung: Rung, trial_id: str) -> None:
        del rung.waiting[trial_id]
        rung.promoted.add(trial_id)
        self._phases.step(trial_id, Step.RELEASE)
        self._phases.step(trial_id, Step.TAKE_UP)

    def _leave(self, trial_id: str) -> None:
        for rung in self._rungs(trial_id):
            rung.waiting.pop(trial_id, None)

    def _end(self, trial_id: str) -> None:
        if trial_id in self._bracket_of:
            self._leave(trial_id)
            self._phases.step(trial_id, Step.END)

    def _take_over(self, old: Rung, bracket: int, ended: set[str]) -> list[tuple[Rung, str]]:
        """Copy a rung of a former ladder; return those of `ended` that stood there, by the rung they stand at now."""
        here = []
        rungs = self._ladders[min(bracket, len(self._ladders) - 1)]
        rung = next((rung for rung in rungs if math.isclose(rung.milestone, old.milestone)), None)
        above = next((rung for rung in rungs if rung.milestone > old.milestone), None)
        for trial_id in old.ranking.top(len(old.ranking)):
            if rung is not None and trial_id not in rung.ranking:
                rung.reach(trial_id, old.ranking.outcome(trial_id))
                if trial_id in old.promoted:
                    rung.promoted.add(trial_id)
                elif trial_id in old.waiting and trial_id in self._phases:
                    rung.waiting[trial_id] = None
                    self._phases.step(trial_id, Step.HOLD)
            if trial_id in ended and above is not None:
                here.append((rung or above, trial_id))
        return here

    def _reopen(self, arrived: list[tuple[Rung, str]]) -> list[str]:
        """Take up those that ended at the old ``max_t``: where that is a rung now, the best of it; otherwise all."""
        chosen = []
        for rung, trial_id in arrived:
            if trial_id in rung.ranking:
                if rung.ranking.place(trial_id) >= math.ceil(len(rung.ranking) / self.reduction_factor):
                    continue
                rung.promoted.add(trial_id)
            self._phases.step(trial_id, Step.REOPEN)
            chosen.append(trial_id)
        return chosen


def _is_paused(view: View, trial_id: str) -> bool:
    return trial_id in view.live and view.live[trial_id].status is TrialStatus.PAUSED


ASHAScheduler = AsyncHyperBandScheduler
