"""Copies of the code that a revision runs, so that a rollback brings old code back although its files have changed.

A copy lies in a directory named after its content, so the same code is the same directory, and a changed one is a
change of the application. Copies lie in the session's directory and go with it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

#: bytes that the copy of one application may have; Ray's limit for a working directory
LARGEST = 500 * 1024 * 1024
#: never copied
_LEFT_OUT = (
    "__pycache__",
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "node_modules",
)


def of_directory(directory: Path, excludes: Iterable[str], store: Path) -> Path:
    """Copy a whole directory.

    Args:
        directory: what to copy.
        excludes: patterns of names and of paths within it to leave out, besides caches and repositories.
        store: where the copies are.

    Raises:
        ValueError: it is no directory, or too large.
    """
    if not directory.is_dir():
        raise ValueError(f"working_dir {directory} is no directory")
    return _copy(directory, _walk(directory, tuple(excludes)), store)


def of_module(module: Path, store: Path) -> Path:
    """Copy a package or the file of a module, and return the copy.

    Raises:
        ValueError: there is none, or it is too large.
    """
    if not module.exists():
        raise ValueError(f"there is no {module}, which runtime_env.py_modules names")
    module = module.resolve()
    return _copy(module.parent, _files(module), store) / module.name


def of_imported(directory: Path, store: Path) -> list[Path]:
    """Copy the modules that this process has imported from a directory, packages as a whole, and return the copies.

    Raises:
        ValueError: they are too large.
    """
    top: set[Path] = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or not Path(file).is_relative_to(directory):
            continue
        relative = Path(file).relative_to(directory)
        if not {"site-packages", *_LEFT_OUT} & set(relative.parts):
            top.add(directory / relative.parts[0])
    if not top:
        return []
    copy = _copy(directory, [file for each in sorted(top) for file in _files(each)], store)
    return [copy / each.name for each in sorted(top)]


def _files(module: Path) -> Iterable[Path]:
    return _walk(module, ()) if module.is_dir() else [module]


def _walk(directory: Path, excludes: tuple[str, ...]) -> Iterator[Path]:
    for place, directories, names in os.walk(directory):
        here = Path(place)

        def kept(name: str, here: Path = here) -> bool:
            inside = (here / name).relative_to(directory).as_posix()
            return not any(fnmatch.fnmatch(name, each) or fnmatch.fnmatch(inside, each.strip("/")) for each in excludes)

        directories[:] = sorted(name for name in directories if name not in _LEFT_OUT and kept(name))
        yield from (here / name for name in sorted(names) if kept(name) and (here / name).is_file())


def _copy(directory: Path, files: Iterable[Path], store: Path) -> Path:
    store.mkdir(parents=True, exist_ok=True)
    hashed = hashlib.sha256()
    size = 0
    made = Path(tempfile.mkdtemp(prefix="new-", dir=store))
    try:
        for file in files:
            size += file.stat().st_size
            if size > LARGEST:
                raise ValueError(
                    f"{directory} has more than {LARGEST >> 20} MiB, too much to keep a copy of for each revision; "
                    "put data elsewhere, or name it in runtime_env.excludes"
                )
            content = file.read_bytes()
            relative = file.relative_to(directory)
            hashed.update(f"{relative.as_posix()}\0{len(content)}\0".encode() + content)
            target = made / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            shutil.copymode(file, target)
        kept = store / hashed.hexdigest()[:16]
        if not kept.exists():
            made.rename(kept)
        return kept
    finally:
        shutil.rmtree(made, ignore_errors=True)
