"""Report and checkpoint from a PyTorch training loop. Needs PyTorch.

::

    def train(config):
        model = Net(config["hidden"])
        optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
        report = TuneReportCheckpoint(model=model, optimizer=optimizer)
        for epoch in range(report.epoch, 20):
            loss = one_epoch(model, optimizer)
            report({"loss": loss})

A trial that was paused, exploited (PBT) or restarted goes on where its newest checkpoint stands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("tune.integration.torch needs PyTorch; install it with: pip install torch") from error

import tune

_FILE = "state.pt"


class Stateful(Protocol):
    """Whatever has a state: modules, optimizers, learning-rate schedulers, gradient scalers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take a state over."""


class TuneReportCheckpoint:
    """Callable that saves what it was given and reports; takes the newest checkpoint over when it is made.

    Args:
        every: save with every so many reports; 0 never saves.
        **parts: what to save and restore, by name.

    Attributes:
        epoch: reports that the restored checkpoint had seen, 0 without one: where the loop begins.

    Raises:
        ValueError: ``every`` is negative, or the checkpoint was made with other parts.
    """

    def __init__(self, *, every: int = 1, **parts: Stateful) -> None:
        if every < 0:
            raise ValueError(f"every must be 0 (never) or more, not {every!r}")
        self._every = every
        self._parts = parts
        self.epoch = self._restore()

    def __call__(self, metrics: Mapping[str, Any]) -> None:
        """Report the metrics of one epoch, with a checkpoint if its turn has come.

        Args:
            metrics: names to values; tensors of one element become numbers.
        """
        self.epoch += 1
        plain = {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in metrics.items()}
        if not self._every or self.epoch % self._every:
            tune.report(plain)
            return
        with tempfile.TemporaryDirectory(prefix="tune-torch-") as directory:
            state = {"epoch": self.epoch, "parts": {name: part.state_dict() for name, part in self._parts.items()}}
            torch.save(state, Path(directory) / _FILE)
            tune.report(plain, checkpoint=tune.Checkpoint.from_directory(directory))

    def _restore(self) -> int:
        checkpoint = tune.get_checkpoint()
        if checkpoint is None:
            return 0
        with checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / _FILE, map_location="cpu", weights_only=True)
        if set(state["parts"]) != set(self._parts):
            raise ValueError(
                f"the checkpoint holds {sorted(state['parts'])}, but TuneReportCheckpoint was given "
                f"{sorted(self._parts)}; give it the same names"
            )
        for name, part in self._parts.items():
            part.load_state_dict(state["parts"][name])
        return cast("int", state["epoch"])
