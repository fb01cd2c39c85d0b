"""HyperBand (Li et al., JMLR 2018): synchronous successive halving in brackets.

Rules. With ``s_max = floor(log(max_t) / log(eta))``, bracket ``s`` holds ``ceil((s_max + 1) / (s + 1) * eta**s)``
trials, which first run to ``max_t * eta**-s``. When all of them that still live are there, the best ``1/eta`` (rounded
up) go on to the next milestone, ``eta`` times as far, and the others end; and so on up to ``max_t``. Brackets are
filled one after the other, the most sparing first (``s = s_max, ..., 0``, the paper's order and that of Ray's BOHB;
Ray's HyperBand begins with the bracket that spares nothing, so a short search of it is no HyperBand at all), then again
from the start.

A bracket that the searcher cannot fill is halved with what it has, as soon as nobody of it runs: also if the searcher
would have more once these have ended (a `ConcurrencyLimiter` below a bracket's size stalls Ray here).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tune.messages import Sync
from tune.schedulers.base import CONTINUE, NEW, PAUSE, STOP, WAIT, Choice, Decision, Resume, TrialScheduler, View
from tune.schedulers.judging import JudgingScheduler
from tune.schedulers.phases import Phase, Phases, Step
from tune.schedulers.ranking import Constraints, Judge, Outcome
from tune.trial import Result, Trial, TrialStatus


class Bracket:
    """Trials that are halved together.

    Args:
        size: how many trials it is made for.
        milestones: where it is halved, and last where it ends.
        judge: makes its rankings.
    """

    def __init__(self, size: int, milestones: list[float], judge: Judge) -> None:
        self.size = size
        self.milestones = milestones
        self._judge = judge
        #: index of the milestone that its trials run to
        self.rung: int = 0
        #: those still in the race
        self.members: dict[str, None] = {}
        #: how many were ever in it
        self.joined: int = 0
        #: those that have come to the milestone
        self.arrived: dict[str, Outcome] = {}
        #: no more trials come in
        self.closed: bool = False

    @property
    def milestone(self) -> float:
        """Where its trials run to now."""
        return self.milestones[self.rung]

    @property
    def last(self) -> bool:
        """Whether its trials run to their end now."""
        return self.rung == len(self.milestones) - 1

    @property
    def ready(self) -> bool:
        """Whether all are there."""
        return bool(self.members) and not self.last and len(self.arrived) == len(self.members)

    def join(self, trial_id: str) -> None:
        """Take in a trial; closes when full."""
        self.members[trial_id] = None
        self.joined += 1
        self.closed = self.joined >= self.size

    def halve(self, factor: float) -> tuple[list[str], list[str]]:
        """Move on to the next milestone; return the trials that go on, best first, and those that do not."""
        ranking = self._judge.ranking()
        for trial_id, outcome in self.arrived.items():
            ranking.add(trial_id, outcome)
        order = ranking.top(len(ranking))
        keep = math.ceil(len(order) / factor)
        good, bad = order[:keep], order[keep:]
        self.members = dict.fromkeys(good)
        self.arrived = {}
        self.rung += 1
        self.closed = True
        return good, bad

    def leave(self, trial_id: str) -> None:
        """Take out a trial that ended."""
        self.members.pop(trial_id, None)
        self.arrived.pop(trial_id, None)


class HyperBandScheduler(JudgingScheduler):
    """Synchronous HyperBand. Needs checkpoints, since trials pause at each milestone.

    Args:
        time_attr: the result's name that measures progress. It must never fall within a trial.
        metric: the result's name to judge by, or names for several objectives; None takes the sweep's.
        mode: ``"min"`` or ``"max"``, for each metric if they differ; None takes the sweep's.
        max_t: in units of `time_attr`: where trials end.
        reduction_factor: one of so many goes on at each milestone.
        stop_last_trials: whether trials end at `max_t`.
        weights: of several metrics, name to weight: judge by the weighted sum. None judges by non-dominated sorting.
        constraints: what results must keep: names to an upper bound or a pair of lower and upper bound (None for
            none), or a function of the result whose positive values are breaches.

    Raises:
        ValueError: an argument is out of range.
    """

    needs_checkpoints = True

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        max_t: float = 81,
        reduction_factor: float = 3,
        stop_last_trials: bool = True,
        *,
        weights: Mapping[str, float] | None = None,
        constraints: Constraints | None = None,
    ) -> None:
        super().__init__(metric=metric, mode=mode, time_attr=time_attr, weights=weights, constraints=constraints)
        if not max_t >= 1:
            raise ValueError(f"max_t must be at least 1, not {max_t!r}")
        if not reduction_factor > 1:
            raise ValueError(f"reduction_factor must be greater than 1, not {reduction_factor!r}")
        self.max_t = max_t
        self.reduction_factor = reduction_factor
        self.stop_last_trials = stop_last_trials
        self._brackets: list[Bracket] = []
        self._bracket_of: dict[str, Bracket] = {}
        self._phases = Phases()
        #: paused trials to be told to end
        self._beaten: dict[str, None] = {}
        self._stopped = 0

    # ------------------------------------------------------------------------------------------------ what happens

    def on_trial_add(self, trial: Trial) -> None:
        """Put the trial into the bracket that is being filled."""
        if trial.trial_id in self._bracket_of:
            return
        if not self._brackets or self._brackets[-1].closed:
            self._brackets.append(self._new_bracket())
        self._brackets[-1].join(trial.trial_id)
        self._bracket_of[trial.trial_id] = self._brackets[-1]
        self._phases.begin(trial.trial_id)

    def sync(self, trial: Trial) -> Sync:
        """Wait at the bracket's milestone."""
        bracket = self._bracket_of.get(trial.trial_id)
        if bracket is None or (bracket.last and not self.stop_last_trials):
            return Sync()
        return Sync(at=bracket.milestone, attribute=self.time_attr)

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        """Go on up to the bracket's milestone; there, pause, or learn at once what the halving brings."""
        trial_id = trial.trial_id
        bracket = self._bracket_of.get(trial_id)
        if bracket is None or trial_id in self._beaten:
            return STOP
        measured = self._measure(result)
        if measured is None or measured[0] < bracket.milestone:
            return CONTINUE
        if bracket.last:
            return self._at_the_end(trial_id)
        if trial_id not in bracket.arrived:
            bracket.arrived[trial_id] = measured[1]
            self._phases.step(trial_id, Step.HOLD)
        self._advance(view)
        if trial_id in self._beaten:
            self._end(trial_id)
            return STOP
        if self._phases[trial_id] is Phase.READY and measured[0] < bracket.milestone:
            self._phases.step(trial_id, Step.TAKE_UP)
            return CONTINUE
        return PAUSE

    def on_trial_complete(self, trial: Trial, result: Result) -> None:
        """Take the trial out of its bracket."""
        self._end(trial.trial_id)

    def on_trial_error(self, trial: Trial) -> None:
        """Take the trial out of its bracket."""
        self._end(trial.trial_id)

    def choose(self, view: View) -> Choice:
        """Take up a trial that goes on, the oldest first; then start new ones."""
        if not view.more_trials:
            self._advance(view, all_paused=True)
        ready = next(self._phases.paused(Phase.READY, view), None)
        if ready is not None:
            self._phases.step(ready, Step.TAKE_UP)
            return Resume(ready)
        return NEW if view.more_trials else WAIT

    def directives(self, view: View) -> list[tuple[str, Decision]]:
        """End the paused trials that a halving left behind."""
        released = self._advance(view)
        beaten = [trial_id for trial_id in self._beaten if self._is_paused(trial_id, view)]
        for trial_id in beaten:
            self._end(trial_id)
        return [*((trial_id, STOP) for trial_id in beaten), *((trial_id, CONTINUE) for trial_id in released)]

    def on_resume(self, previous: TrialScheduler, trials: Sequence[Trial]) -> list[str]:
        """Put the trials of the earlier run that have not ended into brackets of their own.

        Raises:
            ValueError: other settings were asked of a HyperBand: its brackets are sized by them.
        """
        if isinstance(previous, HyperBandScheduler):
            raise ValueError(  # noqa: TRY004 - the value of another argument is wrong, not the type of this
                f"a {type(self).__name__} cannot go on with other settings than it began with, because its brackets' "
                f"sizes follow from them: leave the scheduler as it was, or use ASHAScheduler"
            )
        return super().on_resume(previous, trials)

    def debug_string(self) -> str:
        """Return one line about the brackets."""
        brackets = ", ".join(
            f"{len(bracket.members)} of {bracket.joined} to {bracket.milestone:g}"
            for bracket in self._brackets
            if bracket.members
        )
        return f"HyperBand, {self._stopped} stopped, brackets: {brackets or 'none'}"

    def validate(self) -> None:
        """Check that brackets hold together."""
        for bracket in self._brackets:
            assert set(bracket.arrived) <= set(bracket.members)
            assert len(bracket.members) <= bracket.joined <= bracket.size
            assert all(self._bracket_of[trial_id] is bracket for trial_id in bracket.members)
            for trial_id in bracket.arrived:
                assert self._phases[trial_id] is Phase.HELD
        arrived = {trial_id for bracket in self._brackets for trial_id in bracket.arrived}
        assert set(self._phases.all(Phase.HELD)) == arrived | set(self._beaten)
        assert arrived.isdisjoint(self._beaten)

    # --------------------------------------------------------------------------------------------------- how it is done

    def _new_bracket(self) -> Bracket:
        heights = math.floor(math.log(self.max_t) / math.log(self.reduction_factor) + 1e-9) + 1
        s = heights - 1 - len(self._brackets) % heights
        size = math.ceil(heights / (s + 1) * self.reduction_factor**s - 1e-9)
        milestones = [self.max_t / self.reduction_factor**step for step in range(s, -1, -1)]
        if float(self.max_t).is_integer() and self.time_attr == "training_iteration":
            milestones = [float(max(1, int(milestone + 1e-9))) for milestone in milestones]
        return Bracket(size, milestones, self.judge)

    def _at_the_end(self, trial_id: str) -> Decision:
        if not self.stop_last_trials:
            return CONTINUE
        self._end(trial_id)
        return STOP

    def _advance(self, view: View, *, all_paused: bool = False) -> list[str]:
        """Halve every bracket whose trials are all there and that gets no more; return the trials that go on.

        With `all_paused`, only where one of those that go on can be taken up at once.
        """
        released = []
        for bracket in self._brackets:
            if not bracket.ready or (all_paused and not all(self._is_paused(one, view) for one in bracket.members)):
                continue
            if bracket.closed or not view.more_trials:
                released += self._halve(bracket)
        return released

    def _halve(self, bracket: Bracket) -> list[str]:
        good, bad = bracket.halve(self.reduction_factor)
        self._stopped += len(bad)
        self._beaten.update(dict.fromkeys(bad))
        for trial_id in good:
            self._phases.step(trial_id, Step.RELEASE)
        return good

    def _is_paused(self, trial_id: str, view: View) -> bool:
        return trial_id in view.live and view.live[trial_id].status is TrialStatus.PAUSED

    def _end(self, trial_id: str) -> None:
        bracket = self._bracket_of.pop(trial_id, None)
        if bracket is not None:
            bracket.leave(trial_id)
            self._phases.step(trial_id, Step.END)
            self._beaten.pop(trial_id, None)
