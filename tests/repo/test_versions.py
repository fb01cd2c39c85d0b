"""Core runs on every version of Python that the packages claim, as far as this machine has it.

`make versions` runs every test on them; this is what can be afforded each time.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "serve", "tune")

#: One of everything, with warnings as errors in every process.
PROGRAM = """
import sys, threading, time
import core

@core.remote
def square(number):
    return number * number

@core.remote(num_returns="streaming")
def count(stop):
    yield from range(stop)

@core.remote
class Counter:
    def __init__(self):
        self.count = 0
    def add(self, amount):
        self.count += amount
        return self.count

@core.remote
class Conversation:
    async def answer(self, question):
        return question.upper()

@core.remote(max_concurrency=2)
class Busy:
    def __init__(self):
        self.begun = threading.Event()
    def forever(self):
        self.begun.set()
        while True:
            core.put(None)
    def has_begun(self):
        return self.begun.wait(30)

@core.remote
def fails():
    raise KeyError("on purpose")

core.init(num_cpus=2)
assert core.get([square.remote(number) for number in range(50)]) == [number * number for number in range(50)]
assert [core.get(ref) for ref in count.remote(5)] == [0, 1, 2, 3, 4]
counter, conversation, busy = Counter.remote(), Conversation.remote(), Busy.remote()
assert core.get([counter.add.remote(2) for _ in range(3)]) == [2, 4, 6]
assert core.get(conversation.answer.remote("yes")) == "YES"
large = bytearray(1 << 20)
assert core.get(core.put(large)) == large
ref = busy.forever.remote()
assert core.get(busy.has_begun.remote())
core.cancel(ref)
for kind, ref in ((core.exceptions.TaskCancelledError, ref), (KeyError, fails.remote())):
    try:
        core.get(ref, timeout=30)
    except kind:
        continue
    raise AssertionError(kind)
core.shutdown()
print("%d.%d" % sys.version_info[:2])
"""


def project(package: str) -> dict[str, list[str]]:
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]


def claimed(package: str) -> list[str]:
    found = (
        re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in project(package)["classifiers"]
    )
    return [match[1] for match in found if match]


def interpreter(version: str) -> str | None:
    """Find a Python of this version: on the path, or made by pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in (shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")):
        if candidate is None:
            continue
        command = [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if done.stdout.strip() == version:
            return str(candidate)
    return None


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stderr, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", claimed("core"))
def test_core_runs(version: str, tmp_path: Path) -> None:
    """On the sources, with the pinned dependencies."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        python = Path(sys.executable)
    else:
        found = interpreter(version)
        if found is None:
            pytest.skip(f"there is no Python {version} here")
        run(found, "-m", "venv", "--without-pip", tmp_path / "venv")
        python = tmp_path / "venv" / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet", "--quiet"]
        # Not core itself: its wheel is the same for all, and takes longer to build than the rest of this test.
        run(*pip, "install", "--constraint", ROOT / "constraints.txt", *project("core")["dependencies"])
    sources = str(ROOT / "packages" / "core" / "src")
    assert run(python, "-X", "dev", program, PYTHONWARNINGS="error", PYTHONPATH=sources) == version


def test_all_packages_claim_the_same_versions_and_make_versions_tests_them() -> None:
    versions = claimed("core")
    assert versions
    for package in PACKAGES:
        assert claimed(package) == versions
        assert project(package)["requires-python"] == f">={versions[0]}"
    makefile = (ROOT / "Makefile").read_text()
    (line,) = re.findall(r"^VERSIONS \?= (.*)$", makefile, flags=re.MULTILINE)
    assert line.split() == [f"python{version}" for version in versions]
