"""An embedded session is closed to the network and to other users, and its daemon never unpickles."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

import core
from core.node import main as node_main
from tests.chaos.driver import SOON

MIB = 1 << 20


@core.remote
def one() -> int:
    return 1


@core.remote
class Actor:
    def pid(self) -> int:
        return os.getpid()


def everybody() -> list[psutil.Process]:
    """This process and all of its session."""
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


@pytest.fixture
def busy(session: Any) -> Path:
    """The directory of a session with an actor, a worker and spilled objects."""
    actor = Actor.options(name="kept", lifetime="detached").remote()
    core.get([actor.pid.remote(), one.remote()], timeout=SOON)
    return Path(session.address_info["session_dir"])


def test_no_process_has_an_internet_socket(busy: Path) -> None:
    processes = everybody()
    assert len(processes) >= 5, "driver, daemon, zygote, a worker, an actor"
    assert [connection for process in processes for connection in process.net_connections("inet")] == []


@pytest.mark.init(num_cpus=2, object_store_memory=64 * MIB)
def test_directories_files_and_sockets_are_for_their_user_only(busy: Path) -> None:
    kept = [core.put(bytes(8 * MIB)) for _ in range(12)]
    paths = [busy.parent, busy, *busy.rglob("*")]
    kinds = {stat.S_IFMT(path.lstat().st_mode) for path in paths}
    assert {stat.S_IFDIR, stat.S_IFREG, stat.S_IFSOCK} <= kinds
    assert any("spill" in path.parts for path in paths)
    for path in paths:
        found = path.lstat()
        assert found.st_uid == os.getuid(), path
        assert stat.S_IMODE(found.st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert len(kept) == 12


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user to try")
def test_another_user_is_refused_even_with_the_doors_open(busy: Path) -> None:
    """The peer's user is checked, not only the mode of the directory."""
    for path in (busy.parent.parent, busy.parent, busy):
        path.chmod(0o711)
    sockets = list(busy.glob("*.sock"))
    program = (
        "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    sock = socket.socket(socket.AF_UNIX); sock.settimeout(20); sock.connect(path)\n"
        "    try: assert sock.recv(1) == b'', 'taken in'\n"
        "    except ConnectionResetError: pass\n"
    )
    for path in sockets:
        path.chmod(0o666)
    subprocess.run([sys.executable, "-c", program, *map(str, sockets)], check=True, timeout=60)
    assert core.get(one.remote(), timeout=SOON) == 1


def test_the_session_directory_of_another_user_is_not_used() -> None:
    """Somebody who made the directory first gets no session into it."""
    # A short path, unlike tmp_path: for long ones another directory is taken.
    tmp = Path(tempfile.mkdtemp())
    (tmp / f"skate-{os.getuid()}").symlink_to(tmp)
    ended = subprocess.run(
        [sys.executable, "-c", "import core; core.init(num_cpus=1)"],
        env={**os.environ, "TMPDIR": str(tmp)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "not a directory of this user" in ended.stderr


def test_arguments_and_environment_of_the_processes_hold_no_secret(busy: Path) -> None:
    """Everybody can read argument lists: a worker's token is not in them."""
    for process in psutil.Process().children(recursive=True):
        assert "token" not in " ".join(process.cmdline())


def test_the_daemon_never_unpickles_and_the_hook_that_watches_over_it_works() -> None:
    """The hook is set in every daemon of this test run; here it is set off."""
    program = (
        "import pickle, collections; from core.node.main import _forbid_pickle\n"
        "_forbid_pickle(); print(pickle.loads(pickle.dumps([1, 'plain data'])), flush=True)\n"
        "pickle.loads(pickle.dumps(collections.OrderedDict))\n"
        "print('not reached')\n"
    )
    assert os.environ[node_main.FORBID_PICKLE_VARIABLE] == "1"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 86
    assert "plain data" in ended.stdout
    assert "not reached" not in ended.stdout
    assert "must never unpickle" in ended.stderr
