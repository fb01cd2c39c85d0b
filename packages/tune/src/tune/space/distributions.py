"""Domains to Optuna's distributions and back.

What cannot be said in Optuna exactly is searched in the nearest distribution and rounded afterwards (`settle`):
logarithmic domains with a step. A choice of values that are not plain is searched by its labels; a conditional space
becomes one parameter for each choice and one for each parameter of each option.

`describe` and `as_json` do without importing Optuna; they are what the study file is written with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tune.space.define_by_run import Stepped
from tune.space.domains import Categorical, Domain, Float, Integer, Normal, first_multiple, last_multiple
from tune.space.search_space import SearchSpace, Space, as_space
from tune.space.tree import PLAIN
from tune.trial import Config

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

#: So many standard deviations on either side show a normal distribution whole.
_WHOLE = 10


def describe(domain: Domain) -> tuple[str, dict[str, Any]] | None:
    """Return the name and arguments of the Optuna distribution of a domain, None if there is none."""
    if isinstance(domain, Categorical):
        plain = all(isinstance(category, PLAIN) for category in domain.categories)
        return ("CategoricalDistribution", {"choices": domain.categories}) if plain else None
    if isinstance(domain, Integer):
        step = 1 if domain.log else domain.q
        return "IntDistribution", {"log": domain.log, "step": step, "low": domain.first, "high": domain.last}
    if isinstance(domain, Stepped):
        return _describe_stepped(domain)
    if isinstance(domain, Float):
        if domain.q is None or domain.log:
            return "FloatDistribution", {"step": None, "low": domain.lower, "high": domain.upper, "log": domain.log}
        bounds = {"low": domain.settle(domain.lower), "high": domain.settle(domain.upper)}
        return "FloatDistribution", {"step": domain.q, **bounds, "log": False}
    return None


def as_json(domain: Domain) -> str | None:
    """Return the distribution as Optuna writes it into a storage; None if a value of the domain is no parameter.

    A normal distribution is written as the range that holds all of it.
    """
    if isinstance(domain, Normal):
        reach = _WHOLE * domain.sd
        domain = Float(domain.mean - reach, domain.mean + reach)
    described = describe(domain)
    if described is None:
        return None
    name, attributes = described
    return json.dumps({"name": name, "attributes": attributes})


def to_distribution(domain: Domain, name: str = "parameter") -> BaseDistribution:
    """Return the Optuna distribution of a domain.

    Raises:
        ValueError: Optuna cannot search it; `name` says where it was.
    """
    described = describe(domain)
    if described is None:
        raise ValueError(f"{name!r} is {domain.domain_str}, for which Optuna has no distribution.")
    import optuna.distributions  # noqa: PLC0415  a fifth of a second, for those who search with Optuna only

    kind, attributes = described
    made: BaseDistribution = getattr(optuna.distributions, kind)(**attributes)
    return made


def to_distributions(space: Space | Config) -> dict[str, BaseDistribution]:
    """Return the Optuna distributions of all parameters of a space, by name; those of all options of all choices.

    Raises:
        ValueError: the space has a grid_search or another thing that Optuna cannot search, named by its path.
        TypeError: the space is a function; its parameters are not known before it runs.
    """
    whole = as_space(space)
    if not isinstance(whole, SearchSpace):
        raise TypeError("the parameters of a define-by-run space are not known before it runs.")
    whole.check_searchable("Optuna")
    return {name: to_distribution(domain, name) for name, domain in whole.domains.items()}


def from_distribution(distribution: BaseDistribution) -> Domain:
    """Return the domain of an Optuna distribution.

    Raises:
        TypeError: it is not one of Optuna's three.
    """
    import optuna.distributions as known  # noqa: PLC0415  as above

    if isinstance(distribution, known.CategoricalDistribution):
        return Categorical(tuple(distribution.choices))
    if isinstance(distribution, known.FloatDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if step is None:
            return Float(low, high, log=distribution.log)
        return Float(low, high, q=step) if _is_multiple(low, step) else Stepped(low, high, step)
    if isinstance(distribution, known.IntDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if step == 1:
            return Integer(low, high + 1, log=distribution.log)
        return Integer(low, high, q=step) if low % step == 0 else Stepped(low, high, step, whole=True)
    raise TypeError(f"{distribution!r} is not an Optuna distribution.")


def from_distributions(distributions: Mapping[str, BaseDistribution]) -> Config:
    """Return the search space of Optuna distributions; names stay as they are, slashes and all."""
    return {name: from_distribution(distribution) for name, distribution in distributions.items()}


def suggest(trial: BaseTrial, name: str, domain: Domain) -> Any:
    """Return what an Optuna trial suggests for a parameter.

    Raises:
        ValueError: Optuna cannot search the domain.
    """
    described = describe(domain)
    if described is None:
        raise ValueError(f"{name!r} is {domain.domain_str}, for which Optuna has no distribution.")
    kind, given = described
    if kind == "CategoricalDistribution":
        return trial.suggest_categorical(name, given["choices"])
    if kind == "IntDistribution":
        whole = trial.suggest_int(name, given["low"], given["high"], step=given["step"], log=given["log"])
        return domain.settle(whole) if isinstance(domain, Integer) and domain.log else whole
    real = trial.suggest_float(name, given["low"], given["high"], step=given["step"], log=given["log"])
    return domain.settle(real) if isinstance(domain, Float) and domain.log else real


def internal(domain: Domain, value: Any) -> float | None:
    """Return the number by which Optuna stores a value, None if the value does not belong to the domain."""
    if isinstance(domain, Categorical):
        for number, category in enumerate(domain.categories):
            if value is category or (type(value) is type(category) and value == category):
                return number
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _describe_stepped(domain: Stepped) -> tuple[str, dict[str, Any]]:
    high = domain.settle(domain.high)
    if domain.whole:
        return "IntDistribution", {"log": False, "step": int(domain.step), "low": int(domain.low), "high": int(high)}
    return "FloatDistribution", {"step": domain.step, "low": domain.low, "high": high, "log": False}


def _is_multiple(low: float, step: float) -> bool:
    return first_multiple(low, step) == last_multiple(low, step)
