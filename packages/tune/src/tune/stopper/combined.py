"""Several stoppers as one."""

from __future__ import annotations

from tune.argument_checks import instance
from tune.stopper.base import Stopper
from tune.trial import Result


class CombinedStopper(Stopper):
    """Stop when any of several stoppers says so. All of them see all results.

    Args:
        *stoppers: the stoppers.
    """

    def __init__(self, *stoppers: Stopper) -> None:
        self._stoppers = tuple(
            instance(
                "each part of CombinedStopper", stopper, Stopper, "A function goes into FunctionStopper(function)."
            )
            for stopper in stoppers
        )

    def __call__(self, trial_id: str, result: Result) -> bool:
        """Tell whether any ends the trial."""
        # all are asked before any is believed: a stopper that counts must also see what another one stops at
        answers = [stopper(trial_id, result) for stopper in self._stoppers]
        return any(answers)

    def stop_all(self) -> bool:
        """Tell whether any ends the sweep."""
        answers = [stopper.stop_all() for stopper in self._stoppers]
        return any(answers)

    def bounds(self) -> dict[str, float] | None:
        """Return the tightest bounds of all, None if any part is more than bounds."""
        merged: dict[str, float] = {}
        for stopper in self._stoppers:
            part = stopper.bounds()
            if part is None:
                return None
            for name, bound in part.items():
                merged[name] = min(bound, merged.get(name, bound))
        return merged
