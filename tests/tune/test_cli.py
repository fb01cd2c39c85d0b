"""The command ``tune``, in processes of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import core
import tune

TRAINABLE = """
import os
import tune

def train(config):
    for step in range(3):
        if config["x"] == 2 and not os.path.exists(config["marker"]):
            raise ZeroDivisionError("x is 2")
        tune.report({"loss": config["x"] + step, "eval": {"acc": step}})
"""


def command(*arguments, **options):
    """Run the command and return what it printed; its exit code must be as said."""
    code = options.pop("code", 0)
    done = subprocess.run(
        [sys.executable, "-m", "tune.cli", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A directory with one experiment: three trials, one of which failed."""
    place = tmp_path_factory.mktemp("cli")
    (place / "cli_trainable.py").write_text(TRAINABLE)
    sys.path.insert(0, str(place))
    from cli_trainable import train

    core.init(num_cpus=2)
    marker = str(place / "marker")
    tune.run(
        train,
        config={"x": tune.grid_search([3, 1, 2]), "marker": marker},
        metric="loss",
        mode="min",
        storage_path=place / "results",
        name="exp",
        verbose=0,
        raise_on_failed_trial=False,
    )
    core.shutdown()
    sys.path.remove(str(place))
    return place / "results"


@pytest.fixture
def exp(results):
    return results / "exp"


def test_list(results):
    header, row = command("list", results).splitlines()
    assert header.split() == ["name", "state", "trials", "errors", "best", "metric", "time"]
    assert row.split()[:6] == ["exp", "complete", "3", "1", "3", "loss"]
    listed = json.loads(command("list", results, "--json"))
    assert (listed[0]["name"], listed[0]["trials"], listed[0]["best"]) == ("exp", 3, 3)


def test_list_nothing(tmp_path):
    assert "no experiments" in command("list", tmp_path)
    assert "there is no directory" in command("list", tmp_path / "nowhere", code=1)
    assert json.loads(command("list", tmp_path, "--json")) == []


def test_list_default_is_the_environments(results):
    assert "exp" in command("list", env={**os.environ, "SKATE_TUNE_RESULTS": str(results)})


def test_show(exp):
    lines = command("show", exp).splitlines()
    assert lines[0] == "exp: complete, 3 trials (2 TERMINATED, 1 ERROR)"
    assert lines[1].split()[:3] == ["trial", "status", "x"]
    assert [line.split()[2] for line in lines[2:]] == ["1", "3", "2"]  # the best first, those without a result last
    assert "x is 2" in lines[4]
    assert "eval/acc" in lines[1]


def test_show_options(exp):
    lines = command("show", exp, "--limit", 1, "--sort", "loss").splitlines()
    assert "... and 2 more" in lines[-1]
    assert command("show", exp, "--limit", 0, code=2)
    errors = command("show", exp, "--errors")
    assert "ZeroDivisionError: x is 2" in errors
    assert "Traceback" in errors
    records = json.loads(command("show", exp, "--json"))
    assert records[0]["params"] == {"x": 1}
    assert records[0]["result"] == {"loss": 3, "eval": {"acc": 2}}
    failed = json.loads(command("show", exp, "--errors", "--json"))
    assert [record["error"]["type"] for record in failed] == ["ZeroDivisionError"]


def test_best(exp):
    assert "config/x" in command("best", exp)
    best = json.loads(command("best", exp, "--json"))
    assert best["config"]["x"] == 1
    assert best["result"]["loss"] == 3
    best = json.loads(command("best", exp, "--metric", "eval/acc", "--mode", "max", "--scope", "all", "--json"))
    assert best["result"]["eval"]["acc"] == 2


@pytest.mark.parametrize(
    ("arguments", "say"),
    [
        (("--metric", "accuracy"), "accuracy"),
        (("--mode", "best"), "mode must be one of"),
        (("--scope", "first"), "scope must be one of"),
    ],
)
def test_best_mistakes(exp, arguments, say):
    assert say in command("best", exp, *arguments, code=1)


def test_by_name(results):
    environment = {**os.environ, "SKATE_TUNE_RESULTS": str(results)}
    assert "exp: complete" in command("show", "exp", env=environment)
    assert "there are: exp" in command("show", "ex", env=environment, code=1)


def test_what_is_no_experiment(tmp_path):
    assert "not the directory or the name of an experiment" in command("show", tmp_path, code=1)
    assert command("frobnicate", code=2)
    assert "Usage" in command("--help")


def test_plot(exp, tmp_path):
    page = Path(command("plot", exp, "--output", tmp_path / "page.html").strip())
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert Path(command("plot", exp).strip()) == exp / "report.html"


def test_on_a_terminal_it_is_a_table(exp):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tune.cli", "show", str(exp)],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "200"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    assert "─" in shown.decode()


def test_resume_after_all_else(results, exp):
    """Changes the experiment, so it comes last."""
    place = results.parent
    assert "3 trials ended well" not in command("resume", exp, cwd=place, code=1)  # one is still failed
    (place / "marker").touch()
    assert "3 trials ended well, 0 failed" in command("resume", exp, "--errored", cwd=place)
    assert "6 trials ended well" in command("resume", exp, "--num-samples", "+1", cwd=place)
    assert "num_samples" in command("resume", exp, "--num-samples", "many", cwd=place, code=1)
    assert "contradict" in command("resume", exp, "--errored", "--restart-errored", cwd=place, code=1)
