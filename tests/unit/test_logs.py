"""What workers print, on its way to the driver."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from core.node.logs import (
    MAX_LINE_BYTES,
    MAX_PENDING_CHARACTERS,
    MAX_PENDING_LINES,
    STDERR,
    STDOUT,
    LogBatch,
    WorkerOutput,
)
from core.node.loop import Loop
from core.protocol.records import PRINTED_BY


class Worker:
    """The writing ends of a worker's streams, and what came of what was written."""

    def __init__(self) -> None:
        (out, self.out), (err, self.err) = os.pipe(), os.pipe()
        self.loop = Loop()
        self.lines: list[tuple[int, str]] = []
        #: whose lines they are
        self.tasks: list[str] = []
        self.output = WorkerOutput(self.loop, out, err, self.take)

    def take(self, stream: int, lines: list[str], task: str) -> None:
        self.lines += [(stream, line) for line in lines]
        self.tasks += [task] * len(lines)

    def write(self, data: bytes) -> None:
        """Print piece by piece, as long as the pipe is."""
        for start in range(0, len(data), 50_000):
            os.write(self.out, data[start : start + 50_000])
            self.output.read()

    def finish(self) -> list[tuple[int, str]]:
        os.close(self.out)
        os.close(self.err)
        self.output.finish()
        return self.lines


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    for resource in (worker.loop._selector, worker.loop._wake_read, worker.loop._wake_write):
        resource.close()


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "\u00fc\u20ac" * 50_000, "a\n" + "b" * MAX_LINE_BYTES, "\U0001f40b" * 9_999]
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_nothing_of_a_long_line_is_lost(worker: Worker, text: str, end: str) -> None:
    worker.write((text + end).encode())
    lines = worker.finish()
    assert "".join(line for _, line in lines) == text.replace("\n", "")
    assert max(len(line.encode()) for _, line in lines) <= MAX_LINE_BYTES
    assert {stream for stream, _ in lines} == {STDOUT}


def test_bytes_that_are_no_text_are_shown_as_such(worker: Worker) -> None:
    worker.write(b"\x80" * (MAX_LINE_BYTES + 10) + b"\r\n")
    os.write(worker.err, b"\xff unfinished")
    *first, last = worker.finish()
    assert "".join(line for _, line in first) == "\\x80" * (MAX_LINE_BYTES + 10)
    assert last == (STDERR, "\\xff unfinished")


@pytest.mark.parametrize(
    ("size", "kept"), [(0, MAX_PENDING_LINES), (MAX_LINE_BYTES, MAX_PENDING_CHARACTERS // MAX_LINE_BYTES)]
)
def test_the_oldest_lines_are_dropped_and_counted_when_too_many_wait(size: int, kept: int) -> None:
    batch = LogBatch()
    for number in range(kept + 3):
        batch.add(number, "", STDOUT, ["x" * size])
    notice, *lines = batch.take()
    assert "3 lines were dropped" in notice.text
    assert [line.pid for line in lines] == list(range(3, kept + 3))
    assert batch.take() == []


def test_marks_tell_whose_lines_follow_and_are_no_lines(worker: Worker) -> None:
    worker.write(f"nobody\n{PRINTED_BY}train\nepoch 1\nepoch 2\n{PRINTED_BY[:5]}".encode())
    worker.write(f"{PRINTED_BY[5:]}test\nscore".encode())
    assert worker.finish() == [(STDOUT, line) for line in ("nobody", "epoch 1", "epoch 2", "score")]
    assert worker.tasks == ["", "train", "train", "test"]
