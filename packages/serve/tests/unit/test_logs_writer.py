"""Files of logs: written by a thread, rotated, read from their ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from serve.logs import writer as writing
from serve.logs.lines import Access, AccessText, Origin
from serve.logs.tail import MAX_BYTES, tail
from serve.logs.writer import LineWriter, RotatingFile

ORIGIN = Origin("replica", "shop#Model#1", "shop", "Model")


def make(path: Path) -> LineWriter:
    return LineWriter(RotatingFile(path), AccessText(ORIGIN))


def test_lines_are_written_in_order_and_none_is_lost(tmp_path: Path) -> None:
    writer = make(tmp_path / "logs" / "a.log")
    for number in range(1000):
        writer.put(f"line {number}")
    writer.put(Access(0.0, "GET", b"/x", "/x", 200, 1, 0.1, None, "id", "shop"))
    writer.close()
    lines = writer.path.read_text().splitlines()
    assert lines[:1000] == [f"line {number}" for number in range(1000)]
    assert lines[1000].endswith("GET /x 200 100.0ms 1B - /x")


def test_several_threads_may_log(tmp_path: Path) -> None:
    writer = make(tmp_path / "a.log")
    threads = [
        threading.Thread(target=lambda name=name: [writer.put(f"{name} {number}") for number in range(500)])
        for name in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    lines = writer.path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in range(4) for number in range(500))


def test_nothing_is_made_before_the_first_line(tmp_path: Path) -> None:
    writer = make(tmp_path / "logs" / "a.log")
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_flush_writes_at_once(tmp_path: Path) -> None:
    writer = make(tmp_path / "a.log")
    writer.put("now")
    writer.flush()
    assert writer.path.read_text() == "now\n"
    writer.close()


def test_a_directory_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    writer = make(tmp_path / "file" / "a.log")
    writer.put("lost")
    writer.close()


def test_too_many_lines_are_lost_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MAX_WAITING", 10)
    monkeypatch.setattr(writing, "COLLECT_S", 3600)
    writer = make(tmp_path / "a.log")
    for number in range(25):
        writer.put(f"line {number}")
    writer.close()
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert lines[:10] == [f"line {number}" for number in range(10)]
    assert "15 lines are missing here" in lines[10]


def test_a_full_file_is_put_aside(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "a.log", max_bytes=10, backups=2)
    for number in range(5):
        file.write(b"line %d\n" % number)
    file.close()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"a.log": "line 4\n", "a.log.1": "line 3\n", "a.log.2": "line 2\n"}


def test_a_file_that_exists_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    file = RotatingFile(path, max_bytes=10, backups=0)
    file.write(b"a\n")
    assert path.read_text() == "before\na\n"
    file.write(b"too much\n")
    file.close()
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"a.log": "too much\n"}


def test_the_tail_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert path.stat().st_size > 2 * MAX_BYTES
    assert tail(path, 3) == ["line 99997", "line 99998", "line 99999"]
    everything = tail(path, 10**9)
    assert everything[0].startswith("line ")
    assert everything == [f"line {number}" for number in range(100_000 - len(everything), 100_000)]


@pytest.mark.parametrize(("content", "lines"), [("", []), ("a", ["a"]), ("a\n", ["a"]), ("a\n\nb\n", ["a", "", "b"])])
def test_tails_of_small_files(tmp_path: Path, content: str, lines: list[str]) -> None:
    path = tmp_path / "a.log"
    path.write_text(content)
    assert tail(path, 10) == lines
    assert tail(path, 1) == lines[-1:]
    assert tail(path, 0) == []


def test_there_may_be_no_file(tmp_path: Path) -> None:
    assert tail(tmp_path / "none.log", 10) == []
