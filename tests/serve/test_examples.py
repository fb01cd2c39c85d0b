"""The serving examples run as a reader would run them, and the page of the forecasts is looked at in a browser."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
#: seconds that an example may take; the slowest takes about eight on two idle cores
LIMIT = 110
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=30000",
)
FLEET_NEEDS = ("statsforecast", "sklearn", "pyarrow", "joblib", "matplotlib")
MISSING = [name for name in FLEET_NEEDS if importlib.util.find_spec(name) is None]
needs_fleet = pytest.mark.skipif(bool(MISSING), reason=f"examples/requirements.txt is not installed: {MISSING}")


def run(script: str, *arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return done.stdout


def test_the_pipeline_combines_its_models(tmp_path: Path) -> None:
    assert "mean error: trend" in run("serve_pipeline.py", "--once", cwd=tmp_path)


def test_tokens_are_streamed(tmp_path: Path) -> None:
    assert run("serve_tokens.py", "--once", cwd=tmp_path).startswith("the worker ")


@needs_fleet
def test_models_of_a_repository_are_loaded_and_asked(tmp_path: Path) -> None:
    out = run("serve_oip.py", "--once", cwd=tmp_path)
    assert re.findall(r"^(\w+): \d+ of 360 digits right", out, re.MULTILINE) == ["forest", "neighbours"]


@pytest.mark.slow
def test_the_torch_model_works_by_batches(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is optional and not installed")
    out = run("serve_torch.py", "--once", cwd=tmp_path)
    right, asked, batch = map(int, re.findall(r"\d+", out))
    assert right > 0.9 * asked
    assert batch > 1


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small fleet: what ``make demo`` leaves, for three series."""
    folder = tmp_path_factory.mktemp("fleet")
    options = ("--series", 3, "--models", "SeasonalNaive", "Ridge", "--out", folder, "--cpus", 2, "--quiet")
    run("forecast_fleet.py", *options, cwd=folder)
    return folder


@needs_fleet
def test_the_fleet_is_served(fleet: Path, tmp_path: Path) -> None:
    assert "9 forecasts of 3 series" in run("serve_forecasts.py", "--models", fleet, "--once", cwd=tmp_path)


def test_without_a_fleet_it_says_how_to_get_one(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "serve_forecasts.py", "--once"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.returncode == 2
    assert done.stderr == "error: there are no models in out/forecast_fleet; `make demo` trains them\n"


@pytest.fixture
def site(fleet: Path, tmp_path: Path) -> Iterator[str]:
    """The address of the running example."""
    command = [sys.executable, EXAMPLES / "serve_forecasts.py", "--models", fleet, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, line
            yield found.group()
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, errors


@needs_fleet
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_draws_a_forecast_with_its_intervals(site: str, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", site]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    shapes = dict(re.findall(r'<path class="(\w+)" d="([^"]+)"', page))
    assert set(shapes) == {"band95", "band80", "history", "forecast"}
    assert shapes["history"].count("L") == 59  # five years
    assert shapes["forecast"].count("L") == 12  # and one to come, from the last known month on
    assert shapes["band95"].endswith("Z")
    assert page.count("<option") == 3
    assert re.search(r"forecast by \w+ for \d{4}-\d\d to \d{4}-\d\d", page)
    assert 'class="error"' not in page
