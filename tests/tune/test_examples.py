"""The sweeps among the examples run as a reader would run them, on less data, and find something better."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
#: seconds; each takes about ten on two idle cores
LIMIT = 110


def run(script: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_the_torch_sweep_stops_early_and_beats_the_naive_forecast(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is optional and not installed")
    out = run("tune_torch.py", "--samples", "9", "--epochs", "9", "--series", "40", "--quiet", cwd=tmp_path)
    samples, epochs, possible = map(int, re.findall(r"(\d+) configurations, (\d+) of (\d+) epochs", out)[0])
    assert (samples, possible) == (9, 81)
    assert epochs < possible
    naive, best = map(float, re.findall(r"MASE ([\d.]+)", out))
    assert best < naive
    assert (tmp_path / "out/tune_torch/employment/report.html").exists()


@pytest.mark.slow
def test_the_scikit_learn_sweep_beats_the_naive_forecast(tmp_path: Path) -> None:
    out = run("tune_sklearn.py", "--samples", "4", "--series", "40", "--quiet", cwd=tmp_path)
    errors = [float(error) for error in re.findall(r"change ([\d.]+) %", out)]
    assert len(errors) == 4
    assert errors[3] < errors[0]
    assert not list(tmp_path.iterdir())
