"""Callbacks: code of the user's, and the loggers, that the controller runs in the driver. Ray's names.

The controller calls them in one thread, once a round, after the round's record is safe. A trial delivers results in
batches, so when `Callback.on_trial_result` is called the trial itself may be further than the result: look at
``result``, not at ``trial.last_result``. Each result is shown once, also if the driver or the trial died in between.
What a killed driver had recorded and not shown any more can be had by ``recorded`` (see `Callback.setup`).

What a callback raises ends the sweep with a `CallbackError` that names it, after everything is saved, because a logger
that fails silently loses results.
"""

from __future__ import annotations

from typing import Any

from tune.trial import CheckpointRecord, Result, Trial


class Callback:
    """Base of all callbacks; each hook does nothing. ``iteration`` counts the controller's rounds.

    ``trials`` is the list of all trials in order of creation: not a copy, not to be changed.
    """

    #: whether results come with what is the same for all of a trial (``config``, ``trial_id``, ``date``, ``pid``, ...),
    #: as Ray's do. Callbacks that add it themselves, or do without, say no to save the time.
    complete_results: bool = True

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Called once before anything runs.

        Args:
            stop: as in ``tune.run``.
            num_samples: as in ``tune.run``.
            total_num_samples: configurations in all, grid included; None if not known.
            **info: ``experiment_name`` (str), ``experiment_path`` (str: local directory of the experiment),
                ``metric``, ``mode``, ``searcher`` and ``scheduler`` (str: for people), ``resumed`` (bool), ``recorded``
                (a function of a trial's id: all results that the journal has of it, oldest first).
        """

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:
        """Called before each round."""

    def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
        """Called after each round, at least once a second: where batched output is flushed and pages are refreshed."""

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Called when a trial starts or goes on."""

    def on_trial_restore(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Called after a trial went on from a checkpoint."""

    def on_trial_save(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Called after a checkpoint of a trial is safe."""

    def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Result, **info: Any) -> None:
        """Called for every result, in order within a trial."""

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Called when a trial ended well."""

    def on_trial_recover(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Called when a trial failed and will be tried again."""

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Called when a trial failed for good."""

    def on_checkpoint(
        self, iteration: int, trials: Any, trial: Trial, checkpoint: CheckpointRecord, **info: Any
    ) -> None:
        """Called after a checkpoint of a trial is safe, with it."""

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Called once after everything ended, also after an error."""

    def get_state(self) -> dict[str, Any] | None:
        """Return what must survive a crash of the driver; None for nothing."""
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` returned, before `setup`'s run goes on."""
