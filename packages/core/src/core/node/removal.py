"""Removing what a session leaves on disk.

By hand, since ``shutil`` costs every process of a session 2 ms and three compression libraries; and whoever removes a
session may be the last process that still has the package, so nothing is imported for it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def remove_tree(directory: Path) -> None:
    """Remove a directory and all in it, links but not what they point to; what is missing or stays is no error."""
    for parent, directories, files in os.walk(directory, topdown=False):
        for name in files:
            with contextlib.suppress(OSError):
                Path(parent, name).unlink()
        for name in directories:
            path = Path(parent, name)
            with contextlib.suppress(OSError):
                # A link to a directory is listed among the directories, and not followed.
                path.unlink() if path.is_symlink() else path.rmdir()
    with contextlib.suppress(OSError):
        directory.rmdir()


def remove_spill_files(session_dir: Path) -> None:
    """Remove a session's spilled objects, wherever they are; does nothing if there are none."""
    place = session_dir / "spill"
    if place.is_symlink():
        remove_tree(place.readlink())
        place.unlink(missing_ok=True)
    else:
        remove_tree(place)
