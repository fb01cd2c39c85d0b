"""Places of experiments, local and remote; the mirror; which side wins. The remote side is fsspec's memory."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.eventually import eventually
from tune.storage import ExperimentStorage, Mirror, Storage, copy_atomically, default_storage_path


@pytest.fixture(autouse=True)
def _memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(tmp_path / "place") if request.param == "local" else Storage("memory://bucket/place")


def test_files_directories_and_deletion(place: Storage, tmp_path: Path) -> None:
    assert not place.exists()
    assert place.names() == []
    place.child("a").write(b"1")
    place.child("b", "c").write(b"22")
    assert place.exists()
    assert place.names() == ["a", "b"]
    assert place.files() == {"a": 1, "b/c": 2}
    assert place.child("b", "c").read() == b"22"
    with pytest.raises(FileNotFoundError):
        place.child("missing").read()
    place.download(tmp_path / "down")
    assert (tmp_path / "down" / "b" / "c").read_bytes() == b"22"
    place.child("b").delete()
    place.child("b").delete()
    assert place.names() == ["a"]


def test_upload_of_a_directory(place: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_text("x")
    place.child("copy").upload(source)
    assert place.files() == {"copy/deep/file": 1}


def test_a_local_copy_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "good").write_text("new")
    (source / "unreadable").symlink_to(tmp_path / "nowhere")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "good").write_text("old")
    with pytest.raises(OSError, match="unreadable"):
        copy_atomically(source, tmp_path / "target")
    assert (tmp_path / "target" / "good").read_text() == "old"
    (source / "unreadable").unlink()
    copy_atomically(source, tmp_path / "target")
    assert (tmp_path / "target" / "good").read_text() == "new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source", "target"]


def test_urls() -> None:
    assert Storage("~/x").path == str(Path("~/x").expanduser())
    assert Storage("relative").path == str(Path("relative").absolute())
    remote = Storage("memory://bucket/a/")
    assert not remote.is_local
    assert remote.child("b").url == "memory:///bucket/a/b"
    assert Storage(remote.child("b").url).path == "/bucket/a/b"
    assert Storage("bucket/a", fsspec.filesystem("memory")).url == "memory:///bucket/a"
    assert Storage("file:///tmp/x").is_local
    assert Storage("/tmp/x", fsspec.filesystem("file")).path == "/tmp/x"
    same = pickle.loads(pickle.dumps(remote))
    assert (same.url, same.path) == (remote.url, remote.path)


@pytest.mark.parametrize("url", ["s3://key:secret@host/bucket", "s3://bucket/a?token=x"])
def test_credentials_in_urls_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="holds credentials") as caught:
        Storage(url)
    assert "secret" not in str(caught.value) and "token" not in str(caught.value)


def test_what_is_no_place() -> None:
    with pytest.raises(TypeError, match="must be an fsspec file system"):
        Storage("x", object())
    with pytest.raises(ValueError, match="nonsense"):
        Storage("nonsense://bucket")
    with pytest.raises(TypeError):
        Storage(3)  # type: ignore[arg-type]


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SKATE_TUNE_RESULTS", str(tmp_path))
    assert default_storage_path() == tmp_path
    assert ExperimentStorage(None, "name").directory == tmp_path / "name"
    monkeypatch.delenv("SKATE_TUNE_RESULTS")
    assert default_storage_path() == Path("~/skate_results").expanduser()


# -- the mirror ---------------------------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Path:
    directory = tmp_path / "local"
    (directory / "journal").mkdir(parents=True)
    (directory / "journal" / "000000.jsonl").write_text("one\n")
    return directory


def test_the_mirror_copies_what_changed_and_no_checkpoints(local: Path) -> None:
    remote = Storage("memory://bucket/run")
    mirror = Mirror(local, remote)
    (local / "trial" / "checkpoint_000000").mkdir(parents=True)
    (local / "trial" / "checkpoint_000000" / "weights").write_text("large")
    (local / "trial" / ".tmp-half").write_text("half")
    (local / "trial" / "result.json").write_text("{}")
    mirror.copy()
    assert set(remote.files()) == {"journal/000000.jsonl", "trial/result.json"}
    (local / "journal" / "000000.jsonl").write_text("one\ntwo\n")
    remote.child("trial/result.json").write(b"untouched")
    mirror.copy()
    assert remote.child("journal/000000.jsonl").read() == b"one\ntwo\n"
    assert remote.child("trial/result.json").read() == b"untouched"


def test_a_snapshot_is_never_ahead_of_the_journal(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever moment the copying is cut off at: a remote snapshot is of a state that the remote journal has."""
    remote = Storage("memory://bucket/run")
    snapshot, journal = local / "snapshot.pkl", local / "journal" / "000000.jsonl"
    written: list[str] = []
    write = Storage.write

    def racing(self: Storage, data: bytes) -> None:
        # The sweep goes on in the middle of the copy: journal first, then a snapshot of it.
        journal.write_text(journal.read_text() + "later\n")
        snapshot.write_text(str(len(journal.read_text())))
        write(self, data)
        written.append(self.path.rpartition("/")[2])
        if (remote.path + "/snapshot.pkl") in fsspec.filesystem("memory").store:
            assert int(remote.child("snapshot.pkl").read()) <= len(remote.child("journal/000000.jsonl").read())

    monkeypatch.setattr(Storage, "write", racing)
    snapshot.write_text(str(len(journal.read_text())))
    mirror = Mirror(local, remote)
    for _ in range(3):
        mirror.copy()
    assert written[-1] == "snapshot.pkl"
    assert "000000.jsonl" in written


def test_large_files_are_not_copied_at_every_change(local: Path) -> None:
    remote = Storage("memory://bucket/run")
    mirror = Mirror(local, remote)
    page = local / "report.html"
    page.write_bytes(b"1" * (2 << 20))
    mirror.copy(last=False)
    page.write_bytes(b"2" * (2 << 20))
    mirror.copy(last=False)
    assert remote.child("report.html").read()[:1] == b"1"
    mirror.copy()
    assert remote.child("report.html").read()[:1] == b"2"


def test_deletions_wait_for_the_journal(local: Path) -> None:
    remote = Storage("memory://bucket/run")
    old = remote.child("trial", "checkpoint_000000")
    old.child("weights").write(b"1")
    mirror = Mirror(local, remote)
    mirror.delete_later(old)
    assert old.exists()
    mirror.copy()
    assert not old.exists()


def test_a_remote_side_that_fails_is_tried_again(
    local: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    remote = Storage("memory://bucket/run")
    failures = [OSError("down"), OSError("down")]
    write = Storage.write

    def failing(self: Storage, data: bytes) -> None:
        if failures:
            raise failures.pop()
        write(self, data)

    monkeypatch.setattr(Storage, "write", failing)
    mirror = Mirror(local, remote, interval_s=0.01)
    mirror.start()
    eventually(lambda: "journal/000000.jsonl" in remote.files())
    mirror.close()
    assert [record.message for record in caplog.records] == [
        "memory:///bucket/run cannot be written to, trying again: down"
    ]


# -- experiments --------------------------------------------------------------------------------------------------


def test_a_local_experiment_is_its_directory(tmp_path: Path) -> None:
    with ExperimentStorage(tmp_path, "run") as storage:
        assert storage.prepare() == tmp_path / "run"
        assert storage.url == str(tmp_path / "run")
        place, directory = storage.trial(f"{storage.url}/trial_0")
        assert place.path == str(directory) == str(tmp_path / "run" / "trial_0")
        (directory / "checkpoint_000000").mkdir(parents=True)
        storage.delete_checkpoint(f"{storage.url}/trial_0", "checkpoint_000000")
        assert not (directory / "checkpoint_000000").exists()


def test_a_remote_experiment_is_staged_and_fetched_by_another_machine(tmp_path: Path) -> None:
    here = ExperimentStorage("memory://bucket", "run", staging=tmp_path / "here")
    with here:
        directory = here.prepare()
        (directory / "journal").mkdir()
        (directory / "journal" / "000000.jsonl").write_text("one\n")
        here.trial(f"{here.url}/t0")[0].child("checkpoint_000000", "weights").write(b"1")
        here.delete_checkpoint(f"{here.url}/t0", "checkpoint_000009")
    there = ExperimentStorage("memory://bucket", "run", staging=tmp_path / "there")
    fetched = there.prepare()
    assert (fetched / "journal" / "000000.jsonl").read_text() == "one\n"
    assert not (fetched / "t0").exists(), "checkpoints stay where they are"


@pytest.mark.parametrize(
    ("mine", "theirs", "winner"), [("longer\n", "short\n", "longer\n"), ("a\n", "beyond\n", "beyond\n")]
)
def test_the_side_with_the_longer_journal_wins(tmp_path: Path, mine: str, theirs: str, winner: str) -> None:
    storage = ExperimentStorage("memory://bucket", "run", staging=tmp_path)
    journal = storage.directory / "journal" / "000000.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text(mine)
    storage.storage.child("journal", "000000.jsonl").write(theirs.encode())
    storage.prepare()
    assert journal.read_text() == winner


def test_the_staging_directory_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = ExperimentStorage("memory://bucket", "run").prepare()
    (base,) = tmp_path.iterdir()
    assert base.stat().st_mode & 0o777 == 0o700
    assert directory.is_relative_to(base)
    assert directory == ExperimentStorage("memory://bucket/", "run").directory
    monkeypatch.setattr(os, "getuid", lambda: base.stat().st_uid + 1)
    (tmp_path / f"skate-tune-{base.stat().st_uid + 1}").mkdir()
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        ExperimentStorage("memory://bucket", "run")


def test_what_trial_processes_get_has_no_mirror(tmp_path: Path) -> None:
    with ExperimentStorage("memory://bucket", "run", staging=tmp_path) as storage:
        copy = pickle.loads(pickle.dumps(storage))
    assert copy.url == storage.url
    assert copy.trial(f"{copy.url}/t0")[1] == tmp_path / "run" / "t0"
