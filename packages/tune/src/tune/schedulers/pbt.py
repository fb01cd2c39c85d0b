"""Population based training (Jaderberg et al., 2017).

Rules. Each time a trial has gone `perturbation_interval` further, it is compared with the others by its last result. If
it is in the lowest quantile, it takes over a trial of the highest quantile drawn at random: goes on from that one's
newest checkpoint, under that one's configuration, changed a little. If it is in the highest quantile, it saves.

Without `synch` each trial is compared with the others as they stand. With it, all trials pause at a multiple of the
interval until the last one is there; then all takeovers are decided together, on the results of the same moment, so
the outcome does not depend on who is faster.

A population larger than the number of places takes turns: a trial that came to its interval gives its place to the one
that has come least far.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tune.messages import Sync
from tune.schedulers.base import (
    CONTINUE,
    NEW,
    PAUSE,
    WAIT,
    Choice,
    Continue,
    Decision,
    Exploit,
    Resume,
    TrialScheduler,
    View,
)
from tune.schedulers.judging import JudgingScheduler, check_positive
from tune.schedulers.pbt_explore import Mutations, check_mutations, explore, fill, selected
from tune.schedulers.pbt_policy import PolicyBook, Takeover
from tune.schedulers.phases import Phase, Phases, Step
from tune.schedulers.ranking import Constraints, Outcome
from tune.trial import Config, Result, Trial, TrialStatus


class Member(msgspec.Struct):
    """What the population knows of a trial."""

    #: of its last comparison; None before the first
    outcome: Outcome | None = None
    #: what it started its interval with: the outcome, or that of the donor it took over
    base: Outcome | None = None
    #: how far it was at its last comparison
    time: float = 0.0
    #: `Trial.iteration` at its last takeover; what it saved up to then is of another life
    reborn: int = -1
    #: by how much `Trial.iteration` differs from the iterations of training that are in it: takeovers change that
    ahead: int = 0


class PopulationBasedTraining(JudgingScheduler):
    """Population based training. Needs checkpoints.

    Args:
        time_attr: the result's name that measures progress.
        metric: the result's name to judge by, or names for several objectives; None takes the sweep's.
        mode: ``"min"`` or ``"max"``, for each metric if they differ; None takes the sweep's.
        perturbation_interval: in units of `time_attr`: how often a trial is compared.
        burn_in_period: in units of `time_attr`: no comparison before.
        hyperparam_mutations: parameter to how it changes: a list of values (moves to a neighbour), a domain or a
            function without arguments (multiplied by a factor, or drawn anew), a dict of these for nested parameters.
            Parameters that the trials' configurations lack are drawn from here at the start. What a function draws
            from the global generators is not reproduced by a seed; domains are.
        quantile_fraction: the share of the population that is taken over, and that is taken from; at most 0.5.
        resample_probability: of drawing a parameter anew instead of changing it.
        perturbation_factors: what numbers are multiplied by, one of them drawn.
        custom_explore_fn: called with the changed configuration, returns the one to use.
        log_config: whether policy files are written, for `PopulationBasedTrainingReplay`.
        require_attrs: whether a result without the metric or `time_attr` is an error.
        synch: whether all trials wait for each other at each comparison.
        weights: of several metrics, name to weight: judge by the weighted sum. None judges by non-dominated sorting.
        constraints: what results must keep (see `ASHAScheduler`).
        seed: of all draws; None takes the sweep's.

    Raises:
        ValueError: an argument is out of range, or there is nothing to explore by.
        TypeError: a mutation is none.
    """

    needs_checkpoints = True

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        perturbation_interval: float = 60.0,
        burn_in_period: float = 0.0,
        hyperparam_mutations: Mutations | None = None,
        quantile_fraction: float = 0.25,
        resample_probability: float = 0.25,
        perturbation_factors: tuple[float, ...] = (1.2, 0.8),
        custom_explore_fn: Callable[[Config], Config] | None = None,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        *,
        weights: Mapping[str, float] | None = None,
        constraints: Constraints | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            metric=metric, mode=mode, time_attr=time_attr, weights=weights, constraints=constraints, seed=seed
        )
        check_positive(perturbation_interval=perturbation_interval)
        _check_fractions(quantile_fraction, resample_probability)
        if burn_in_period < 0:
            raise ValueError(f"burn_in_period must not be negative, not {burn_in_period!r}")
        if not perturbation_factors:
            raise ValueError("perturbation_factors is empty: give at least one factor, such as (1.2, 0.8)")
        check_mutations("hyperparam_mutations", hyperparam_mutations or {})
        if not hyperparam_mutations and custom_explore_fn is None:
            raise ValueError(
                f"{type(self).__name__} has nothing to explore by: pass hyperparam_mutations={{'lr': "
                f"tune.loguniform(1e-4, 1e-1)}} or custom_explore_fn"
            )
        self.perturbation_interval = perturbation_interval
        self.burn_in_period = burn_in_period
        self.hyperparam_mutations: dict[str, Any] = dict(hyperparam_mutations or {})
        self.quantile_fraction = quantile_fraction
        self.resample_probability = resample_probability
        self.perturbation_factors: tuple[float, ...] = tuple(perturbation_factors)
        self.custom_explore_fn = custom_explore_fn
        self.log_config = log_config
        self.require_attrs = require_attrs
        self.synch = synch
        self._members: dict[str, Member] = {}
        self._phases = Phases()
        self._policies = PolicyBook()
        #: with `synch`: where all wait for each other next
        self._barrier = max(perturbation_interval, burn_in_period)
        #: takeovers of paused trials that the controller has not been told of yet
        self._orders: dict[str, Decision] = {}
        #: without `synch`: trials to take over another as soon as they are paused
        self._due: dict[str, None] = {}
        self._takeovers = 0

    # ------------------------------------------------------------------------------------------------ what happens

    def sync(self, trial: Trial) -> Sync:
        """Wait at the next comparison."""
        if self.synch:
            return Sync(at=self._barrier, attribute=self.time_attr)
        member = self._members[trial.trial_id]
        following = max(self.burn_in_period, member.time + self.perturbation_interval)
        return Sync(at=following, attribute=self.time_attr)

    def on_trial_add(self, trial: Trial) -> Config | None:
        """Take the trial into the population, and draw the mutated parameters that it lacks."""
        if trial.trial_id not in self._phases:
            self._members[trial.trial_id] = Member()
            self._phases.begin(trial.trial_id)
        return fill(trial.config, self.hyperparam_mutations, self._rng)

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        """Go on up to the next comparison; there, go on, take over another, or give the place to others."""
        self._check_result(result)
        measured = self._measure(result)
        if measured is None:
            return CONTINUE
        time, outcome = measured
        member = self._members[trial.trial_id]
        at = self.sync(trial).at
        if at is None or time < at:
            return CONTINUE
        self._learn(trial, member, time, outcome)
        member.outcome, member.base, member.time = outcome, outcome, time
        if self.synch:
            if self._phases[trial.trial_id] is not Phase.HELD:
                self._phases.step(trial.trial_id, Step.HOLD)
            return PAUSE
        low, high = self._quantiles(list(self._members))
        if _others_wait(view):
            if trial.trial_id in low:
                self._due[trial.trial_id] = None
            self._phases.step(trial.trial_id, Step.HOLD)
            self._phases.step(trial.trial_id, Step.RELEASE)
            return PAUSE
        if trial.trial_id in low:
            return self._take_over(trial, high, view) or CONTINUE
        return Continue(save=True) if trial.trial_id in high else CONTINUE

    def on_trial_complete(self, trial: Trial, result: Result) -> None:
        """Take the trial out of the population."""
        self._end(trial.trial_id)

    def on_trial_error(self, trial: Trial) -> None:
        """Take the trial out of the population."""
        self._end(trial.trial_id)

    def choose(self, view: View) -> Choice:
        """Start new trials first, then go on with the paused one that has come least far."""
        if view.more_trials:
            return NEW
        self._meet(view)
        ready = self._phases.paused(Phase.READY, view)
        free = [trial_id for trial_id in ready if trial_id not in self._orders and trial_id not in self._due]
        if not free:
            return WAIT
        furthest_behind = min(free, key=lambda trial_id: self._members[trial_id].time)
        self._phases.step(furthest_behind, Step.TAKE_UP)
        return Resume(furthest_behind)

    def directives(self, view: View) -> list[tuple[str, Decision]]:
        """Decide takeovers of paused trials; with `synch` all together, when the whole population waits."""
        released = [*self._meet(view), *self._decide_due(view)]
        orders, self._orders = self._orders, {}
        return [*orders.items(), *((trial_id, CONTINUE) for trial_id in released if trial_id not in orders)]

    def on_resume(self, previous: TrialScheduler, trials: Sequence[Trial]) -> list[str]:
        """Take over the population and its policies."""
        if isinstance(previous, PopulationBasedTraining):
            self._policies = previous._policies  # noqa: SLF001 - of its own class
            self._barrier = max(previous._barrier, self._barrier)  # noqa: SLF001 - of its own class
        super().on_resume(previous, trials)
        for trial in trials:
            if isinstance(previous, PopulationBasedTraining) and trial.trial_id in previous._members:  # noqa: SLF001 - of its own class
                if trial.trial_id in self._members:
                    self._members[trial.trial_id] = previous._members[trial.trial_id]  # noqa: SLF001 - of its own class
                    self._adopt_phase(trial.trial_id, previous._phases[trial.trial_id])  # noqa: SLF001 - of its own class
            elif trial.status is TrialStatus.PAUSED:
                self._adopt_phase(trial.trial_id, Phase.READY)
        return []

    def documents(self) -> dict[str, str]:
        """Return the policy files that changed."""
        return self._policies.changed() if self.log_config else {}

    def debug_string(self) -> str:
        """Return one line about the population."""
        return f"{type(self).__name__}: {len(self._phases)} in the population, {self._takeovers} takeovers"

    def validate(self) -> None:
        """Check that members and phases agree."""
        assert {*self._orders, *self._due} <= set(self._phases.all(Phase.READY))
        assert set(self._members) == {trial_id for phase in Phase for trial_id in self._phases.all(phase)}
        for trial_id in self._phases.all(Phase.HELD):
            assert self.synch
            assert self._members[trial_id].outcome is not None

    # --------------------------------------------------------------------------------------------------- how it is done

    def _check_result(self, result: Result) -> None:
        if not self.require_attrs:
            return
        for name in (self.time_attr, *self.judge.metrics):
            if name not in result:
                raise RuntimeError(
                    f"{type(self).__name__} needs {name!r} in every result, but got only {sorted(result)}: report it, "
                    f"or pass require_attrs=False to go on without comparing at such results"
                )

    def _quantiles(self, trial_ids: Sequence[str]) -> tuple[set[str], list[str]]:
        """Return the lowest and the highest quantile (best first) of those trials that have been compared."""
        ranking = self.judge.ranking()
        for trial_id in trial_ids:
            outcome = self._members[trial_id].outcome
            if outcome is not None and trial_id in self._phases:
                ranking.add(trial_id, outcome)
        if len(ranking) < 2:
            return set(), []
        size = min(math.ceil(len(ranking) * self.quantile_fraction), len(ranking) // 2)
        order = ranking.top(len(ranking))
        return set(order[len(order) - size :]), order[:size]

    def _take_over(self, trial: Trial, high: Sequence[str], view: View) -> Exploit | None:
        """Decide a takeover; None if nobody of the highest quantile has a checkpoint."""
        donors = [view.live[other] for other in high if self._can_give(view.live[other])]
        if not donors:
            return None
        donor = self._rng.choice(donors)
        assert donor.checkpoint is not None
        config, done = self._new_config(trial, donor, view)
        member, source = self._members[trial.trial_id], self._members[donor.trial_id]
        trained, inherited = trial.iteration - member.ahead, donor.checkpoint.iteration - source.ahead
        self._policies.record(
            Takeover(
                trial.trial_id,
                donor.trial_id,
                trained,
                inherited,
                selected(donor.config, self.hyperparam_mutations) or donor.config,
                selected(config, self.hyperparam_mutations) or config,
            )
        )
        member.base, member.reborn, member.ahead = source.outcome, trial.iteration, trial.iteration - inherited
        self._takeovers += 1
        return Exploit(donor.trial_id, config, {"pbt_donor": donor.trial_id, "pbt_changes": done})

    def _can_give(self, trial: Trial) -> bool:
        return trial.checkpoint is not None and trial.checkpoint.iteration > self._members[trial.trial_id].reborn

    def _new_config(self, trial: Trial, donor: Trial, view: View) -> tuple[Config, dict[str, Any]]:
        """Return the configuration that a trial goes on under, and what was done to the donor's, for people."""
        config, done = explore(
            donor.config, self.hyperparam_mutations, self.resample_probability, self.perturbation_factors, self._rng
        )
        if self.custom_explore_fn is not None:
            config = self.custom_explore_fn(copy.deepcopy(config))
            if not isinstance(config, dict):
                raise TypeError(f"custom_explore_fn must return a configuration (a dict), not {type(config).__name__}")
        return config, done

    def _meet(self, view: View) -> list[str]:
        """If the whole population is paused at the barrier, decide all takeovers and move it; return who goes on."""
        waiting = list(self._phases.paused(Phase.HELD, view))
        if not waiting or view.more_trials or len(waiting) < len(self._phases):
            return []
        low, high = self._quantiles(waiting)
        for trial_id in waiting:
            taken = self._take_over(view.live[trial_id], high, view) if trial_id in low else None
            if taken is not None:
                self._orders[trial_id] = taken
            self._phases.step(trial_id, Step.RELEASE)
        furthest = max(self._members[trial_id].time for trial_id in waiting)
        intervals = math.floor((furthest - self._barrier) / self.perturbation_interval) + 1
        self._barrier += max(1, intervals) * self.perturbation_interval
        return waiting

    def _decide_due(self, view: View) -> list[str]:
        """Decide the takeovers of trials that have given their places to others; return these trials."""
        due = [trial_id for trial_id in self._due if view.live[trial_id].status is TrialStatus.PAUSED]
        for trial_id in due:
            del self._due[trial_id]
            low, high = self._quantiles(list(self._members))
            taken = self._take_over(view.live[trial_id], high, view) if trial_id in low else None
            if taken is not None:
                self._orders[trial_id] = taken
        return due

    def _learn(self, trial: Trial, member: Member, time: float, outcome: Outcome) -> None:
        """Take note of a comparison, with the member as it was at the comparison before; for subclasses."""

    def _adopt_phase(self, trial_id: str, phase: Phase) -> None:
        if phase in {Phase.HELD, Phase.READY}:
            self._phases.step(trial_id, Step.HOLD)
        if phase is Phase.READY or (phase is Phase.HELD and not self.synch):
            self._phases.step(trial_id, Step.RELEASE)

    def _end(self, trial_id: str) -> None:
        self._orders.pop(trial_id, None)
        self._due.pop(trial_id, None)
        self._phases.step(trial_id, Step.END)
        self._members.pop(trial_id, None)


def _others_wait(view: View) -> bool:
    """Tell whether somebody could use the place."""
    return view.more_trials or any(trial.status is not TrialStatus.RUNNING for trial in view.live.values())


def _check_fractions(quantile_fraction: float, resample_probability: float) -> None:
    if not 0 <= quantile_fraction <= 0.5:
        raise ValueError(f"quantile_fraction must be between 0 and 0.5, not {quantile_fraction!r}")
    if not 0 <= resample_probability <= 1:
        raise ValueError(f"resample_probability must be between 0 and 1, not {resample_probability!r}")
