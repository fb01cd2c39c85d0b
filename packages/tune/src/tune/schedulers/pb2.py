"""Population based bandits (PB2, Parker-Holder et al., NeurIPS 2020): PBT whose changes a Gaussian process suggests.

PBT's changes are blind and need a large population. PB2 keeps for every trial and interval which parameters it ran
under, how far it was, how good it was, and how much better it became, and asks a Gaussian process under which
parameters it will improve most from where the donor stands. It works with a population of four.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tune.schedulers.base import View
from tune.schedulers.pbt import Member, PopulationBasedTraining
from tune.schedulers.ranking import Constraints, Outcome
from tune.space.domains import Float, Integer
from tune.trial import Config, Trial

#: Observations older than the newest so many are left out, and with fewer parameters are drawn.
_MEMORY, _ENOUGH = 100, 4


class Observation(msgspec.Struct, frozen=True):
    """What an interval under some parameters brought."""

    #: how far and how good the trial was at its start
    time: float
    score: float
    #: scaled to [0, 1]
    parameters: tuple[float, ...]
    #: how much better it was at its end
    gain: float


class PB2(PopulationBasedTraining):
    """Population based bandits. Needs checkpoints.

    Args:
        time_attr: the result's name that measures progress.
        metric: the result's name to judge by; several need `weights`; None takes the sweep's.
        mode: ``"min"`` or ``"max"``; None takes the sweep's.
        perturbation_interval: in units of `time_attr`: how often a trial is compared.
        hyperparam_bounds: parameter to ``[lower, upper]``, or to ``tune.uniform``, ``tune.loguniform`` (searched in the
            logarithm) or ``tune.randint``. A parameter that is a whole number at the start stays one.
        quantile_fraction: the share of the population that is taken over, and that is taken from; at most 0.5.
        log_config: whether policy files are written, for `PopulationBasedTrainingReplay`.
        require_attrs: whether a result without the metric or `time_attr` is an error.
        synch: whether all trials wait for each other at each comparison.
        custom_explore_fn: called with the suggested configuration, returns the one to use.
        weights: of several metrics, name to weight: judge by the weighted sum.
        constraints: what results must keep (see `ASHAScheduler`).
        seed: of all draws; None takes the sweep's.

    Raises:
        ValueError: an argument is out of range, or there are no bounds.
        TypeError: bounds are none.
    """

    _several_metrics = False

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        perturbation_interval: float = 60.0,
        hyperparam_bounds: Mapping[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        custom_explore_fn: Callable[[Config], Config] | None = None,
        *,
        weights: Mapping[str, float] | None = None,
        constraints: Constraints | None = None,
        seed: int | None = None,
    ) -> None:
        if not hyperparam_bounds:
            raise ValueError("hyperparam_bounds is empty: give PB2 bounds to search in, such as {'lr': [1e-4, 1e-1]}")
        self._domains = {name: _domain(name, bounds) for name, bounds in hyperparam_bounds.items()}
        super().__init__(
            time_attr=time_attr,
            metric=metric,
            mode=mode,
            perturbation_interval=perturbation_interval,
            hyperparam_mutations=self._domains,
            quantile_fraction=quantile_fraction,
            custom_explore_fn=custom_explore_fn,
            log_config=log_config,
            require_attrs=require_attrs,
            synch=synch,
            weights=weights,
            constraints=constraints,
            seed=seed,
        )
        self.hyperparam_bounds: dict[str, Any] = dict(hyperparam_bounds)
        self._observations: list[Observation] = []

    def _learn(self, trial: Trial, member: Member, time: float, outcome: Outcome) -> None:
        if member.base is None:
            return
        before, after = member.base.values[0], outcome.values[0]
        if time > member.time and math.isfinite(before) and math.isfinite(after):
            gain = (after - before) * self.perturbation_interval / (time - member.time)
            self._observations.append(Observation(member.time, before, self._scaled(trial.config), gain))
            del self._observations[:-_MEMORY]

    def _new_config(self, trial: Trial, donor: Trial, view: View) -> tuple[Config, dict[str, Any]]:
        config = copy.deepcopy(donor.config)
        source = self._members[donor.trial_id]
        running = [other for other in view.live.values() if other is not trial and other.trial_id in self._members]
        parameters = self._suggest(source, [self._scaled(other.config) for other in running])
        for (name, domain), share in zip(self._domains.items(), parameters, strict=True):
            value = _unscaled(domain, share)
            whole = isinstance(donor.config[name], int) and not isinstance(donor.config[name], bool)
            config[name] = round(value) if whole else value
        if self.custom_explore_fn is not None:
            config = self.custom_explore_fn(copy.deepcopy(config))
        return config, dict.fromkeys(self._domains, "suggest")

    def _suggest(self, source: Member, pending: list[tuple[float, ...]]) -> list[float]:
        """Return the parameters to try next from where a member stands, scaled to [0, 1]."""
        if len(self._observations) < _ENOUGH or source.outcome is None or not math.isfinite(source.outcome.values[0]):
            return [self._rng.random() for _ in self._domains]
        # numpy is a tenth of a second that importing schedulers does not need.
        import numpy as np  # noqa: PLC0415

        from tune.schedulers import pb2_gp  # noqa: PLC0415

        seen = self._observations
        context = np.array([[one.time, one.score] for one in seen] + [[source.time, source.outcome.values[0]]])
        # Time in intervals, for the fading; scores relative to their span.
        context[:, 0] /= self.perturbation_interval
        span = np.ptp(context[:, 1])
        context[:, 1] = (context[:, 1] - context[:, 1].min()) / (span if span > 0 else 1.0)
        points = np.hstack([context[:-1], np.array([one.parameters for one in seen])])
        gains = np.array([one.gain for one in seen])
        rng = np.random.default_rng(self._rng.getrandbits(64))
        found = pb2_gp.suggest(
            points, gains, context[-1], np.array(pending).reshape(-1, len(self._domains)), len(self._domains), rng
        )
        return [float(share) for share in found]

    def _scaled(self, config: Config) -> tuple[float, ...]:
        return tuple(_share(domain, config[name]) for name, domain in self._domains.items())


def _domain(name: str, bounds: Any) -> Float | Integer:
    if isinstance(bounds, Float | Integer):
        return bounds
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:  # a lower and an upper one
        raise TypeError(f"hyperparam_bounds[{name!r}] must be [lower, upper] or a domain with bounds, not {bounds!r}")
    low, high = bounds
    if not low < high:
        raise ValueError(f"hyperparam_bounds[{name!r}]: the lower bound {low!r} must be less than the upper {high!r}")
    return Float(float(low), float(high))


def _ends(domain: Float | Integer) -> tuple[float, float]:
    low, high = (domain.first, domain.last) if isinstance(domain, Integer) else (domain.lower, domain.upper)
    return (math.log(low), math.log(high)) if domain.log else (float(low), float(high))


def _share(domain: Float | Integer, value: float) -> float:
    low, high = _ends(domain)
    place = math.log(max(value, math.exp(low))) if domain.log else value
    return min(max((place - low) / (high - low), 0.0), 1.0)


def _unscaled(domain: Float | Integer, share: float) -> float:
    low, high = _ends(domain)
    place = low + share * (high - low)
    return domain.settle(math.exp(place) if domain.log else place)
