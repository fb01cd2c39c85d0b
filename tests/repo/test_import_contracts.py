"""Every import contract can fail: each is broken on purpose in a copy of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = {contract["id"]: contract for contract in SETTINGS["contracts"]}

#: (contract, module that is made to offend, line that offends)
OFFENCES = [
    ("rooms", "core/ids.py", "import core.serialization"),
    ("rooms", "core/protocol/offence.py", "import core.state"),
    ("rooms", "core/stray.py", "x = 1"),
    ("processes", "core/worker/offence.py", "import core.node"),
    ("processes", "core/node/offence.py", "import core.worker"),
    ("pure", "core/state/offence.py", "import time"),
    ("pure", "core/store/allocator.py", "import mmap"),
    ("opaque", "core/node/offence.py", "import cloudpickle"),
    ("opaque", "core/state/offence.py", "import core.serialization"),
    ("cycles", "core/ids.py", "import core.worker.offence"),
    ("cycles", "tune/trial.py", "import tune.messages"),
    ("serve-rooms", "serve/specs.py", "import serve.state.routing"),
    ("serve-rooms", "serve/stray.py", "x = 1"),
    ("serve-face", "serve/handle/offence.py", "import core.protocol"),
    ("serve-face", "serve/api/offence.py", "import tune"),
    ("serve-pure", "serve/state/offence.py", "import time"),
    ("tune-rooms", "tune/trial.py", "import tune.messages"),
    ("tune-rooms", "tune/stray.py", "x = 1"),
    ("tune-rooms", "tune/schedulers/offence.py", "import tune.controller"),
    ("tune-face", "tune/backend/offence.py", "import core.protocol"),
    ("tune-face", "tune/backend/offence.py", "from core import api"),
    ("tune-pure", "tune/schedulers/offence.py", "import time"),
    ("tune-pure", "tune/schedulers/offence.py", "import core"),
    ("tune-pure", "tune/controller/machine.py", "import asyncio"),
]


def lint(sources: Path, contract: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "lint-imports"
    command = [program, "--config", ROOT / "pyproject.toml", "--contract", contract, "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(sources)}
    return subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = tmp_path_factory.mktemp("sources")
    for package in SETTINGS["root_packages"]:
        source = ROOT / "packages" / package / "src" / package
        shutil.copytree(source, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    return sources


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_contract_is_kept(copy: Path, contract: str) -> None:
    done = lint(copy, contract)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("contract", "module", "line"), OFFENCES)
def test_an_offence_is_found(tmp_path: Path, copy: Path, contract: str, module: str, line: str) -> None:
    shutil.copytree(copy, tmp_path, dirs_exist_ok=True)
    offender = tmp_path / module
    offender.parent.mkdir(exist_ok=True)
    text = offender.read_text() if offender.exists() else ""
    offender.write_text(f"{text}\n{line}\n")
    if "core.worker.offence" in line:
        (tmp_path / "core/worker/offence.py").write_text("import core.ids\n")
    done = lint(tmp_path, contract)
    assert done.returncode != 0
    assert f"{CONTRACTS[contract]['name']} BROKEN" in " ".join(done.stdout.split())


def test_every_contract_is_broken_once() -> None:
    assert {contract for contract, _, _ in OFFENCES} == set(CONTRACTS)
