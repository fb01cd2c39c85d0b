"""`Trainable`: a trial as a class that is trained step by step. Ray's class."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec

from tune import result as names
from tune.checkpoint import Checkpoint
from tune.trial import ResourceRequest, Result

#: File in a checkpoint with what `Trainable.save_checkpoint` returned, if that was a dictionary.
_DICTIONARY = "dict_checkpoint.pkl"
#: Keys of a checkpoint's metadata.
_ITERATION, _TIME_TOTAL = "iteration", "time_total_s"


class TrialFacts(msgspec.Struct, frozen=True):
    """What an instance knows of the trial it is."""

    trial_id: str = "default"
    trial_name: str = "default"
    resources: ResourceRequest = ResourceRequest()
    #: directory of the trial on this machine; empty outside of a trial
    logdir: str = ""
    #: to count on from
    iteration: int = 0
    time_total_s: float = 0.0


class Trainable:
    """Base class of trainables: override `setup`, `step`, and to be paused or resumed the two checkpoint methods.

    A trial makes an instance and calls `setup`, then `step` again and again until a result has ``done=True``, a stop
    rule holds, or the scheduler says so; then `cleanup`. Outside of a sweep, ``Trainable(config).train()`` does a step.

    Example::

        class Parabola(tune.Trainable):
            def setup(self, config):
                self.x = config["x"]

            def step(self):
                self.x *= 0.9
                return {"loss": self.x**2}

            def save_checkpoint(self, checkpoint_dir):
                return {"x": self.x}

            def load_checkpoint(self, checkpoint):
                self.x = checkpoint["x"]

    Args:
        config: the trial's configuration.
    """

    #: set by `begin` before `__init__` runs in a trial
    _facts: TrialFacts = TrialFacts()
    _iteration: int = 0
    _time_total: float = 0.0
    _own_logdir: str = ""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config: dict[str, Any] = config or {}
        self.setup(copy.deepcopy(self.config))

    # -- to override ------------------------------------------------------------------------------------------------

    def setup(self, config: dict[str, Any]) -> None:
        """Make what the training needs. Called once per instance, with a copy of the configuration."""

    def step(self) -> Result:
        """Train a little and return metrics. ``done=True`` among them ends the trial."""
        raise NotImplementedError(f"{type(self).__name__} must define step()")

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | str | os.PathLike[str] | None:
        """Save the state.

        Args:
            checkpoint_dir: an empty directory to write to.

        Returns:
            None if it was written there, a dictionary to be pickled, or the path of another directory that has it.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no save_checkpoint(), so it cannot be saved")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go back to a saved state.

        Args:
            checkpoint: the dictionary that `save_checkpoint` returned, else the path of a directory with its files. Do
                not write there, and keep nothing from there: it may go away afterwards.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no load_checkpoint(), so it cannot be restored")

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Make this instance serve another trial without `setup`; return whether that was done.

        Instances of classes that define it are kept between trials. What an earlier trial learned must be forgotten.
        """
        return False

    def cleanup(self) -> None:
        """Free what `setup` took. Called once at the end, whatever came before."""

    def log_result(self, result: Result) -> None:
        """Called with each result of `step` before it is reported; may add to it."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """Return what a trial of this configuration needs (a dict, or a `ResourceRequest`); None for one CPU."""
        return None

    @classmethod
    def resource_help(cls, config: dict[str, Any]) -> str:
        """Return a hint on how to choose resources, for messages."""
        return ""

    def _export_model(self, export_formats: list[str], export_dir: str) -> dict[str, str]:
        """Write the model in the formats asked for; return format to path. Override to support `export_model`."""
        return {}

    # -- to call ----------------------------------------------------------------------------------------------------

    def train(self) -> Result:
        """Do one step outside of a sweep; return its result, completed with the automatic metrics that change."""
        started = time.monotonic()
        result = dict(self.step())
        self._iteration += 1
        elapsed = time.monotonic() - started
        self._time_total += elapsed
        result |= {
            names.TRAINING_ITERATION: self._iteration,
            names.TIME_THIS_ITER_S: elapsed,
            names.TIME_TOTAL_S: self._time_total,
            names.TIMESTAMP: int(time.time()),
        }
        result.setdefault(names.DONE, False)
        self.log_result(result)
        return result

    def save(self, checkpoint_dir: str | os.PathLike[str] | None = None) -> Checkpoint:
        """Save the state and return the checkpoint.

        Args:
            checkpoint_dir: where to write; None for a new temporary directory, which is the caller's to delete.

        Raises:
            TypeError: `save_checkpoint` returned something else than it may.
        """
        directory = tempfile.mkdtemp(prefix="checkpoint-") if checkpoint_dir is None else os.fspath(checkpoint_dir)
        Path(directory).mkdir(parents=True, exist_ok=True)
        saved = self.save_checkpoint(directory)
        if isinstance(saved, dict):
            Path(directory, _DICTIONARY).write_bytes(cloudpickle.dumps(saved))
        elif isinstance(saved, str | os.PathLike):
            directory = _directory_of(os.fspath(saved), directory)
        elif saved is not None:
            raise TypeError(
                f"{type(self).__name__}.save_checkpoint() must return None, a dict or a path, got "
                f"{type(saved).__name__}"
            )
        checkpoint = Checkpoint(directory)
        checkpoint.update_metadata({_ITERATION: self._iteration, _TIME_TOTAL: self._time_total})
        return checkpoint

    def restore(self, checkpoint: Checkpoint | str | os.PathLike[str]) -> None:
        """Go back to a checkpoint of `save`, or to a path of one.

        Raises:
            FileNotFoundError: it is gone.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(checkpoint)
        with checkpoint.as_directory() as directory:
            dictionary = Path(directory, _DICTIONARY)
            self.load_checkpoint(cloudpickle.loads(dictionary.read_bytes()) if dictionary.exists() else directory)
            if not self._facts.logdir:
                metadata = Checkpoint(directory).get_metadata()
                self._iteration = int(metadata.get(_ITERATION, 0))
                self._time_total = float(metadata.get(_TIME_TOTAL, 0.0))

    def export_model(self, export_formats: list[str] | str, export_dir: str | None = None) -> dict[str, str]:
        """Write the model in some formats; return format to path.

        Args:
            export_formats: names that `_export_model` knows.
            export_dir: where to; None for `logdir`.
        """
        formats = [export_formats] if isinstance(export_formats, str) else export_formats
        return self._export_model(formats, export_dir or self.logdir)

    def reset(self, new_config: dict[str, Any]) -> bool:
        """Make this instance serve another configuration; return whether it can."""
        if not self.reset_config(new_config):
            return False
        self.config = new_config
        self._iteration, self._time_total = 0, 0.0
        return True

    def stop(self) -> None:
        """End it: calls `cleanup`."""
        self.cleanup()

    def get_config(self) -> dict[str, Any]:
        """Return the configuration."""
        return self.config

    # -- facts ------------------------------------------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """Number of steps done, those of earlier attempts included."""
        return self._iteration

    @property
    def training_iteration(self) -> int:
        """Same as `iteration`."""
        return self._iteration

    @property
    def logdir(self) -> str:
        """Directory of the trial on this machine; outside of a sweep a new temporary one."""
        if self._facts.logdir:
            return self._facts.logdir
        if not self._own_logdir:
            self._own_logdir = tempfile.mkdtemp(prefix="trainable-")
        return self._own_logdir

    @property
    def trial_id(self) -> str:
        """The trial's id; ``"default"`` outside of a sweep."""
        return self._facts.trial_id

    @property
    def trial_name(self) -> str:
        """The trial's name; ``"default"`` outside of a sweep."""
        return self._facts.trial_name

    @property
    def trial_resources(self) -> ResourceRequest:
        """What the trial may use."""
        return self._facts.resources

    # -- for the trial's process ------------------------------------------------------------------------------------

    @classmethod
    def can_save(cls) -> bool:
        """Tell whether the class defines `save_checkpoint`."""
        return cls.save_checkpoint is not Trainable.save_checkpoint

    def begin(self, facts: TrialFacts) -> None:
        """Become this trial. Called by the trial's process before `__init__` or `reset_config`."""
        self._facts = facts
        self._iteration = facts.iteration
        self._time_total = facts.time_total_s

    def advance(self, iteration: int) -> None:
        """A step of this number was done."""
        self._iteration = iteration


def _directory_of(saved: str, given: str) -> str:
    """Return the directory that a path from `save_checkpoint` means: the given one if it is in there, or its own."""
    path = Path(saved).absolute()
    if path.is_relative_to(Path(given).absolute()):
        return given
    if not path.is_dir():
        raise TypeError(f"save_checkpoint() returned {saved!r}, which is neither in {given!r} nor a directory")
    return str(path)
