"""Reporting from PyTorch and from Lightning, with real trainers, paused and taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core
import tune

torch = pytest.importorskip("torch", reason="PyTorch is optional and not installed")
from tune.integration.torch import TuneReportCheckpoint  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _session() -> Iterator[None]:
    core.init(num_cpus=2, _preloaded_modules=["torch", "lightning"])  # trials start at once
    yield
    core.shutdown()


def fail_once(marker: Path) -> None:
    if not marker.exists():
        marker.touch()
        raise RuntimeError("once")


def learn(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    report = TuneReportCheckpoint(every=2, model=model, optimizer=optimizer)
    began = report.epoch
    inputs = torch.linspace(-1, 1, 16)[:, None]
    while report.epoch < 8:
        if report.epoch == config["fail_at"]:
            fail_once(Path(config["marker"]))
        loss = torch.nn.functional.mse_loss(model(inputs), 3 * inputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report({"loss": loss, "began": began})


def losses(tmp_path: Path, name: str, fail_at: int) -> tuple[list[float], list[int]]:
    results = tune.Tuner(
        learn,
        param_space={"lr": 0.05, "fail_at": fail_at, "marker": str(tmp_path / f"{name}.marker")},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(
            name=name, storage_path=str(tmp_path), verbose=0, failure_config=tune.FailureConfig(max_failures=1)
        ),
    ).fit()
    assert not results.errors
    frame = results[0].metrics_dataframe
    return frame["loss"].tolist(), frame["began"].tolist()


def test_a_restarted_trial_goes_on_with_model_and_optimizer(tmp_path: Path) -> None:
    smooth, _ = losses(tmp_path, "smooth", fail_at=-1)
    broken, began = losses(tmp_path, "broken", fail_at=5)
    assert len(smooth) == 8
    assert smooth[-1] < smooth[0]
    # the fifth epoch was reported without a checkpoint, so it is done again, from the fourth
    assert began[-1] == 4
    assert broken[-4:] == pytest.approx(smooth[-4:])


def test_a_checkpoint_of_other_parts_is_refused(tmp_path: Path) -> None:
    def other(config: dict[str, Any]) -> None:
        model = torch.nn.Linear(1, 1)
        parts = {"model": model} if tune.get_checkpoint() is None else {"network": model}
        report = TuneReportCheckpoint(**parts)
        report({"loss": 1.0})
        raise RuntimeError("again")

    results = tune.Tuner(
        other,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path), verbose=0, failure_config=tune.FailureConfig(max_failures=1)
        ),
    ).fit()
    assert "holds ['model'], but TuneReportCheckpoint was given ['network']" in str(results.errors[0])


def test_bad_intervals_are_refused() -> None:
    with pytest.raises(ValueError, match="every must be 0"):
        TuneReportCheckpoint(every=-1)


# --- Lightning --------------------------------------------------------------------------------------------------------

lightning = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed")


def fit_lightning(config: dict[str, Any]) -> None:
    import warnings

    from tune.integration.pytorch_lightning import TuneReportCheckpointCallback

    warnings.simplefilter("ignore")  # Lightning's advice about workers and loggers
    torch.set_num_threads(1)

    class Line(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, _index: int) -> torch.Tensor:
            return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])

        def validation_step(self, batch: Any, _index: int) -> None:
            self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=config["lr"])

    inputs = torch.linspace(-1, 1, 16)[:, None]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, 3 * inputs), batch_size=16)

    class FailOnce(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                fail_once(Path(config["marker"]))

    trainer = lightning.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[TuneReportCheckpointCallback({"loss": "val_loss"}, on="validation_end"), FailOnce()],
    )
    trainer.fit(Line(), loader, loader, ckpt_path=TuneReportCheckpointCallback.checkpoint_path())


@pytest.mark.slow
def test_lightning_reports_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    results = tune.Tuner(
        fit_lightning,
        param_space={"lr": 0.3, "marker": str(tmp_path / "marker")},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path), verbose=0, failure_config=tune.FailureConfig(max_failures=1)
        ),
    ).fit()
    assert not results.errors, results.errors
    loss = results[0].metrics_dataframe["loss"].tolist()
    assert loss == sorted(loss, reverse=True)
    assert results[0].metrics["training_iteration"] == 4


def test_unknown_hooks_and_metrics_are_named() -> None:
    from tune.integration.pytorch_lightning import TuneReportCallback

    with pytest.raises(ValueError, match="on='epoch_end' is no hook"):
        TuneReportCallback(on="epoch_end")
