"""The contract of stoppers: when a trial, or the whole sweep, has had enough. Ray's names."""

from __future__ import annotations

from tune.trial import Result


class Stopper:
    """Base of all stoppers. A state machine; it must pickle.

    A stopper is called with every result, so each trial waits at each of its results while one is in use, except for
    those that say otherwise (`bounds`).
    """

    def __call__(self, trial_id: str, result: Result) -> bool:
        """Tell whether the trial ends with this result."""
        raise NotImplementedError

    def stop_all(self) -> bool:
        """Tell whether the whole sweep ends now. Asked after every result and at least once a second."""
        return False

    def bounds(self) -> dict[str, float] | None:
        """Return the rule as bounds that a trial can check for itself, None if it is more than that."""
        return None
