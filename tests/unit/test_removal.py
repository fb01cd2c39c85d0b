"""``core.node.removal``: all of a session goes, and nothing else."""

from __future__ import annotations

from pathlib import Path

from core.node.removal import remove_spill_files, remove_tree


def test_a_tree_goes_with_all_in_it(tmp_path: Path) -> None:
    (tmp_path / "session" / "a" / "b").mkdir(parents=True)
    (tmp_path / "session" / "a" / "b" / "file").write_text("x")
    (tmp_path / "session" / "lock").write_text("")
    remove_tree(tmp_path / "session")
    assert list(tmp_path.iterdir()) == []


def test_links_go_and_what_they_point_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "directory").symlink_to(kept)
    (tmp_path / "session" / "file").symlink_to(kept / "file")
    (tmp_path / "session" / "nothing").symlink_to(tmp_path / "missing")
    remove_tree(tmp_path / "session")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "x"


def test_what_is_missing_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "missing")
    remove_spill_files(tmp_path / "missing")


def test_spilled_objects_go_wherever_they_are(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "object").write_bytes(b"x")
    session = tmp_path / "session"
    session.mkdir()
    (session / "spill").symlink_to(elsewhere)
    remove_spill_files(session)
    assert not elsewhere.exists()
    assert list(session.iterdir()) == []
