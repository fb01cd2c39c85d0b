"""Copies of code: named after their content, without what is no code, as large as allowed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serve.api import snapshot


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    (directory / "package" / "__pycache__").mkdir(parents=True)
    (directory / ".git").mkdir()
    (directory / ".git" / "config").write_text("x")
    (directory / "package" / "__init__.py").write_text("A = 1\n")
    (directory / "package" / "words.txt").write_text("words")
    (directory / "package" / "__pycache__" / "a.pyc").write_text("x")
    (directory / "data.csv").write_text("1,2")
    return directory


def names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_a_directory_is_copied_without_caches_and_repositories(project: Path, tmp_path: Path) -> None:
    copy = snapshot.of_directory(project, (), tmp_path / "store")
    assert names(copy) == {"package/__init__.py", "package/words.txt", "data.csv"}


@pytest.mark.parametrize("pattern", ["*.csv", "data.csv", "/data.csv"])
def test_what_is_excluded_stays_behind(project: Path, tmp_path: Path, pattern: str) -> None:
    copy = snapshot.of_directory(project, (pattern,), tmp_path / "store")
    assert names(copy) == {"package/__init__.py", "package/words.txt"}


def test_the_same_content_is_the_same_copy(project: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = snapshot.of_directory(project, (), store)
    assert snapshot.of_directory(project, (), store) == first
    (project / "package" / "__init__.py").write_text("A = 2\n")
    second = snapshot.of_directory(project, (), store)
    assert second != first
    assert (first / "package" / "__init__.py").read_text() == "A = 1\n"
    assert {path.name for path in store.iterdir()} == {first.name, second.name}


def test_a_module_alone(project: Path, tmp_path: Path) -> None:
    assert names(snapshot.of_module(project / "package", tmp_path / "store")) == {"__init__.py", "words.txt"}
    file = snapshot.of_module(project / "package" / "__init__.py", tmp_path / "store")
    assert file.read_text() == "A = 1\n"
    with pytest.raises(ValueError, match="there is no"):
        snapshot.of_module(project / "none.py", tmp_path / "store")


def test_imported_modules_are_copied_with_their_packages(project: Path, tmp_path: Path) -> None:
    (project / "package").rename(project / "snapshot_sample")
    (project / "snapshot_unused.py").write_text("")
    sys.path.insert(0, str(project))
    try:
        __import__("snapshot_sample")
        copies = snapshot.of_imported(project, tmp_path / "store")
    finally:
        sys.path.remove(str(project))
        sys.modules.pop("snapshot_sample", None)
    assert [copy.name for copy in copies] == ["snapshot_sample"]
    assert names(copies[0].parent) == {"snapshot_sample/__init__.py", "snapshot_sample/words.txt"}


def test_nothing_imported_nothing_copied(project: Path, tmp_path: Path) -> None:
    assert snapshot.of_imported(project, tmp_path / "store") == []


def test_too_much_is_refused_and_leaves_nothing(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LARGEST", 4)
    with pytest.raises(ValueError, match=r"too much to keep a copy .*runtime_env.excludes"):
        snapshot.of_directory(project, (), tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no directory"):
        snapshot.of_directory(tmp_path / "none", (), tmp_path / "store")
