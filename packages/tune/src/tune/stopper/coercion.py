"""What ``stop=`` takes becomes a stopper and bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tune.argument_checks import number
from tune.stopper.base import Stopper
from tune.stopper.combined import CombinedStopper
from tune.stopper.function import FunctionStopper


def coerce_stop(stop: Any) -> tuple[Stopper | None, dict[str, float]]:
    """Return the stopper that must look at results, if any, and the bounds that trials check for themselves.

    Args:
        stop: None; a dict of bounds (nested dicts, or ``a/b``, for nested metrics); a function
            ``(trial_id, result) -> bool``; a `Stopper`; or a list of stoppers.

    Raises:
        TypeError: none of these.
        ValueError: a bound that is not a finite number.
    """
    if stop is None:
        return None, {}
    if isinstance(stop, Mapping):
        return None, _bounds(stop)
    if isinstance(stop, type):
        raise TypeError(f"stop must be an instance: write stop={stop.__name__}(...), not the class {stop.__name__}.")
    if isinstance(stop, Sequence) and not isinstance(stop, str):
        stop = CombinedStopper(*stop)
    if not isinstance(stop, Stopper):
        if callable(stop) and not hasattr(stop, "stop_all"):
            return FunctionStopper(stop), {}
        raise TypeError(
            "stop must be a dict such as {'training_iteration': 10}, a function (trial_id, result) -> bool, "
            f"or a tune.Stopper; got {stop!r} ({type(stop).__name__})."
            + (" A class with stop_all must derive from tune.Stopper." if hasattr(stop, "stop_all") else "")
        )
    bounds = stop.bounds()
    if bounds is not None and type(stop).stop_all is Stopper.stop_all:
        return None, bounds  # the bounds say it all: nobody need be asked
    return stop, bounds or {}


def _bounds(stop: Mapping[Any, Any], prefix: str = "") -> dict[str, float]:
    bounds: dict[str, float] = {}
    for name, bound in stop.items():
        if not isinstance(name, str):
            raise TypeError(f"stop must name metrics by strings; got the key {name!r} ({type(name).__name__}).")
        if isinstance(bound, Mapping):
            bounds |= _bounds(bound, f"{prefix}{name}/")
        elif isinstance(bound, bool):  # Ray's own idiom: stop={"done": True}
            bounds[prefix + name] = float(bound)
        else:
            bounds[prefix + name] = number(f"stop[{prefix + name!r}]", bound)
    return bounds
