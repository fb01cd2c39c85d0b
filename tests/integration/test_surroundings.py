"""Drivers in odd surroundings: nothing of what the shell usually provides can be relied on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import core
from core.descriptors import InitConfig
from core.engine import embedded
from core.node import launcher, machine, session

MIB = 1 << 20

PROGRAM = """
import os, sys
import core

core.init(num_cpus=1)

@core.remote(num_cpus=0)
class Echo:
    def echo(self, value):
        print("printed", flush=True)
        return value

actors = [Echo.remote() for _ in range(12)]
sum(core.get([actor.echo.remote(number) for number, actor in enumerate(actors)]))
print("printed, too")
core.get(core.remote(lambda: os.write(2, b"to a stream that nobody reads")).remote())
core.shutdown()
with open(sys.argv[1], "w") as done:
    done.write("done")
"""


def run(program: str, arguments: list[str], prepare: Callable[[], None]) -> int:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, preexec_fn=prepare, timeout=50, check=False).returncode


def test_without_streams_directory_and_much_of_anything(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    def prepare() -> None:
        os.chdir(gone)
        gone.rmdir()
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        resource.setrlimit(resource.RLIMIT_AS, (4096 * MIB, 4096 * MIB))
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, 8 * MIB))

    assert run(PROGRAM, [str(tmp_path / "done")], prepare) == 0
    assert (tmp_path / "done").read_text() == "done"


def test_a_store_that_cannot_be_had_is_one_clear_error() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, hard))
    try:
        with pytest.raises(core.exceptions.RaySystemError, match=r"object store of .* bytes.*object_store_memory"):
            core.init(num_cpus=1, object_store_memory=64 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not core.is_initialized()


def test_an_isolated_interpreter_starts_isolated_ones(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise ImportError('shadowed')")
    program = f"import sys; sys.path[:0] = {sys.path!r}; import core; core.get(core.remote(len).remote([]))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-I", "-c", program], env=environment, timeout=50, check=True)


def test_what_only_the_program_knows_how_to_import_is_found() -> None:
    program = f"import sys; sys.path += {sys.path!r}; import core; core.get(core.remote(len).remote([]))"
    bare = Path(sys.executable).resolve()  # of the virtual environment's
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([bare, "-c", program], env=environment, timeout=50, check=True)


@pytest.mark.parametrize(("cpus", "asked", "ready"), [(0, None, 1), (2.5, None, 3), (9999, None, 32), (9999, 100, 100)])
def test_so_many_workers_are_kept_ready(
    monkeypatch: pytest.MonkeyPatch, cpus: float, asked: int | None, ready: int
) -> None:
    monkeypatch.setattr(machine, "cpus", lambda: 2)
    config = InitConfig(num_cpus=cpus, prestarted_workers=asked)
    assert embedded._node_config(config, embedded._resources(config), 1).prestarted_workers == ready


def test_without_an_interpreter_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(core.exceptions.RaySystemError, match=r"sys\.executable"):
        core.init(num_cpus=1)
    assert not core.is_initialized()


@pytest.mark.parametrize("directory", ["x" * 100, "not-utf-8-\udcff"])
def test_a_temporary_directory_that_does_not_suit_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: str
) -> None:
    place = tmp_path / directory
    place.mkdir()
    monkeypatch.setattr(session, "_temporary", lambda: str(place))
    assert session.default_parent() == Path(f"/tmp/skate-{os.getuid()}")


def test_the_limit_of_open_files_is_raised_as_far_as_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda number, pair: limits.append(pair))
    for before, after in [
        ((256, 4096), [(4096, 4096)]),
        ((1024, resource.RLIM_INFINITY), [(65_536, resource.RLIM_INFINITY)]),
        ((100_000, 200_000), []),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
    ]:
        limits.clear()
        monkeypatch.setattr(resource, "getrlimit", lambda number, before=before: before)
        launcher._raise_descriptor_limit()
        assert limits == after
