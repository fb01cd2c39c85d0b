"""`OptunaSearch`: Optuna's samplers behind Ray's interface.

The study is Optuna's own and is driven by its public ask and tell, so with one trial after the other and the same seed
the sequence of configurations is exactly that of ``study.optimize``.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tune.search.base import Searcher, _Finished
from tune.search.objectives import Constraints, Objectives, check_constraints, violations
from tune.search.samplers import check_sampler, make_sampler, quiet
from tune.space import DefinedSpace, SearchSpace, Space, as_space, from_distributions, has_domains
from tune.space.distributions import describe, suggest, to_distribution
from tune.space.domains import Categorical, Domain
from tune.trial import Config, Result

if TYPE_CHECKING:
    import optuna

#: Where Optuna 4 looks for constraints, by way of a function that its samplers are given.
_CONSTRAINTS = "skate:constraints"

#: samplers that do not look at results
_BLIND = frozenset({"random", "qmc"})

SpaceLike = Space | Config | Callable[[Any], Config | None]


def constraints_of(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    """Return the constraints of a trial, for samplers of Optuna 4."""
    stored: Sequence[float] = trial.user_attrs.get(_CONSTRAINTS, (0.0,))
    return stored


class OptunaSearch(Searcher):
    """Searches with Optuna.

    Args:
        space: a dict of domains (``tune.uniform`` or Optuna's distributions), or a function of an Optuna trial; None
            takes the sweep's ``config``.
        metric: the result's name, or names for several objectives; None takes the sweep's.
        mode: ``"min"`` or ``"max"``, for each metric if they differ; None takes the sweep's.
        points_to_evaluate: configurations, or parts of them, to try first.
        sampler: an Optuna sampler, or a name: tpe, cmaes, gp, nsgaii, nsgaiii, qmc, random, grid, bruteforce. None is
            TPE as Optuna 5 has it: multivariate for one objective, with the constant liar for trials that run.
        study_name: name of the study in `storage`.
        storage: an Optuna storage or its URL, where the study is kept as well and gone on with if it is there; None
            keeps it in memory.
        seed: of the sampler, if that is not an instance; None takes the sweep's.
        evaluated_rewards: the known values of `points_to_evaluate`, which are then not run.
        constraints: bounds of other metrics, ``{"latency": 20}`` or ``{"latency": (low, high)}``, or a function of the
            last result whose values must not be above 0. Samplers that know of constraints prefer what keeps them.

    Raises:
        ValueError: a sampler that is not known, as many rewards as points, constraints that are none.
        ImportError: a package that the sampler needs is missing.
    """

    mode: str | list[str] | None
    metric: str | list[str] | None

    def __init__(
        self,
        space: SpaceLike | None = None,
        metric: str | list[str] | None = None,
        mode: str | list[str] | None = None,
        points_to_evaluate: Sequence[Config] | None = None,
        sampler: optuna.samplers.BaseSampler | str | None = None,
        *,
        study_name: str | None = None,
        storage: optuna.storages.BaseStorage | str | None = None,
        seed: int | None = None,
        evaluated_rewards: Sequence[float | list[float]] | None = None,
        constraints: Constraints | None = None,
    ) -> None:
        super().__init__(metric, mode)
        points = list(points_to_evaluate or [])
        rewards = None if evaluated_rewards is None else list(evaluated_rewards)
        if rewards is not None and len(rewards) != len(points):
            raise ValueError(f"there are {len(points)} points_to_evaluate but {len(rewards)} evaluated_rewards.")
        if isinstance(sampler, str):
            check_sampler(sampler)
        check_constraints(constraints)
        self._space = None if space is None else _checked(_native(space))
        self._own_space = space is not None
        self._constants: Config = {}
        self._points = points
        self._rewards = rewards
        self._sampler = sampler
        self.adaptive: bool = not (isinstance(sampler, str) and sampler in _BLIND)
        self._study_name = study_name
        self._storage = storage
        self._seed = seed
        self._constraints = constraints
        self._study: optuna.Study | None = None
        #: trials that run, by the controller's ids
        self._live: dict[str, optuna.Trial] = {}
        self._exhausted = False
        #: the points, as parameters
        self._fixed: list[dict[str, Any]] = []
        if self._space is not None:
            self._fixed = self._check_points(self._space)

    def set_search_properties(
        self, metric: str | list[str] | None, mode: str | list[str] | None, config: Any, **spec: Any
    ) -> bool:
        """Take the sweep's metric, mode, space, seed and constraints; see `Searcher.set_search_properties`."""
        self.metric, self.mode = self.metric or metric, self.mode or mode
        self._objectives()
        if not self._own_space:
            self._space = _checked(_native(config))
            self._fixed = self._check_points(self._space)
        elif callable(config) or has_domains(config):
            return False
        else:
            self._constants = config
        if self._constraints is None:
            self._constraints = spec.get("constraints")
            check_constraints(self._constraints)
        if self._seed is None:
            seed = spec.get("seed")
            self._seed = secrets.randbits(32) if seed is None else seed
        if isinstance(self._sampler, str):
            check_sampler(self._sampler, space=self._space)
        return True

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        """Return Optuna's next configuration; `FINISHED` once a grid is exhausted."""
        if self._exhausted:
            return self.FINISHED
        study = self._known_study()
        trial = study.ask()
        try:
            config = self._config(trial)
        except BaseException:
            self._tell(trial, None)
            raise
        self._live[trial_id] = trial
        return {**self._constants, **config} if self._constants else config

    def on_trial_result(self, trial_id: str, result: Result) -> None:
        """Keep the learning curve, if there is a storage for others to see it in: samplers make no use of it."""
        trial = self._live.get(trial_id)
        if self._storage is None or trial is None:
            return
        values = self._objectives().values(result)
        step = result.get("training_iteration")
        if values is not None and len(values) == 1 and step is not None:
            trial.report(values[0], int(step))

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Tell Optuna the values; a trial that failed, or lacks a metric or a constraint's, is told as failed."""
        trial = self._live.pop(trial_id, None)
        if trial is None:
            return
        values = None if error else self._objectives().values(result)
        broken = violations(self._constraints, result) if values is not None and result is not None else {}
        if broken is None:
            values = None
        elif broken:
            self._keep_constraints(trial, broken)
        self._tell(trial, values)

    def add_evaluated_point(
        self,
        config: Config,
        value: float | list[float],
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learn a configuration whose value is known.

        Args:
            config: a complete configuration.
            value: its value, or values for several objectives.
            error: whether it failed.
            pruned: whether it was stopped early.
            intermediate_values: its learning curve.

        Raises:
            ValueError: the configuration is not one of the space, or parts of it are missing.
        """
        study = self._known_study()
        self._add(study, self._known_space().point(config), value, error, pruned, intermediate_values)

    def search_space(self) -> Space | None:
        """Return the space."""
        return self._space

    def extend(self, num_samples: int, config: Config | None = None) -> None:
        """Go on, with all that was learned; in a changed space, with all of it that still fits.

        Raises:
            ValueError: a choice was changed although the study is in a storage, where it cannot be.
        """
        self._exhausted = False
        if config is None:
            return
        old, self._space = self._space, _checked(_native(config))
        if self._space.searches_like(old):
            return
        self._points, self._fixed = [], []
        if self._study is not None:
            changed = _changed_kinds(old, self._space)
            if changed and self._storage is not None:
                raise ValueError(f"the kinds and choices of {changed} cannot change in a study that is in a storage.")
            if changed or self._sampler == "grid":
                self._study = self._moved(self._study, self._space)

    def _known_space(self) -> Space:
        if self._space is None:
            raise RuntimeError("OptunaSearch has no search space: give it one, or config= to tune.run.")
        return self._space

    def _objectives(self) -> Objectives:
        return Objectives.of(self.metric, self.mode, searcher="OptunaSearch")

    def _known_study(self) -> optuna.Study:
        if self._study is None:
            space = self._known_space()
            self._study = self._new_study(space)
            for number, fixed in enumerate(self._fixed):
                if self._rewards is not None:
                    self._add(self._study, fixed, self._rewards[number])
                else:
                    with quiet():
                        self._study.enqueue_trial(fixed)
        return self._study

    def _new_study(self, space: Space, again: int = 0) -> optuna.Study:
        """Return an empty study; `again` keeps a second sampler from drawing what the first one drew."""
        import optuna  # noqa: PLC0415  a fifth of a second, for those who search with Optuna only

        modes = self._objectives().modes
        sampler = self._sampler
        if sampler is None or isinstance(sampler, str):
            old = not hasattr(optuna.Trial, "set_constraint")
            sampler = make_sampler(
                sampler or "tpe",
                seed=None if self._seed is None else self._seed + again,
                objectives=len(modes),
                space=space,
                constraints=constraints_of if old and self._constraints is not None else None,
            )
        with quiet():
            return optuna.create_study(
                storage=self._storage,
                sampler=sampler,
                pruner=optuna.pruners.NopPruner(),
                study_name=self._study_name or (None if self._storage is None else "optuna"),
                directions=["minimize" if mode == "min" else "maximize" for mode in modes],
                load_if_exists=True,
            )

    def _config(self, trial: optuna.Trial) -> Config:
        space = self._known_space()
        if isinstance(space, DefinedSpace):
            # The function sees Optuna's own trial, as in Ray.
            return space.assemble(space.function(trial), trial.params)
        seed = None if self._seed is None else (self._seed, trial.number)
        return space.resolve(lambda name, domain: suggest(trial, name, domain), seed=seed).config

    def _tell(self, trial: optuna.Trial, values: list[float] | None) -> None:
        import optuna  # noqa: PLC0415  as above

        study = trial.study
        state = optuna.trial.TrialState
        try:
            study.tell(trial, values, state=state.FAIL if values is None else state.COMPLETE)
        except RuntimeError:
            # These two end a study that they have searched whole, which only `study.optimize` understands.
            if not isinstance(study.sampler, optuna.samplers.GridSampler | optuna.samplers.BruteForceSampler):
                raise
            self._exhausted = True

    def _keep_constraints(self, trial: optuna.Trial, broken: dict[str, float]) -> None:
        if hasattr(trial, "set_constraint"):
            for name, amount in broken.items():
                trial.set_constraint(name, amount)
        else:
            trial.set_user_attr(_CONSTRAINTS, list(broken.values()))

    def _check_points(self, space: Space) -> list[dict[str, Any]]:
        return [space.point(point) for point in self._points]

    def _add(
        self,
        study: optuna.Study,
        params: Mapping[str, Any],
        value: float | list[float],
        error: bool = False,
        pruned: bool = False,
        curve: list[float] | None = None,
    ) -> None:
        import optuna  # noqa: PLC0415  as above

        space = self._known_space()
        _require_all(space, params)
        domains = space.domains_of(params)
        values = [float(one) for one in value] if isinstance(value, list | tuple) else [float(value)]
        failed = error or any(map(math.isnan, values))
        state = optuna.trial.TrialState
        study.add_trial(
            optuna.trial.create_trial(
                state=state.FAIL if failed else state.PRUNED if pruned else state.COMPLETE,
                values=None if failed else values,
                params={name: params[name] for name in domains},
                distributions={name: to_distribution(domain, name) for name, domain in domains.items()},
                intermediate_values=dict(enumerate(curve or [], start=1)),
            )
        )

    def _moved(self, study: optuna.Study, space: Space) -> optuna.Study:
        """Return a new study with the trials that fit a changed space; Optuna cannot change the choices of one."""
        if self._sampler is not None and not isinstance(self._sampler, str):
            raise ValueError(
                "the choices of the space changed, which a sampler given as an instance cannot follow. Give its name."
            )
        trials = [trial for trial in study.get_trials() if trial.state.is_finished() and _refitted(trial, space)]
        moved = self._new_study(space, again=len(study.get_trials(deepcopy=False)))
        moved.add_trials(trials)
        return moved


def _native(space: SpaceLike) -> Any:
    """Return a space in our own words: Ray's users may write Optuna's distributions."""
    if isinstance(space, dict) and space and all(_is_distribution(value) for value in space.values()):
        return from_distributions(space)
    return space


def _is_distribution(value: Any) -> bool:
    return any(kind.__module__.startswith("optuna.distributions") for kind in type(value).__mro__)


def _checked(space: SpaceLike) -> Space:
    whole = as_space(space)
    if isinstance(whole, SearchSpace):
        whole.check_searchable("Optuna")
    return whole


def _require_all(space: Space, params: Mapping[str, Any]) -> None:
    """Refuse parameters that leave one out of the configuration that they choose."""

    def recall(name: str, domain: Domain) -> Any:
        if name not in params:
            raise ValueError(f"an evaluated point needs all of its parameters; {name!r} is missing.")
        return params[name]

    space.resolve(recall)


def _changed_kinds(old: Space | None, new: Space) -> list[str]:
    """Return the parameters whose distributions Optuna would refuse in the old study."""
    if not isinstance(old, SearchSpace) or not isinstance(new, SearchSpace):
        return []
    return [
        name
        for name, domain in new.domains.items()
        if name in old.domains and not _compatible(old.domains[name], domain)
    ]


def _compatible(old: Domain, new: Domain) -> bool:
    before, after = describe(old), describe(new)
    if before is None or after is None or before[0] != after[0]:
        return False
    return before == after or after[0] != "CategoricalDistribution"


def _refitted(trial: optuna.trial.FrozenTrial, space: Space) -> bool:
    """Give a trial the distributions of a changed space; return False if its values do not fit them."""
    domains = space.domains if isinstance(space, SearchSpace) else {}
    distributions = dict(trial.distributions)
    for name, value in trial.params.items():
        if name not in domains:
            continue
        if domains[name].is_valid(value):
            distributions[name] = to_distribution(domains[name], name)
        elif type(to_distribution(domains[name], name)) is not type(distributions[name]) or isinstance(
            domains[name], Categorical
        ):
            return False
    trial.distributions = distributions
    return True
