"""How population based training changes a configuration."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tune.space.domains import Categorical, Domain, Float, Function, Integer, same
from tune.trial import Config

#: Names of parameters to how they change: a list of values in order, a domain, a function without arguments that draws
#: a value, or a dict of the same for nested parameters.
Mutations = Mapping[str, Any]


def check_mutations(name: str, mutations: Mutations) -> None:
    """Check the argument `name`.

    Raises:
        TypeError: a value is nothing to mutate by; its path is named.
        ValueError: a value is a `sample_from`, or an empty list.
    """
    for key, how in mutations.items():
        if isinstance(how, Function):
            raise ValueError(  # noqa: TRY004 - it is a domain, but none that can be drawn from alone
                f"{name}[{key!r}] is a sample_from: use tune.uniform(...) and the like, or a function"
            )
        if isinstance(how, Mapping):
            check_mutations(f"{name}[{key!r}]", how)
        elif isinstance(how, list | tuple):
            if not how:
                raise ValueError(f"{name}[{key!r}] is an empty list: give the values that {key} may take")
        elif not isinstance(how, Domain) and not callable(how):
            raise TypeError(
                f"{name}[{key!r}] must be a list of values, a domain such as tune.loguniform(1e-4, 1e-1), a function "
                f"without arguments, or a dict of these, not {type(how).__name__}"
            )


def fill(config: Config, mutations: Mutations, rng: random.Random) -> Config | None:
    """Return the configuration with what it lacks of the mutated parameters drawn; None if it lacks nothing."""
    filled = {}
    for key, how in mutations.items():
        if isinstance(how, Mapping):
            nested = fill(config.get(key, {}), how, rng)
            if nested is not None:
                filled[key] = nested
        elif key not in config:
            filled[key] = draw(how, rng)
    return {**config, **filled} if filled else None


def draw(how: Any, rng: random.Random) -> Any:
    """Draw a value for a parameter."""
    if isinstance(how, list | tuple):
        return rng.choice(how)
    if isinstance(how, Domain):
        return how.sample(random_state=rng.getrandbits(64))
    return how()


def explore(
    config: Config,
    mutations: Mutations,
    resample_probability: float,
    perturbation_factors: Sequence[float],
    rng: random.Random,
) -> tuple[Config, dict[str, Any]]:
    """Return a changed copy of a configuration, and what was done to each parameter, for people.

    A parameter is drawn anew with `resample_probability`. Otherwise one from a list (or a `choice`) moves to a
    neighbour in the list, and a number is multiplied by one of the factors; a whole number stays one, and what has a
    domain with bounds stays within them.
    """
    changed = copy.deepcopy(config)
    done: dict[str, Any] = {}
    for key, how in mutations.items():
        if isinstance(how, Mapping):
            changed[key], done[key] = explore(config[key], how, resample_probability, perturbation_factors, rng)
        elif isinstance(how, list | tuple | Categorical):
            values = how.categories if isinstance(how, Categorical) else how
            changed[key], done[key] = _shift(config[key], values, resample_probability, rng)
        else:
            changed[key], done[key] = _scale(config[key], how, resample_probability, perturbation_factors, rng)
    return changed, done


def selected(config: Mapping[str, Any], mutations: Mutations) -> Config:
    """Return the mutated parameters of a configuration alone."""
    return {
        key: selected(config[key], how) if isinstance(how, Mapping) else config[key]
        for key, how in mutations.items()
        if key in config
    }


def _shift(value: Any, values: Sequence[Any], resample_probability: float, rng: random.Random) -> tuple[Any, str]:
    place = next((index for index, other in enumerate(values) if same(value, other)), None)
    if rng.random() < resample_probability or place is None:
        return rng.choice(values), "resample"
    step = rng.choice((-1, 1))
    return values[min(max(place + step, 0), len(values) - 1)], f"shift {'left' if step < 0 else 'right'}"


def _scale(
    value: Any,
    how: Domain | Callable[[], Any],
    resample_probability: float,
    factors: Sequence[float],
    rng: random.Random,
) -> tuple[Any, str]:
    if rng.random() < resample_probability:
        new, done = draw(how, rng), "resample"
    else:
        factor = rng.choice(factors)
        new, done = value * factor, f"* {factor:g}"
    if isinstance(value, bool):
        return bool(new), done
    if isinstance(value, int):
        new = round(new)
    if isinstance(how, Float | Integer):
        new = how.settle(new)
    return new, done
