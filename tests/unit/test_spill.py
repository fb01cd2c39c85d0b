"""Writing objects to disk, where systems and people are unkind."""

from __future__ import annotations

import errno
import fcntl
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.node.objects import create_arena
from core.node.spill import SpillDirectory, Spiller, write_range
from core.store.arena import Arena

SIZE = 3 << 20
SOON = 20.0


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[int]:
    """The descriptor of an arena with something in it."""
    fd = create_arena(SIZE, tmp_path)
    os.pwrite(fd, os.urandom(SIZE), 0)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("room", [SIZE - 1, SIZE])
def test_an_arena_without_memfd_lies_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, room: int
) -> None:
    made: list[Path] = []
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(f_bavail=room, f_frsize=1))
    monkeypatch.setattr(os, "unlink", lambda path, **options: made.append(Path(path)))
    os.close(create_arena(SIZE, tmp_path))
    monkeypatch.undo()
    (path,) = made
    path.unlink()
    assert path.parent == (Path("/dev/shm") if room == SIZE else tmp_path)


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_files_cannot_be_sent_to_files_they_are_copied(
    monkeypatch: pytest.MonkeyPatch, arena: int, tmp_path: Path, error: int
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "sendfile", refuse)
    write_range(arena, 64, SIZE - 64, str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == os.pread(arena, SIZE, 64)


def test_a_file_that_cannot_be_removed_does_not_end_the_writing(arena: int, tmp_path: Path) -> None:
    done: queue.SimpleQueue[tuple[bytes, str, str]] = queue.SimpleQueue()
    spiller = Spiller(arena, SpillDirectory(tmp_path), lambda *what: done.put(what))
    (tmp_path / "no-directory").touch()
    spiller.remove(str(tmp_path / "no-directory" / "file"))
    spiller.spill(b"object", 0, SIZE)
    object_id, path, error = done.get(timeout=SOON)
    assert (object_id, error, Path(path).stat().st_size) == (b"object", "", SIZE)
    spiller.close()


def test_a_spill_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    directory = SpillDirectory(tmp_path)
    directory.path.rmdir()
    Path(directory.new_file(b"object")).touch()


def test_a_spill_directory_elsewhere_is_made_once_and_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "session").mkdir()
    (tmp_path / "disk").mkdir()
    monkeypatch.chdir(tmp_path)
    directory = SpillDirectory(tmp_path / "session", "disk")
    threads = [threading.Thread(target=directory.new_file, args=(b"object",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (made,) = (tmp_path / "disk").iterdir()
    assert (tmp_path / "session" / "spill").readlink() == made
    directory.remove()
    assert not list((tmp_path / "disk").iterdir())


@pytest.mark.skipif(not hasattr(os, "MFD_ALLOW_SEALING"), reason="needs a file that refuses to lose its pages")
def test_pages_that_the_system_does_not_take_back_are_kept() -> None:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    arena = Arena(fd, SIZE)
    arena.writable(0, SIZE)[:4] = b"kept"
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0x10)  # F_SEAL_FUTURE_WRITE
    arena.discard_pages(0, SIZE)
    assert arena.writable(0, SIZE)[:4] == b"kept"
    arena.close()
    os.close(fd)
