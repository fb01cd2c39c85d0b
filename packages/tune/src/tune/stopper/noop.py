"""The stopper that stops nothing."""

from __future__ import annotations

from tune.stopper.base import Stopper
from tune.trial import Result


class NoopStopper(Stopper):
    """Stops nothing; trials do not wait for it."""

    def __call__(self, trial_id: str, result: Result) -> bool:
        """Return False."""
        return False

    def bounds(self) -> dict[str, float]:
        """Return no bounds."""
        return {}
