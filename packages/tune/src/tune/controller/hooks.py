"""Calling the callbacks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from tune.callback import Callback
from tune.errors import CallbackError
from tune.result import complete
from tune.trial import CheckpointRecord, Result, Trial

logger = logging.getLogger("tune")

#: seconds that one call may take before the user is told, once for each callback and hook
_SLOW = 0.5

_TRIAL_HOOKS = (
    "on_trial_start",
    "on_trial_restore",
    "on_trial_save",
    "on_trial_result",
    "on_trial_complete",
    "on_trial_recover",
    "on_trial_error",
    "on_checkpoint",
    "on_step_begin",
    "on_step_end",
)


class Hooks:
    """Calls the hooks of all callbacks, in order; those that do nothing are not called.

    Args:
        callbacks: the user's and the loggers.
        trials: what they may see of all trials.
    """

    def __init__(self, callbacks: Sequence[Callback], trials: Sequence[Trial]) -> None:
        self._callbacks = callbacks
        self._trials = trials
        #: number of the round
        self.iteration = 0
        self._slow: set[str] = set()
        self._methods = {name: [m for c in callbacks if (m := _overridden(c, name))] for name in _TRIAL_HOOKS}
        wanting = [callback for callback in callbacks if callback.complete_results]
        self._wanting = {m for c in wanting if (m := _overridden(c, "on_trial_result"))}

    def listens(self, name: str) -> bool:
        """Tell whether any callback has this hook."""
        return bool(self._methods[name])

    def result(self, trial: Trial, result: Result) -> None:
        """Call ``on_trial_result``.

        Raises:
            CallbackError: one raised.
        """
        whole = complete(trial, result) if self._wanting else result
        for method in self._methods["on_trial_result"]:
            shown = whole if method in self._wanting else result
            self._call(method, iteration=self.iteration, trials=self._trials, trial=trial, result=shown)

    def trial(self, name: str, trial: Trial, checkpoint: CheckpointRecord | None = None) -> None:
        """Call another hook about a trial.

        Raises:
            CallbackError: one raised.
        """
        extra = {} if checkpoint is None else {"checkpoint": checkpoint}
        for method in self._methods[name]:
            self._call(method, iteration=self.iteration, trials=self._trials, trial=trial, **extra)

    def step(self, name: str) -> None:
        """Call a hook about the round."""
        for method in self._methods[name]:
            self._call(method, iteration=self.iteration, trials=self._trials)

    def setup(self, **info: Any) -> None:
        """Call ``setup`` of all."""
        for callback in self._callbacks:
            self._call(callback.setup, **info)

    def experiment_end(self) -> list[CallbackError]:
        """Call ``on_experiment_end`` of all, also of those after one that raises; return what was raised."""
        errors = []
        for callback in self._callbacks:
            try:
                self._call(callback.on_experiment_end, trials=self._trials)
            except CallbackError as error:
                errors.append(error)
        return errors

    def _call(self, method: Callable[..., Any], **arguments: Any) -> None:
        began = time.perf_counter()
        try:
            method(**arguments)
        except Exception as error:
            raise CallbackError(
                f"{method.__qualname__} of a callback raised {type(error).__name__}: {error}"
            ) from error
        taken = time.perf_counter() - began
        if taken > _SLOW and method.__qualname__ not in self._slow and method.__name__ not in _MAY_TAKE_LONG:
            self._slow.add(method.__qualname__)
            logger.warning("%s took %.1f s; the sweep waits for it each time", method.__qualname__, taken)


_MAY_TAKE_LONG = frozenset({"setup", "on_experiment_end"})


def _overridden(callback: Callback, name: str) -> Callable[..., Any] | None:
    """Return a hook, None if the callback has it only from the base class."""
    method: Callable[..., Any] = getattr(callback, name)
    own = getattr(method, "__func__", None)
    return None if own is getattr(Callback, name) else method
