"""Starting daemons, and what remains when drivers end in every way they can."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from core.node import launcher, session
from core.node.config import NodeConfig
from tests.eventually import eventually
from tests.integration import node_session

DRIVER = """
import os, signal, sys
from core.protocol import to_node
from tests.integration import node_session
node = node_session.start()
driver = node_session.Driver(node)
driver.lease()
print(node.pid, node.session_dir, flush=True)
end = sys.argv[1]
if end == "exception":
    raise RuntimeError("the driver failed")
if end == "exit":
    os._exit(3)
if end == "fork":
    # The child keeps every descriptor of the driver open and outlives it.
    if os.fork():
        os._exit(0)
signal.pause()
"""


def run_driver(end: str) -> tuple[subprocess.Popen[str], psutil.Process, Path]:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, end],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(node_session.ROOT), *sys.path])},
        start_new_session=True,
    )
    assert driver.stdout is not None
    pid, directory = driver.stdout.readline().split()
    return driver, psutil.Process(int(pid)), Path(directory)


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended; the one that inherited it may take its time to notice."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("end", ["exception", "exit", "fork", "SIGKILL", "SIGTERM", "SIGINT"])
def test_however_a_driver_ends_nothing_of_its_session_remains(end: str) -> None:
    driver, node, directory = run_driver(end)
    family = [node]
    try:
        family += node.children(recursive=True)
    except psutil.NoSuchProcess:
        pass
    if end.startswith("SIG"):
        driver.send_signal(signal.Signals[end])
    driver.wait()
    eventually(lambda: all(has_ended(process) for process in family), what="all processes are gone")
    eventually(lambda: not directory.exists(), what="the session directory is removed")
    assert driver.stdout is not None
    driver.stdout.close()
    try:
        os.killpg(driver.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def test_a_daemon_that_cannot_listen_says_why(tmp_path: Path) -> None:
    parent = tmp_path / ("too-long-for-a-socket" * 5)
    node = launcher.start(NodeConfig("", {"CPU": 10_000}, 64 << 20), parent)
    with pytest.raises(launcher.NodeStartError, match="too long"):
        node.wait_ready()
    assert not node.session_dir.exists()


def test_a_daemon_without_a_worker_runtime_ends_its_session() -> None:
    node = launcher.start(NodeConfig("", {"CPU": 10_000}, 64 << 20, worker_entry="no_such_module"))
    node.wait_ready()
    assert node.wait_gone(node_session.PATIENCE)
    assert not node.session_dir.exists()


def test_the_parent_directory_must_be_ours(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    with pytest.raises(session.SessionDirError, match="not a directory of this user"):
        launcher.start(NodeConfig("", {}, 0), link)


def test_a_loose_parent_directory_is_tightened(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o777)
    session.secure_parent(parent)
    assert parent.stat().st_mode & 0o777 == 0o700


def test_stale_sessions_are_swept_and_living_ones_kept(tmp_path: Path) -> None:
    living, locks = session.create(tmp_path)
    robbed, more_locks = session.create(tmp_path)
    (robbed / session.LOCK_NAME).unlink()  # it was old, and somebody tidied up
    os.utime(robbed, (0, 0))
    dead, dead_locks = session.create(tmp_path)
    for descriptor in dead_locks:
        os.close(descriptor)
    fresh = tmp_path / "session-being-made"
    fresh.mkdir()
    abandoned = tmp_path / "session-abandoned"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    spilled = tmp_path / "other-disk"
    spilled.mkdir()
    (dead / "spill").symlink_to(spilled)
    session.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([living, robbed, fresh])
    for descriptor in (*locks, *more_locks):
        os.close(descriptor)


def test_a_temporary_directory_too_deep_for_sockets_is_avoided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    assert len(str(session.default_parent())) < 40
