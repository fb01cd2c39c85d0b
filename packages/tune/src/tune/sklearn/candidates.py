"""From scikit-learn's ``param_distributions`` to Tune's: lists, scipy distributions and Tune's own domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.model_selection import ParameterSampler

import tune
from tune.space.domains import Domain

Distributions = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def has_domains(distributions: Distributions) -> bool:
    """Tell whether Tune's own domains occur, which scikit-learn's sampler does not know."""
    parts = [distributions] if isinstance(distributions, Mapping) else distributions
    return any(isinstance(value, Domain) for part in parts for value in part.values())


def sampled(distributions: Distributions, n_iter: int, random_state: Any) -> list[dict[str, Any]]:
    """Draw the candidates that ``RandomizedSearchCV`` would draw from the same arguments, in its order."""
    return list(ParameterSampler(distributions, n_iter, random_state=random_state))


def space(distributions: Distributions) -> dict[str, Any]:
    """Return ``param_distributions`` as a space of Tune.

    Raises:
        TypeError: several alternative dictionaries, or a distribution with no counterpart, named with its parameter.
    """
    if not isinstance(distributions, Mapping):
        raise TypeError(
            "a list of param_distributions can only be searched with search_alg='random'; "
            "give one dictionary, with tune.choice for alternatives"
        )
    return {name: _domain(name, value) for name, value in distributions.items()}


def _domain(name: str, value: Any) -> Any:
    if isinstance(value, Domain):
        return value
    if hasattr(value, "rvs"):
        return _from_scipy(name, value)
    return tune.choice(list(value))


def _from_scipy(name: str, frozen: Any) -> Any:
    kind = getattr(getattr(frozen, "dist", None), "name", type(frozen).__name__)
    bounds: tuple[Any, Any] = frozen.support() if hasattr(frozen, "support") else (None, None)
    low, high = bounds
    match kind:
        case "uniform":
            return tune.uniform(float(low), float(high))
        case "loguniform" | "reciprocal":
            return tune.loguniform(float(low), float(high))
        case "randint":
            return tune.randint(int(low), int(high) + 1)  # support() includes its upper end
        case _:
            raise TypeError(
                f"param_distributions[{name!r}] is scipy's {kind!r}, which only search_alg='random' can draw from; "
                "others take lists, scipy's uniform, loguniform and randint, and Tune's own domains"
            )
