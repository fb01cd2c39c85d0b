"""Checkpoints: directories, local or remote, that a trial can go on from. Ray's class."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tune.storage import Storage

#: File in a checkpoint that holds what `Checkpoint.set_metadata` was given.
_METADATA = ".metadata.json"


class Checkpoint:
    """A directory with the state of a training, on this machine or in a storage.

    Args:
        path: local path or fsspec URL of the directory.
        filesystem: an fsspec file system that `path` is on; None takes the URL's, or this machine's.

    Example::

        with tempfile.TemporaryDirectory() as directory:
            torch.save(model.state_dict(), f"{directory}/model.pt")
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(directory))
    """

    def __init__(self, path: str | os.PathLike[str], filesystem: Any = None) -> None:
        self._place = Storage(path, filesystem)

    @classmethod
    def from_directory(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Return a checkpoint of a local directory. Nothing is copied until it is reported.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such directory.
        """
        if not Path(path).is_dir():
            problem = NotADirectoryError if Path(path).exists() else FileNotFoundError
            raise problem(f"Checkpoint.from_directory() needs a directory, and {os.fspath(path)!r} is none")
        return cls(path)

    @property
    def path(self) -> str:
        """The local path, or the path on its file system without the protocol."""
        return self._place.path

    @property
    def uri(self) -> str:
        """The absolute local path, or the URL; never with credentials."""
        return self._place.url

    @property
    def filesystem(self) -> Any:
        """The fsspec file system that holds it."""
        if self._place.filesystem is not None:
            return self._place.filesystem
        from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415 - costs 30 ms; few ask

        return LocalFileSystem()

    def to_directory(self, path: str | os.PathLike[str] | None = None) -> str:
        """Copy it to a local directory and return the directory's path.

        Args:
            path: the directory, made if needed; None for a new temporary one, which is the caller's to delete.

        Raises:
            FileNotFoundError: the checkpoint is gone.
        """
        target = tempfile.mkdtemp(prefix="checkpoint-") if path is None else os.fspath(path)
        self._place.download(target)
        return target

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        """Give a local directory with its contents: itself if it is local, else a copy that goes away at the end.

        Do not write to it.
        """
        if self._place.is_local:
            if not Path(self.path).is_dir():
                raise FileNotFoundError(f"the checkpoint {self.path} is gone")
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as directory:
            yield self.to_directory(directory)

    def get_metadata(self) -> dict[str, Any]:
        """Return what `set_metadata` stored; empty before."""
        try:
            data: dict[str, Any] = json.loads(self._place.child(_METADATA).read())
        except FileNotFoundError:
            return {}
        return data

    def set_metadata(self, metadata: dict[str, Any]) -> None:
        """Store a dictionary beside the contents, instead of the earlier one.

        Raises:
            TypeError: it is no dictionary, or JSON cannot hold it.
        """
        if not isinstance(metadata, dict):
            raise TypeError(f"metadata must be a dict, got {type(metadata).__name__}: {metadata!r}")
        self._place.child(_METADATA).write(json.dumps(metadata).encode())

    def update_metadata(self, metadata: dict[str, Any]) -> None:
        """Add to the stored dictionary; equal names are replaced."""
        self.set_metadata({**self.get_metadata(), **metadata})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __repr__(self) -> str:
        return f"Checkpoint({self.uri!r})"
