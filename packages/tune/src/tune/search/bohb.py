"""`TuneBOHB`: BOHB's searcher (Falkner et al., ICML 2018), to be paired with the scheduler ``HyperBandForBOHB``.

There is one model for each budget, a milestone of HyperBand's. A suggestion comes from the model of the largest budget
that has enough observations, and a fixed fraction of them is random, which keeps HyperBand's guarantee. The models are
Optuna's multivariate TPE, which is BOHB's kernel density estimator with better bandwidths; a trial that runs is a
constant liar in the model that it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tune.search.base import _Finished
from tune.search.known_space import KnownSpaceSearcher
from tune.search.samplers import quiet
from tune.space import to_distribution
from tune.space.distributions import suggest
from tune.trial import Config, Result

if TYPE_CHECKING:
    import optuna

#: What `bohb_config` may hold, with BOHB's defaults; None is the number of parameters plus one.
_DEFAULTS: dict[str, Any] = {
    "min_points_in_model": None,
    "random_fraction": 1 / 3,
    "num_samples": 64,
}


class _Running(msgspec.Struct):
    """A trial that has not ended."""

    params: dict[str, Any]
    #: the budget whose model suggested it, and that model's trial; None if it was random
    source: float | None = None
    asked: Any = None
    #: the largest budget it was observed at
    reached: float = 0.0


class TuneBOHB(KnownSpaceSearcher):
    """Learns from intermediate results which configurations are good, budget by budget.

    Args:
        space: a dict of domains; None takes the sweep's ``config``.
        bohb_config: ``min_points_in_model`` (default: parameters + 1; a model is used from two more on),
            ``random_fraction`` (default 1/3) and ``num_samples`` (candidates for each suggestion, default 64).
        metric: the result's name; None takes the sweep's.
        mode: ``"min"`` or ``"max"``; None takes the sweep's.
        points_to_evaluate: configurations, or parts of them, to try first.
        seed: None takes the sweep's, and without that a random one.
        max_concurrent: trials at once; 0 for no limit.
        time_attr: the result's name that measures budgets, as in the scheduler.
        max_t: the largest budget, as in the scheduler.
        reduction_factor: the ratio of one budget to the next, as in the scheduler.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        space: Config | None = None,
        bohb_config: dict[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Config] | None = None,
        seed: int | None = None,
        max_concurrent: int = 0,
        *,
        time_attr: str = "training_iteration",
        max_t: float = 81,
        reduction_factor: float = 3,
    ) -> None:
        super().__init__(space, metric, mode, points_to_evaluate, seed)
        unknown = sorted(set(bohb_config or {}) - set(_DEFAULTS))
        if unknown:
            raise ValueError(f"bohb_config has unknown keys {unknown}; known are {sorted(_DEFAULTS)}.")
        if not max_t >= 1 or not reduction_factor > 1:
            raise ValueError(
                f"TuneBOHB needs max_t >= 1 and reduction_factor > 1, got {max_t!r}, {reduction_factor!r}."
            )
        self._options = {**_DEFAULTS, **(bohb_config or {})}
        if not 0 <= self._options["random_fraction"] <= 1:
            raise ValueError(f"random_fraction must be within 0 and 1, got {self._options['random_fraction']!r}.")
        self.max_concurrent = max_concurrent
        self.time_attr = time_attr
        self._budgets = _milestones(max_t, reduction_factor)
        self._suggested = 0
        self._live: dict[str, _Running] = {}
        self._paused: set[str] = set()
        #: model and number of observations of each budget that has any
        self._models: dict[float, optuna.Study] = {}
        self._observed: dict[float, int] = {}

    def set_search_properties(
        self, metric: str | list[str] | None, mode: str | list[str] | None, config: Any, **spec: Any
    ) -> bool:
        """Take the sweep's metric, mode, space and seed; see `Searcher.set_search_properties`."""
        taken = super().set_search_properties(metric, mode, config, **spec)
        if len(self._objectives().metrics) != 1:
            raise ValueError(f"TuneBOHB searches for one metric, got {self.metric!r}. OptunaSearch takes several.")
        return taken

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        """Return the next configuration: random, or from the model of the largest budget that knows enough."""
        space = self._known_space()
        if self.max_concurrent and len(self._live) - len(self._paused) >= self.max_concurrent:
            return None
        import numpy as np  # noqa: PLC0415  a tenth of a second that planning a sweep does not need

        seed = (self._certain_seed(), self._suggested)
        rng = np.random.default_rng(seed)
        at_random = float(rng.random()) < self._options["random_fraction"]
        budget = None if at_random or self._waiting else self._largest_budget()
        running = _Running({})
        if budget is None:
            fixed = self._waiting.pop(0) if self._waiting else None
            resolved = space.resolve(lambda _name, domain: domain.draw(rng), fixed=fixed, seed=seed)
        else:
            asked = self._models[budget].ask()
            running.source, running.asked = budget, asked
            resolved = space.resolve(lambda name, domain: suggest(asked, name, domain), seed=seed)
        running.params = resolved.params
        self._suggested += 1
        self._live[trial_id] = running
        return {**self._constants, **resolved.config}

    def on_trial_result(self, trial_id: str, result: Result) -> None:
        """Take the result for an observation if it is the first at a budget."""
        running = self._live.get(trial_id)
        time = result.get(self.time_attr)
        if running is None or time is None:
            return
        budget = max((budget for budget in self._budgets if budget <= time), default=self._budgets[0])
        values = self._objectives().values(result)
        if values is None or budget <= running.reached:
            return
        running.reached = budget
        self._observe(running, budget, self._objectives().losses(values)[0])

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Take the last result, and the trial out of the model that it came from if it never got so far."""
        if result and not error:
            self.on_trial_result(trial_id, result)
        self._paused.discard(trial_id)
        running = self._live.pop(trial_id, None)
        if running is not None and running.asked is not None:
            self._withdraw(running)

    def on_pause(self, trial_id: str) -> None:
        """Make room for another trial."""
        if trial_id in self._live:
            self._paused.add(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Count the trial again."""
        self._paused.discard(trial_id)

    def begin_again(self) -> None:
        """Drop the models."""
        self._models, self._observed = {}, {}

    def _largest_budget(self) -> float | None:
        least = self._options["min_points_in_model"]
        enough = (len(self._known_space().domains) + 1 if least is None else least) + 2
        return max((budget for budget, count in self._observed.items() if count >= enough), default=None)

    def _observe(self, running: _Running, budget: float, loss: float) -> None:
        import optuna  # noqa: PLC0415  a fifth of a second, for those who search with models only

        model = self._models.get(budget)
        if model is None:
            model = self._models[budget] = self._new_model(budget)
        self._observed[budget] = self._observed.get(budget, 0) + 1
        if running.source == budget and running.asked is not None:
            model.tell(running.asked, loss)
            running.asked = None
            return
        domains = self._known_space().domains_of(running.params)
        model.add_trial(
            optuna.trial.create_trial(
                value=loss,
                params={name: running.params[name] for name in domains},
                distributions={name: to_distribution(domain, name) for name, domain in domains.items()},
            )
        )

    def _withdraw(self, running: _Running) -> None:
        import optuna  # noqa: PLC0415  as above

        running.asked.study.tell(running.asked, state=optuna.trial.TrialState.FAIL)

    def _new_model(self, budget: float) -> optuna.Study:
        import optuna  # noqa: PLC0415  as above

        with quiet():
            sampler = optuna.samplers.TPESampler(
                multivariate=True,
                constant_liar=True,
                n_startup_trials=1,
                n_ei_candidates=self._options["num_samples"],
                seed=(self._certain_seed() + 7919 * self._budgets.index(budget)) % 2**32,
            )
            return optuna.create_study(sampler=sampler, pruner=optuna.pruners.NopPruner())


def _milestones(max_t: float, factor: float) -> list[float]:
    """Return HyperBand's budgets, smallest first; whole numbers if `max_t` is one."""
    budgets: list[float] = []
    budget = float(max_t)
    while budget >= 1 - 1e-9:
        budgets.append(float(max(1, int(budget + 1e-9))) if float(max_t).is_integer() else budget)
        budget /= factor
    return sorted(set(budgets))
