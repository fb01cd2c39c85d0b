"""Report and checkpoint from a Lightning ``Trainer``. Ray's names. Needs ``skate-tune[lightning]``.

::

    def train(config):
        trainer = lightning.Trainer(max_epochs=10, callbacks=[TuneReportCheckpointCallback({"loss": "val_loss"})])
        checkpoint = TuneReportCheckpointCallback.checkpoint_path()
        trainer.fit(Model(config), ckpt_path=checkpoint)
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "tune.integration.pytorch_lightning needs Lightning; install it with: pip install skate-tune[lightning]"
    ) from error

import tune

#: the hooks that a report can be made at
HOOKS = ("train_epoch_end", "validation_end", "train_end", "test_end")


class TuneReportCheckpointCallback(Callback):  # type: ignore[misc]
    """Reports the trainer's metrics at a hook, with a checkpoint of the whole trainer.

    Args:
        metrics: which of ``trainer.callback_metrics`` to report: one name, several, a mapping of names to report to
            names of the trainer, or None for all.
        filename: name of the file within the checkpoint's directory.
        save_checkpoints: whether each report carries a checkpoint.
        on: when to report: one of ``"train_epoch_end"``, ``"validation_end"``, ``"train_end"``, ``"test_end"``,
            or several of them.

    Raises:
        ValueError: ``on`` names no such hook.
        KeyError: at the hook, the trainer has no metric of that name.
    """

    def __init__(
        self,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
        filename: str = "checkpoint",
        save_checkpoints: bool = True,
        on: str | Sequence[str] = "validation_end",
    ) -> None:
        super().__init__()
        hooks = (on,) if isinstance(on, str) else tuple(on)
        unknown = [hook for hook in hooks if hook.removeprefix("on_") not in HOOKS]
        if unknown:
            raise ValueError(f"on={unknown[0]!r} is no hook to report at; expected one of {', '.join(HOOKS)}")
        self._hooks = {hook.removeprefix("on_") for hook in hooks}
        self._names = _names(metrics)
        self._filename = filename
        self._save = save_checkpoints

    @staticmethod
    def checkpoint_path(filename: str = "checkpoint") -> str | None:
        """Return the file to go on from, for ``Trainer.fit(ckpt_path=...)``; None if the trial starts afresh.

        A copy that is removed when the process ends.
        """
        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            return None
        directory = tempfile.mkdtemp(prefix="tune-lightning-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        return str(Path(checkpoint.to_directory(directory)) / filename)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        self._at("train_epoch_end", trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        self._at("validation_end", trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        self._at("train_end", trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's hook."""
        self._at("test_end", trainer)

    def _at(self, hook: str, trainer: Trainer) -> None:
        if hook not in self._hooks or trainer.sanity_checking:
            return
        metrics = self._metrics(trainer)
        if not self._save:
            tune.report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="tune-lightning-") as directory:
            trainer.save_checkpoint(Path(directory) / self._filename)
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(directory))

    def _metrics(self, trainer: Trainer) -> dict[str, Any]:
        known = {name: value.item() for name, value in trainer.callback_metrics.items()}
        if self._names is None:
            return known
        missing = [source for source in self._names.values() if source not in known]
        if missing:
            raise KeyError(f"the trainer has no metric {missing[0]!r}; it has logged {sorted(known)}")
        return {name: known[source] for name, source in self._names.items()}


class TuneReportCallback(TuneReportCheckpointCallback):
    """Reports the trainer's metrics at a hook, without a checkpoint.

    Args:
        metrics: as in `TuneReportCheckpointCallback`.
        on: as in `TuneReportCheckpointCallback`.
    """

    def __init__(
        self,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
        on: str | Sequence[str] = "validation_end",
    ) -> None:
        super().__init__(metrics, save_checkpoints=False, on=on)


def _names(metrics: str | Sequence[str] | Mapping[str, str] | None) -> dict[str, str] | None:
    if metrics is None:
        return None
    if isinstance(metrics, str):
        return {metrics: metrics}
    return dict(metrics) if isinstance(metrics, Mapping) else {name: name for name in metrics}
