"""What mypy and pyright find in the programs beside this file. Each looks at all of them in one go."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SOURCES = [str(ROOT / "packages" / package / "src") for package in ("core", "serve")]
ACCEPTED = ["accepted.py", "serve_accepted.py"]
REJECTED = ["rejected.py", "serve_rejected.py"]
REJECTED_BY_PYRIGHT = ["rejected_by_pyright.py", "serve_rejected_by_pyright.py"]

#: errors by file and line
Found = dict[str, dict[int, str]]


def _marked(file: str) -> set[int]:
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# error")}


def _environment() -> dict[str, str]:
    path = os.pathsep.join([*SOURCES, str(ROOT)])
    return {**os.environ, "MYPYPATH": path, "PYTHONPATH": path}


def _mypy(directory: Path) -> Found:
    files = [*ACCEPTED, *REJECTED]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={directory}"]
    command += ["--namespace-packages", "--explicit-package-bases", "--ignore-missing-imports"]
    command += [str(HERE / file) for file in files]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Found = {file: {} for file in files}
    for match in re.finditer(r"(\w+\.py):(\d+): error: (.*)", done.stdout):
        found[match[1]][int(match[2])] = match[3]
    return found


def _pyright(directory: Path) -> Found:
    # basedpyright is pyright with a Node of its own; with pyright's own rules, so that they are what users see.
    files = [*ACCEPTED, *REJECTED, *REJECTED_BY_PYRIGHT]
    config = {
        "include": [str(HERE / file) for file in files],
        "typeCheckingMode": "standard",
        "extraPaths": [*SOURCES, str(ROOT)],
    }
    (directory / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    command += ["-p", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False, cwd=directory)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files), report
    found: Found = {file: {} for file in files}
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            found[Path(one["file"]).name][one["range"]["start"]["line"] + 1] = one["message"]
    return found


CHECKERS: dict[str, Callable[[Path], Found]] = {"mypy": _mypy, "pyright": _pyright}


@pytest.fixture(scope="module", params=CHECKERS)
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Found]:
    """A checker, and what it found."""
    return request.param, CHECKERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", ACCEPTED)
def test_right_programs_are_accepted(checked: tuple[str, Found], file: str) -> None:
    assert checked[1][file] == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", [*REJECTED, *REJECTED_BY_PYRIGHT])
def test_wrong_lines_are_found_and_no_others(checked: tuple[str, Found], file: str) -> None:
    checker, found = checked
    if checker == "mypy" and file in REJECTED_BY_PYRIGHT:
        assert file not in found  # see there
        return
    assert set(found[file]) == _marked(file), found[file]
