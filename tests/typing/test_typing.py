"""What mypy and pyright find in the programs beside this file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SOURCES = [str(ROOT / "packages" / package / "src") for package in ("core", "serve")]


def _marked(file: str) -> set[int]:
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


def _environment() -> dict[str, str]:
    path = os.pathsep.join([*SOURCES, str(ROOT)])
    return {**os.environ, "MYPYPATH": path, "PYTHONPATH": path}


def _mypy(tmp_path: Path, file: str) -> dict[int, str]:
    """Return mypy's errors in a file, by line."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}"]
    command += ["--namespace-packages", "--explicit-package-bases", "--ignore-missing-imports", str(HERE / file)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.finditer(rf"{re.escape(file)}:(\d+): error: (.*)", done.stdout)
    return {int(match[1]): match[2] for match in found}


def _pyright(tmp_path: Path, file: str) -> dict[int, str]:
    """Return pyright's errors in a file, by line."""
    # basedpyright is pyright with a Node of its own; with pyright's own rules, so that they are what users see.
    paths = [*SOURCES, str(ROOT)]
    config = {"include": [str(HERE / file)], "typeCheckingMode": "standard", "extraPaths": paths}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "-p",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False, cwd=tmp_path)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, report
    return {
        one["range"]["start"]["line"] + 1: one["message"]
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    }


CHECKERS = {"mypy": _mypy, "pyright": _pyright}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", ["accepted.py", "serve_accepted.py"])
@pytest.mark.parametrize("checker", CHECKERS)
def test_right_programs_are_accepted(checker: str, file: str, tmp_path: Path) -> None:
    assert CHECKERS[checker](tmp_path, file) == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("checker", "file"),
    [
        ("mypy", "rejected.py"),
        ("mypy", "serve_rejected.py"),
        ("pyright", "rejected.py"),
        ("pyright", "rejected_by_pyright.py"),
        ("pyright", "serve_rejected.py"),
        ("pyright", "serve_rejected_by_pyright.py"),
    ],
)
def test_wrong_lines_are_found_and_no_others(checker: str, file: str, tmp_path: Path) -> None:
    found = CHECKERS[checker](tmp_path, file)
    assert set(found) == _marked(file), found
