"""What mypy and pyright find in the programs beside this file. Each looks at all of its programs in one go."""

from __future__ import annotations

import functools
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
#: right and wrong lines for mypy with serve's plugin
WITH_PLUGIN = ["serve_plugin.py"]
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
    return _run_mypy([*ACCEPTED, *REJECTED], directory, "")


def _mypy_with_plugin(directory: Path) -> Found:
    config = directory / "mypy.ini"
    config.write_text("[mypy]\nplugins = serve.mypy_plugin\n", encoding="utf-8")
    return _run_mypy(WITH_PLUGIN, directory, str(config))


def _run_mypy(files: list[str], directory: Path, config: str) -> Found:
    command = [sys.executable, "-m", "mypy", "--strict", f"--config-file={config}", f"--cache-dir={directory}"]
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


CHECKERS: dict[str, Callable[[Path], Found]] = {
    "mypy": _mypy,
    "mypy with serve's plugin": _mypy_with_plugin,
    "pyright": _pyright,
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Found]:
    """What a checker finds; asked for twice, it is still run once."""

    @functools.cache
    def check(checker: str) -> Found:
        return CHECKERS[checker](tmp_path_factory.mktemp("checker"))

    return check


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", ACCEPTED)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_right_programs_are_accepted(checked: Callable[[str], Found], checker: str, file: str) -> None:
    assert checked(checker)[file] == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("checker", "file"),
    [
        *(("mypy", file) for file in REJECTED),
        *(("mypy with serve's plugin", file) for file in WITH_PLUGIN),
        *(("pyright", file) for file in (*REJECTED, *REJECTED_BY_PYRIGHT)),
    ],
)
def test_wrong_lines_are_found_and_no_others(checked: Callable[[str], Found], checker: str, file: str) -> None:
    found = checked(checker)[file]
    assert set(found) == _marked(file), found
