"""Checkpoints: local and remote directories, metadata, what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tune.checkpoint import Checkpoint
from tune.storage import Storage


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "made"
    (place / "deep").mkdir(parents=True)
    (place / "weights").write_bytes(b"\0\1")
    (place / "deep" / "state").write_text("7")
    return place


@pytest.fixture
def remote(directory: Path) -> Iterator[Checkpoint]:
    Storage("memory://bucket/run/checkpoint_000000").upload(directory)
    yield Checkpoint("memory://bucket/run/checkpoint_000000")
    fsspec.filesystem("memory").store.clear()


def test_a_local_checkpoint_is_its_directory(directory: Path) -> None:
    checkpoint = Checkpoint.from_directory(directory)
    assert checkpoint.path == checkpoint.uri == str(directory)
    with checkpoint.as_directory() as place:
        assert place == str(directory)
    assert directory.exists()


def test_to_directory_copies(directory: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.from_directory(directory)
    target = checkpoint.to_directory(tmp_path / "copy")
    assert (tmp_path / "copy" / "deep" / "state").read_text() == "7"
    assert target == str(tmp_path / "copy")
    temporary = Path(checkpoint.to_directory())
    assert (temporary / "weights").read_bytes() == b"\0\1"
    assert temporary != directory


def test_a_remote_checkpoint_is_fetched_and_the_copy_goes_away(remote: Checkpoint) -> None:
    assert remote.uri == "memory:///bucket/run/checkpoint_000000"
    with remote.as_directory() as place:
        assert Path(place, "deep", "state").read_text() == "7"
    assert not Path(place).exists()


@pytest.mark.parametrize("where", ["local", "remote"])
def test_metadata(where: str, directory: Path, remote: Checkpoint) -> None:
    checkpoint = Checkpoint(directory) if where == "local" else remote
    assert checkpoint.get_metadata() == {}
    checkpoint.set_metadata({"a": 1})
    checkpoint.update_metadata({"b": [2]})
    assert checkpoint.get_metadata() == {"a": 1, "b": [2]}
    checkpoint.set_metadata({})
    assert checkpoint.get_metadata() == {}
    with pytest.raises(TypeError, match="must be a dict"):
        checkpoint.set_metadata([1])  # type: ignore[arg-type]


def test_the_file_system_is_fsspecs(directory: Path, remote: Checkpoint) -> None:
    assert Checkpoint(directory).filesystem.exists(str(directory / "weights"))
    assert remote.filesystem.cat_file(f"{remote.path}/weights") == b"\0\1"


@pytest.mark.parametrize("name", ["missing", "made/weights"])
def test_from_directory_needs_a_directory(directory: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="needs a directory"):
        Checkpoint.from_directory(tmp_path / name)


def test_a_checkpoint_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Checkpoint(tmp_path / "gone").as_directory():
        pass
    with pytest.raises(FileNotFoundError, match="there is no memory://"):
        Checkpoint("memory://gone/checkpoint").to_directory(tmp_path / "target")


def test_equality_and_pickling(directory: Path, remote: Checkpoint) -> None:
    assert pickle.loads(pickle.dumps(remote)) == remote
    assert Checkpoint(directory) == Checkpoint(str(directory))
    assert len({Checkpoint(directory), Checkpoint(directory), remote}) == 2
    assert repr(Checkpoint("/a")) == "Checkpoint('/a')"
