"""A search space as a cube: every parameter one coordinate in [0, 1], for optimizers that know vectors only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tune.space.define_by_run import Stepped
from tune.space.domains import Categorical, Domain, Float, Integer, same
from tune.space.search_space import SearchSpace


class UnitCube:
    """Translates between points of the unit cube and parameters.

    Each of the discrete values of a parameter has an interval of the same length (in the logarithm, if it is searched
    so). Parameters of options that are not chosen have coordinates without effect.

    Args:
        space: the space; it must be searchable (`SearchSpace.check_searchable`).
    """

    def __init__(self, space: SearchSpace) -> None:
        self.names: list[str] = list(space.domains)
        self._domains: list[Domain] = list(space.domains.values())

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return len(self.names)

    def params(self, point: Sequence[float]) -> dict[str, Any]:
        """Return the parameters at a point; coordinates outside of [0, 1] count as its ends.

        Raises:
            ValueError: the point has another number of coordinates.
        """
        if len(point) != self.size:
            raise ValueError(f"a point of this space has {self.size} coordinates, got {len(point)}.")
        return {
            name: _value(domain, min(max(float(u), 0.0), 1.0))
            for name, domain, u in zip(self.names, self._domains, point, strict=True)
        }

    def point(self, params: Mapping[str, Any]) -> list[float]:
        """Return the point of some parameters, at the middle of intervals; 0.5 for those that are not given."""
        return [
            _coordinate(domain, params[name]) if name in params else 0.5
            for name, domain in zip(self.names, self._domains, strict=True)
        ]


def _value(domain: Domain, u: float) -> Any:
    if isinstance(domain, Categorical):
        return domain.categories[min(int(u * len(domain.categories)), len(domain.categories) - 1)]
    if not isinstance(domain, Integer | Float | Stepped):
        raise TypeError(f"{domain.domain_str} has no bounds.")
    low, high, log = _range(domain)
    value = math.exp(math.log(low) + u * (math.log(high) - math.log(low))) if log else low + u * (high - low)
    return domain.settle(value)


def _coordinate(domain: Domain, value: Any) -> float:
    if isinstance(domain, Categorical):
        number = next(number for number, category in enumerate(domain.categories) if same(category, value))
        return (number + 0.5) / len(domain.categories)
    if not isinstance(domain, Integer | Float | Stepped):
        raise TypeError(f"{domain.domain_str} has no bounds.")
    low, high, log = _range(domain)
    if high == low:
        return 0.5
    if log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return float((value - low) / (high - low))


def _range(domain: Integer | Float | Stepped) -> tuple[float, float, bool]:
    """Return the ends of the interval whose values are rounded into the domain."""
    if isinstance(domain, Integer):
        return domain.first - domain.q / 2, domain.last + domain.q / 2, domain.log
    if isinstance(domain, Stepped):
        return domain.low - domain.step / 2, domain.settle(domain.high) + domain.step / 2, False
    if domain.q is not None and not domain.log:
        return domain.settle(domain.lower) - domain.q / 2, domain.settle(domain.upper) + domain.q / 2, False
    return domain.lower, domain.upper, domain.log
