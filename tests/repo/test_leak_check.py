"""The leak check finds each kind of leak (a check that cannot fail would prove nothing)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks
from tests.eventually import eventually


@pytest.fixture
def before() -> leaks.Snapshot:
    return leaks.take()


def found(before: leaks.Snapshot) -> str:
    return "\n".join(leaks.leaks(before, grace=0))


def test_nothing_is_found_where_nothing_leaks(before: leaks.Snapshot) -> None:
    assert leaks.leaks(before, grace=0) == []


def test_a_child_process_is_found_until_it_ends(before: leaks.Snapshot) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert f"process {child.pid}" in found(before)
        child.communicate(b"\n")
    assert found(before) == ""


@pytest.fixture
def orphan() -> Iterator[int]:
    """The pid of a process whose parent has left it behind in a session of its own."""
    code = (
        "import subprocess, sys\n"
        "null = subprocess.DEVNULL\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=0, stdout=null,\n"
        "    stderr=null, start_new_session=True)\n"
        "print(child.pid)\n"
        "child.returncode = 0  # nobody waits for it\n"
    )
    read, write = os.pipe()
    maker = subprocess.run([sys.executable, "-c", code], stdin=read, capture_output=True, text=True, check=True)
    os.close(read)
    yield int(maker.stdout)
    os.close(write)  # its end of file ends the orphan


def test_an_orphan_is_found_by_its_mark(before: leaks.Snapshot, orphan: int) -> None:
    assert f"process {orphan}" in found(before)


def test_orphans_of_the_test_above_are_gone() -> None:
    eventually(lambda: not leaks.leaks(leaks.take(), grace=0))


def test_a_thread_is_found_until_it_ends(before: leaks.Snapshot) -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="left-behind")
    thread.start()
    assert "thread left-behind" in found(before)
    go.set()
    thread.join()
    assert found(before) == ""


def test_descriptors_are_found_beyond_the_tolerance(before: leaks.Snapshot) -> None:
    kept = [os.memfd_create("left-behind"), *os.pipe()]
    assert "descriptors of kind memfd: 1" in found(before)
    assert "descriptors of kind pipe: 1" in found(before)
    for descriptor in kept:
        os.close(descriptor)
    assert found(before) == ""


def test_a_session_directory_is_found(before: leaks.Snapshot) -> None:
    directory = Path(tempfile.gettempdir()) / "skate-0" / "session-left"
    directory.mkdir(parents=True)
    assert f"session directory {directory}" in found(before)
    directory.rmdir()
    directory.parent.rmdir()
    assert found(before) == ""
