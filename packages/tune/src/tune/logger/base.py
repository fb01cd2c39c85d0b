"""The base of loggers: Ray's five hooks, made of the callbacks' ten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tune.callback import Callback
from tune.trial import Result, Trial


class LoggerCallback(Callback):
    """Base of loggers: override the ``log_trial_*`` methods you need; each does nothing by default.

    Overriding `setup` is fine; call ``super().setup(...)`` if you use `trial_path`.
    """

    _experiment_path: Path | None = None

    def setup(
        self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any
    ) -> None:
        """Learn where the experiment lies; see `tune.callback.Callback.setup`."""
        path = info.get("experiment_path")
        self._experiment_path = None if path is None else Path(path)

    def trial_path(self, trial: Trial) -> Path:
        """Return the local directory of a trial, made if it was not there.

        Raises:
            RuntimeError: `setup` has not been called.
        """
        if self._experiment_path is None:
            raise RuntimeError(
                f"{type(self).__name__} does not know its experiment's directory yet: it is told in setup(), "
                "and an overriding setup() must call super().setup(...)"
            )
        path = self._experiment_path / trial.dirname
        if not path.is_dir():  # asking is cheaper than trying, and there are three loggers
            path.mkdir(parents=True, exist_ok=True)
        return path

    def log_trial_start(self, trial: Trial) -> None:
        """Log that a trial starts or goes on."""

    def log_trial_restore(self, trial: Trial) -> None:
        """Log that a trial went on from a checkpoint."""

    def log_trial_save(self, trial: Trial) -> None:
        """Log that a checkpoint of a trial is safe."""

    def log_trial_result(self, iteration: int, trial: Trial, result: Result) -> None:
        """Log one result; ``iteration`` counts the controller's rounds."""

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Log that a trial ended, well or in an error for good."""

    def on_trial_start(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Call `log_trial_start`."""
        self.log_trial_start(trial)

    def on_trial_restore(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Call `log_trial_restore`."""
        self.log_trial_restore(trial)

    def on_trial_save(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Call `log_trial_save`."""
        self.log_trial_save(trial)

    def on_trial_result(self, iteration: int, trials: Any, trial: Trial, result: Result, **info: Any) -> None:
        """Call `log_trial_result`."""
        self.log_trial_result(iteration, trial, result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Call `log_trial_end`."""
        self.log_trial_end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        """Call `log_trial_end` with ``failed=True``."""
        self.log_trial_end(trial, failed=True)
