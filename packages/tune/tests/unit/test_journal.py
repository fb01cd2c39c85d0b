"""The journal: what is written comes back, torn ends are overlooked, damage is not; one driver at a time."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.controller import codec, journal, records
from tune.controller.journal import JournalWriter, Position
from tune.controller.lock import ExperimentLock, running_pid
from tune.controller.records import Arrived, Began, Created, Cut, Decided, Rules
from tune.errors import ExperimentInUseError, JournalError
from tune.messages import Reported, TrialFailed, TrialReported
from tune.trial import CheckpointRecord, FailureKind, ResourceRequest, TrialFailure


class Model:
    """Something that only pickle can carry."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.size == self.size

    __hash__ = None  # type: ignore[assignment]


def write(directory: Path, payloads: list[bytes]) -> None:
    writer = JournalWriter(directory)
    for index, payload in enumerate(payloads):
        writer.append(payload, index)
    writer.close()


def payloads(directory: Path, start: Position = Position()) -> list[bytes]:  # noqa: B008
    return [bytes(entry.payload) for entry in journal.read(directory, start)]


def test_what_is_written_comes_back_in_order_over_segments(tmp_path: Path) -> None:
    write(tmp_path, [b"one", b"two"])
    write(tmp_path, [b"", b"three" * 1000])
    assert payloads(tmp_path) == [b"one", b"two", b"", b"three" * 1000]
    assert journal.segments(tmp_path) == [1, 2]
    assert [entry.index for entry in journal.read(tmp_path)] == [0, 1, 0, 1]


def test_nothing_is_in_the_file_before_write_and_all_of_it_after(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path)
    writer.append(b"waits")
    assert payloads(tmp_path) == []
    writer.write()
    assert payloads(tmp_path) == [b"waits"]
    writer.close()
    writer.close()


def test_reading_begins_at_any_position_of_the_writer(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path)
    for number in range(5):
        writer.append(b"%d" % number)
        writer.write()
        if number == 2:
            position = writer.position
    writer.close()
    assert payloads(tmp_path, position) == [b"3", b"4"]
    assert journal.read_entry(tmp_path, position).payload == b"3"


def test_a_large_segment_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_SIZE", 100)
    writer = JournalWriter(tmp_path)
    for number in range(10):
        writer.append(bytes([number]) * 60)
        writer.write()
    writer.close()
    assert len(journal.segments(tmp_path)) > 3
    assert payloads(tmp_path) == [bytes([number]) * 60 for number in range(10)]


@given(kept=st.integers(0, 200))
def test_cut_at_any_byte_the_whole_records_before_it_are_there(
    tmp_path_factory: pytest.TempPathFactory, kept: int
) -> None:
    directory = tmp_path_factory.mktemp("cut")
    written = [bytes([65 + number]) * (number * 3) for number in range(8)]
    write(directory, written)
    path = journal.segment_path(directory, 1)
    os.truncate(path, min(kept, path.stat().st_size))
    read = payloads(directory)
    assert read == written[: len(read)]
    write(directory, [b"after"])
    assert payloads(directory) == [*read, b"after"]


def test_damage_before_the_end_is_reported_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, [b"first", b"second"])
    path = journal.segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[data.index(b"first")] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"000001\.log is damaged at byte 8"):
        payloads(tmp_path)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    journal.segment_path(tmp_path, 1).write_bytes(b"something else entirely")
    with pytest.raises(JournalError, match="not a journal of tune"):
        payloads(tmp_path)


def test_records_come_back_as_they_were() -> None:
    checkpoint = CheckpointRecord("checkpoint_000001", 1, {"loss": 0.5})
    reported = TrialReported("t", 1, [Reported({"loss": 0.5, "deep": {"a": [1, None]}}, checkpoint)], waiting=True)
    failure = TrialFailure(FailureKind.DIED, "WorkerDiedError", "signal 9", "", b"\x00\xff")
    for record in [
        Began(1.5, Rules(name="é", metrics=("loss",), modes=("min",)), actions={"t": "RESUME"}),
        Arrived(2.0, 1, reported),
        Arrived(2.0, 0, TrialFailed("t", 1, failure)),
        Decided(0, "t", "exploit", "u", {"x": 1}, {}),
        Cut("t", 3),
    ]:
        assert records.decode(records.encode([record])) == [record]


def test_nan_and_infinity_survive() -> None:
    (record,) = records.decode(
        records.encode([Arrived(1.0, 1, TrialReported("t", 1, [Reported({"a": math.nan, "b": math.inf})]))])
    )
    assert isinstance(record, Arrived)
    assert isinstance(record.event, TrialReported)
    result = record.event.reports[0].result
    assert math.isnan(result["a"])
    assert result["b"] == math.inf


@pytest.mark.parametrize(
    "config", [{"layers": (1, 2)}, {"model": Model(3)}, {"big": 1 << 70}, {1: "int key"}, {"odd": "\ud800"}]
)
def test_configurations_come_back_exactly(config: dict[object, object]) -> None:
    created = Created(0, "t", codec.exact(config), {}, "d", "n", ResourceRequest(), None)
    (record,) = records.decode(records.encode([created]))
    assert isinstance(record, Created)
    assert record.config == config
    assert list(map(type, record.config.values())) == list(map(type, config.values()))


@pytest.mark.parametrize("value", [1 << 70, "\ud800", Model(1), {("a", 1): 2}, {3}])
def test_a_result_of_whatever_kind_is_recorded(value: object) -> None:
    arrived = Arrived(1.0, 1, TrialReported("t", 1, [Reported({"value": value})]))
    assert records.decode(records.encode([arrived]))[0].now == 1.0  # type: ignore[union-attr]


def test_a_second_driver_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import sys\nfrom pathlib import Path\nfrom tune.controller.lock import ExperimentLock\n"
                f"lock = ExperimentLock(Path({str(tmp_path)!r}))\nprint('held', flush=True)\nsys.stdin.read()"
            ),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert running_pid(tmp_path) == holder.pid
        with pytest.raises(ExperimentInUseError, match=f"run by process {holder.pid}") as caught:
            ExperimentLock(tmp_path)
        assert caught.value.pid == holder.pid
    finally:
        holder.kill()
        holder.communicate()
    assert running_pid(tmp_path) is None
    lock = ExperimentLock(tmp_path)
    assert running_pid(tmp_path) == os.getpid()
    lock.release()
    lock.release()
