"""A function as a stopper."""

from __future__ import annotations

from collections.abc import Callable

from tune.argument_checks import function as checked_function
from tune.stopper.base import Stopper
from tune.trial import Result


class FunctionStopper(Stopper):
    """End a trial when a function says so.

    Args:
        function: ``(trial_id, result) -> bool``, asked at each result of each trial.
    """

    def __init__(self, function: Callable[[str, Result], bool]) -> None:
        self._function = checked_function("FunctionStopper's function", function, "(trial_id, result) -> bool")

    def __call__(self, trial_id: str, result: Result) -> bool:
        """Ask the function."""
        return bool(self._function(trial_id, result))
