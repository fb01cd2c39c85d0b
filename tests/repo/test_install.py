"""The distributions in an empty virtual environment, as a user installs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What `import core` may never load: each costs tens of milliseconds, or belongs to an extra.
HEAVY = {
    "asyncio.subprocess", "concurrent.futures.process", "dask", "grpc", "http.client", "joblib",
    "multiprocessing.pool", "numpy", "pandas", "pyarrow", "pydantic", "ray", "rich", "ssl", "torch", "unittest", "xml",
}  # fmt: skip

#: What `import tune` may never load either: it takes under 0.2 s because none of these is in it.
HEAVY_FOR_TUNE = HEAVY - {"xml"} | {
    "fsspec",
    "optuna",
    "plotly",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "tensorboardX",
    "typer",
}

#: What `import serve` may never load: its names are looked up when they are first used.
HEAVY_FOR_SERVE = {"core", "fastapi", "grpc", "numpy", "prometheus_client", "pydantic", "starlette", "typer", "uvicorn"}

#: Modules that `import core` may load beyond those of a bare interpreter. It is a count, not a time, so that a busy
#: machine cannot change it; each module is 0.1 to 1 ms.
MODULE_BUDGET = 200


def environment_with(home: Path, *packages: str) -> Path:
    """Make a virtual environment in which nothing but these distributions was installed; return its Python.

    The pip of this environment installs into that one, which saves it a copy of its own.
    """
    venv.create(home / "venv")
    python = home / "venv" / "bin" / "python"
    paths = [ROOT / "packages" / package for package in packages]
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    command = [*pip, "install", "-qq", "--no-compile", "-c", ROOT / "constraints.txt", *paths]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return python


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with(tmp_path_factory.mktemp("alone"), "core")


def run(python: Path | str, code: str) -> str:
    """Run ``code`` away from the checkout, as no developer would have it on the path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(300)
def test_it_installs_alone_with_at_most_five_dependencies(empty_environment: Path) -> None:
    code = "import importlib.metadata as m\nprint(*(d.metadata['Name'].lower() for d in m.distributions()))"
    names = set(run(empty_environment, code).split())
    assert "skate-core" in names
    assert len(names - {"skate-core"}) <= 5, names


@pytest.mark.timeout(300)
def test_its_types_and_its_licence_come_with_it(empty_environment: Path) -> None:
    files = run(
        empty_environment,
        "import importlib.metadata as m\nprint(*(f for f in m.files('skate-core') if f.suffix != '.pyc'), sep='\\n')",
    ).splitlines()
    assert "core/py.typed" in files
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in files)
    others = [file for file in files if not file.endswith(".py") and ".dist-info/" not in file]
    assert others == ["core/py.typed"]


@pytest.mark.timeout(300)
def test_it_runs_alone(empty_environment: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import core as ray\n"
        "ray.init(num_cpus=2)\n"
        "@ray.remote\n"
        "def square(x):\n"
        "    return x * x\n"
        "print(ray.get([square.remote(i) for i in range(5)]))\n"
        "ray.shutdown()\n"
    )
    done = subprocess.run([empty_environment, program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "[0, 1, 4, 9, 16]"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tune_runs_with_core_and_what_it_names(tmp_path: Path) -> None:
    python = environment_with(tmp_path, "core", "tune")
    program = tmp_path / "program.py"
    program.write_text(
        "import core, tune\n"
        "def objective(config):\n"
        "    tune.report({'loss': (config['x'] - 1) ** 2})\n"
        "core.init(num_cpus=2)\n"
        "found = tune.run(objective, config={'x': tune.uniform(0, 2)}, metric='loss', mode='min', num_samples=4,\n"
        "                 search_alg='optuna', storage_path='results', name='alone', verbose=0)\n"
        "print(sorted(found.best_config), len(found.trials))\n"
        "core.shutdown()\n"
    )
    done = subprocess.run([python, program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "['x'] 4"
    assert (tmp_path / "results/alone/report.html").is_file()
    command = [python.parent / "tune", "list", "results"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert listed.returncode == 0, listed.stderr[-3000:]
    assert "alone" in listed.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_serve_runs_with_core_and_what_it_names(tmp_path: Path) -> None:
    """The first page of the guide, from a program and from the shell."""
    python = environment_with(tmp_path, "core", "serve")
    (tmp_path / "hello.py").write_text(
        "from fastapi import FastAPI\n"
        "import serve\n"
        "api = FastAPI()\n"
        "@serve.deployment\n"
        "@serve.ingress(api)\n"
        "class Hello:\n"
        "    @api.get('/{name}')\n"
        "    async def hello(self, name: str) -> str:\n"
        "        return f'Hello {name}!'\n"
        "app = Hello.bind()\n"
    )
    (tmp_path / "program.py").write_text(
        "import urllib.request\n"
        "import serve\n"
        "from hello import app\n"
        "serve.start(http_options={'port': 0})\n"
        "serve.run(app)\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{serve.get_http_port()}/you').read().decode())\n"
    )
    done = subprocess.run(
        [python, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == '"Hello you!"'
    command = [python.parent / "serve", "run", "hello:app", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        line = shell.stdout.readline()
        shell.send_signal(signal.SIGINT)
        _, errors = shell.communicate(timeout=120)
    assert line.startswith("hello:app is served at http://127.0.0.1:"), line + errors
    assert shell.returncode == 0, errors


def test_import_of_serve_is_light() -> None:
    code = "import serve, serve.pytest_plugin, json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run(sys.executable, code)))
    assert not loaded & HEAVY_FOR_SERVE


def test_import_of_tune_is_light() -> None:
    loaded = set(json.loads(run(sys.executable, "import tune, json, sys; print(json.dumps(sorted(sys.modules)))")))
    assert not loaded & HEAVY_FOR_TUNE


def test_import_is_light() -> None:
    loaded = set(json.loads(run(sys.executable, "import core, json, sys; print(json.dumps(sorted(sys.modules)))")))
    bare = set(json.loads(run(sys.executable, "import json, sys; print(json.dumps(sorted(sys.modules)))")))
    assert not loaded & HEAVY
    assert len(loaded - bare) <= MODULE_BUDGET, sorted(loaded - bare)


def test_import_starts_nothing() -> None:
    code = "import core, threading, os; print(threading.active_count(), len(os.listdir('/proc/self/fd')))"
    bare = "import threading, os; print(threading.active_count(), len(os.listdir('/proc/self/fd')))"
    assert run(sys.executable, code) == run(sys.executable, bare)
