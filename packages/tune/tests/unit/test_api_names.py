"""The public names: all there, all Ray's, and cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tune

#: what Ray 2.60's ``ray.tune`` exports
RAYS = [
    "Trainable",
    "Callback",
    "TuneError",
    "grid_search",
    "register_env",
    "register_trainable",
    "run",
    "run_experiments",
    "with_parameters",
    "with_resources",
    "Stopper",
    "Experiment",
    "sample_from",
    "uniform",
    "quniform",
    "choice",
    "randint",
    "lograndint",
    "qrandint",
    "qlograndint",
    "randn",
    "qrandn",
    "loguniform",
    "qloguniform",
    "ExperimentAnalysis",
    "CLIReporter",
    "JupyterNotebookReporter",
    "ProgressReporter",
    "ResultGrid",
    "create_searcher",
    "create_scheduler",
    "PlacementGroupFactory",
    "Tuner",
    "TuneConfig",
    "ResumeConfig",
    "RunConfig",
    "CheckpointConfig",
    "FailureConfig",
    "Result",
    "Checkpoint",
    "get_checkpoint",
    "report",
    "get_context",
    "TuneContext",
    "SyncConfig",
]


def test_every_name_is_there() -> None:
    for name in tune.__all__:
        assert getattr(tune, name) is not None, name
    assert set(dir(tune)) >= set(tune.__all__)


def test_every_name_of_rays_is_there() -> None:
    assert set(RAYS) <= set(tune.__all__)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(tune.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert seen == set(tune.__all__)


def test_a_misspelt_name() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'loguniform'"):
        tune.loguniforn  # noqa: B018


HEAVY = {"numpy", "optuna", "pandas", "plotly", "fsspec", "typer", "rich", "torch", "tensorboardX", "sklearn"}


@pytest.mark.parametrize("what", ["import tune", "import tune; tune.run, tune.Tuner, tune.ExperimentAnalysis"])
def test_importing_brings_nothing_heavy(what) -> None:
    code = f"import sys; {what}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)
