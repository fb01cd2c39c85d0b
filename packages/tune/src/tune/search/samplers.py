"""Optuna's samplers by name, made so that they do the same in Optuna 4.6 and 5."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tune.space import Domain, SearchSpace, Space
from tune.space.distributions import to_distribution

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

#: Name of a sampler, class in `optuna.samplers`, and the packages it needs beyond Optuna with what installs them.
_KNOWN: dict[str, tuple[str, dict[str, str]]] = {
    "tpe": ("TPESampler", {}),
    "random": ("RandomSampler", {}),
    "cmaes": ("CmaEsSampler", {"cmaes": "skate-tune[cmaes]"}),
    "gp": ("GPSampler", {"scipy": "scipy", "torch": "torch"}),
    "nsgaii": ("NSGAIISampler", {}),
    "nsgaiii": ("NSGAIIISampler", {}),
    "qmc": ("QMCSampler", {"scipy": "scipy"}),
    "grid": ("GridSampler", {}),
    "bruteforce": ("BruteForceSampler", {}),
}
#: Samplers that count constraints in.
_CONSTRAINED = frozenset({"tpe", "gp", "nsgaii", "nsgaiii"})

SAMPLERS = tuple(_KNOWN)

ConstraintsFunction = Callable[["FrozenTrial"], Sequence[float]]


def check_sampler(name: str, *, space: Space | None = None) -> None:
    """Refuse what `make_sampler` could not make, without importing Optuna.

    Raises:
        ValueError: there is no sampler of that name, or it cannot search the space.
        ImportError: a package it needs is missing.
    """
    if name not in _KNOWN:
        raise ValueError(f"there is no sampler {name!r}. Known: {', '.join(SAMPLERS)}, or an instance of Optuna's.")
    for package, install in _KNOWN[name][1].items():
        if find_spec(package) is None:
            raise ImportError(f"the sampler {name!r} needs the package {package!r}: pip install '{install}'")
    if name == "grid" and space is not None:
        _grid(space)


def make_sampler(
    name: str, *, seed: int | None, objectives: int, space: Space, constraints: ConstraintsFunction | None = None
) -> BaseSampler:
    """Make a sampler.

    Args:
        name: one of `SAMPLERS`.
        seed: of its generator, 32 bits of it are used.
        objectives: how many there are.
        space: what will be searched.
        constraints: for Optuna 4, whose samplers must be given the function that reads a trial's constraints.
    """
    check_sampler(name, space=space)
    import optuna.samplers  # noqa: PLC0415  a fifth of a second, for those who search with Optuna only

    arguments: dict[str, Any] = {} if seed is None else {"seed": seed % 2**32}
    if name == "tpe":
        # Optuna 5's defaults, said aloud so that Optuna 4 does the same.
        arguments |= {"multivariate": objectives == 1, "constant_liar": True}
    elif name == "cmaes":
        arguments["warn_independent_sampling"] = False
    elif name == "qmc":
        arguments |= {"scramble": True, "warn_independent_sampling": False, "warn_asynchronous_seeding": False}
    elif name == "grid":
        arguments["search_space"] = _grid(space)
    if constraints is not None and name in _CONSTRAINED:
        arguments["constraints_func"] = constraints
    with quiet():
        made: BaseSampler = getattr(optuna.samplers, _KNOWN[name][0])(**arguments)
    return made


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's remarks about experimental and deprecated features, and about new studies, from users of ours."""
    import optuna  # noqa: PLC0415  as above

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _grid(space: Space) -> dict[str, list[Any]]:
    if not isinstance(space, SearchSpace):
        raise TypeError("the sampler 'grid' cannot search a define-by-run space; 'bruteforce' can.")
    return {name: list(_values(name, domain)) for name, domain in space.domains.items()}


def _values(name: str, domain: Domain) -> Iterator[Any]:
    distribution: BaseDistribution = to_distribution(domain, name)
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return iter(choices)
    low, high = getattr(distribution, "low", 0), getattr(distribution, "high", 0)
    step = getattr(distribution, "step", None)
    if step is None:
        raise ValueError(f"the sampler 'grid' cannot search {name!r}: {domain.domain_str} has infinitely many values.")
    count = round((high - low) / step)
    return itertools.islice((low + number * step for number in itertools.count()), count + 1)
