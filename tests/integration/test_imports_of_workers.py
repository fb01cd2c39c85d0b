"""What a worker has imported before user code asks for it: see decision 7."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import core

@core.remote
def loaded():
    return [name for name in {names!r} if name in sys.modules]

@core.remote
class AsyncActor:
    async def loaded(self):
        import sys
        return "asyncio" in sys.modules

core.init(num_cpus=2, log_to_driver=False)
print(core.get(loaded.remote()), core.get(AsyncActor.remote().loaded.remote()))
"""
#: Each costs a process milliseconds and megabytes.
HEAVY = [
    "asyncio",
    "ssl",
    "_hashlib",
    "shutil",
    "subprocess",
    "tempfile",
    "numpy",
    "json",
    "difflib",
    "core.unpicklable",
]


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_a_worker_carries_nothing_heavy_unasked() -> None:
    assert run(PROGRAM.format(names=HEAVY)) == "[] True"


def test_what_the_driver_has_imported_is_there() -> None:
    assert run("import asyncio\n" + PROGRAM.format(names=["asyncio"])) == "['asyncio'] True"


PRELOADED = """
import sys
import core

@core.remote
def loaded():
    return "wave" in sys.modules

core.init(num_cpus=2, log_to_driver=False, _preloaded_modules=["wave"], _prestarted_workers=0)
print(core.get(loaded.remote()))
"""


def test_modules_are_preloaded_on_demand() -> None:
    assert run(PRELOADED) == "True"


PRESTARTED = """
import time
import psutil
import core

def processes():
    return len(psutil.Process().children(recursive=True))

core.init(num_cpus=2, log_to_driver=False, _prestarted_workers=0)
@core.remote
def one():
    return 1

assert core.get(one.remote()) == 1
deadline = time.monotonic() + 30
while processes() > 2:  # the daemon and the zygote
    assert time.monotonic() < deadline, "the worker stayed"
    time.sleep(0.01)
assert core.get(one.remote()) == 1
print("done")
"""


def test_without_workers_kept_ready_they_come_and_go() -> None:
    assert run(PRESTARTED) == "done"


THREADS = """
import ctypes
import numpy
import core
from core.node import numerics

@core.remote(runtime_env={"env_vars": {"OMP_NUM_THREADS": "2"}})
def threads():
    libraries = [ctypes.CDLL(path) for path in numerics._loaded()]
    getters = [name.replace("_set_", "_get_") for name in numerics._SETTERS]
    return {getattr(library, name)() for library in libraries for name in getters if hasattr(library, name)}

core.init(num_cpus=1, log_to_driver=False)
print(core.get(threads.remote()))
"""


def test_libraries_that_were_loaded_before_hear_of_their_environment() -> None:
    assert run(THREADS) == "{2}"
