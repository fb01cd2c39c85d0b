"""`Storage`: a directory, local or on a remote file system that fsspec knows.

Credentials stay in the file system object, in memory: nothing here writes them, and URLs that hold them are refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Directories of checkpoints begin with this; they are not mirrored.
CHECKPOINT_PREFIX = "checkpoint_"
#: Files under way begin with this; they are not mirrored either.
TEMPORARY_PREFIX = ".tmp-"


class Storage:
    """A directory, local or remote. Need not exist. Pickles with its file system, credentials included.

    Args:
        path: local path or fsspec URL (``s3://bucket/dir``); with `filesystem`, a path on that.
        filesystem: an fsspec file system; None takes the URL's, configured by its environment.

    Raises:
        TypeError: `path` is no path, or `filesystem` is no fsspec file system.
        ValueError: the URL holds credentials, or nothing installed knows its protocol.
    """

    def __init__(self, path: str | os.PathLike[str], filesystem: Any = None) -> None:
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError(f"storage_path must be a path or a URL, got {type(path).__name__}: {path!r}")
        if filesystem is not None and not hasattr(filesystem, "unstrip_protocol"):
            raise TypeError(
                f"storage_filesystem must be an fsspec file system, got {type(filesystem).__name__}; wrap an Arrow "
                "one: fsspec.implementations.arrow.ArrowFSWrapper(fs)"
            )
        self.filesystem: Any = None
        if filesystem is None and "://" not in text:
            self.path: str = str(Path(text).expanduser().absolute())
            #: the path, or the URL without credentials
            self.url: str = self.path
            return
        _refuse_credentials(text)
        if filesystem is None:
            filesystem = _filesystem_of(text)
        protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
        self.path = str(filesystem._strip_protocol(text)).rstrip("/")  # noqa: SLF001 - fsspec offers no public name
        if protocol in ("file", "local"):
            self.url = self.path
            return
        self.filesystem = filesystem
        self.url = str(filesystem.unstrip_protocol(self.path))

    @property
    def is_local(self) -> bool:
        """Whether it is a directory of this machine."""
        return self.filesystem is None

    def child(self, *names: str) -> Storage:
        """Return a directory or file below."""
        same = Storage.__new__(Storage)
        same.filesystem = self.filesystem
        same.path = "/".join((self.path, *names))
        same.url = "/".join((self.url, *names))
        return same

    def exists(self) -> bool:
        """Tell whether it, or anything below it, exists."""
        if self.filesystem is None:
            return Path(self.path).exists()
        self.filesystem.invalidate_cache()
        return bool(self.filesystem.exists(self.path))

    def names(self) -> list[str]:
        """Return the names of what is in it, sorted; nothing if it does not exist."""
        try:
            if self.filesystem is None:
                return sorted(entry.name for entry in Path(self.path).iterdir())
            found = self.filesystem.ls(self.path, detail=False, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found if name.rstrip("/") != self.path)

    def files(self) -> dict[str, int]:
        """Return the paths of all files below, relative to it, with their sizes in bytes."""
        if self.filesystem is None:
            return {str(file.relative_to(self.path)): file.stat().st_size for file in _local_files(Path(self.path))}
        self.filesystem.invalidate_cache()
        found = self.filesystem.find(self.path, detail=True)
        return {name[len(self.path) + 1 :]: int(entry.get("size") or 0) for name, entry in found.items()}

    def read(self) -> bytes:
        """Return the contents of the file.

        Raises:
            FileNotFoundError: there is none.
        """
        if self.filesystem is None:
            return Path(self.path).read_bytes()
        data: bytes = self.filesystem.cat_file(self.path)
        return data

    def write(self, data: bytes) -> None:
        """Write the file, whole or not at all."""
        if self.filesystem is not None:
            try:
                self.filesystem.pipe_file(self.path, data)
            except FileNotFoundError:  # a file system that has real directories
                self.filesystem.makedirs(self.path.rpartition("/")[0], exist_ok=True)
                self.filesystem.pipe_file(self.path, data)
            return
        target = Path(self.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
        temporary.write_bytes(data)
        temporary.replace(target)

    def upload(self, directory: str | os.PathLike[str]) -> None:
        """Copy the contents of a local directory here: atomically to a local place, file by file to a remote one."""
        if self.filesystem is None:
            copy_atomically(Path(directory), Path(self.path))
            return
        for file in _local_files(Path(directory)):
            remote = f"{self.path}/{file.relative_to(directory).as_posix()}"
            try:
                self.filesystem.put_file(str(file), remote)
            except FileNotFoundError:  # as in `write`
                self.filesystem.makedirs(remote.rpartition("/")[0], exist_ok=True)
                self.filesystem.put_file(str(file), remote)

    def download(self, directory: str | os.PathLike[str]) -> None:
        """Copy everything below to a local directory.

        Raises:
            FileNotFoundError: there is nothing.
        """
        if self.filesystem is None:
            shutil.copytree(self.path, directory, dirs_exist_ok=True)
            return
        files = self.files()
        if not files:
            raise FileNotFoundError(f"there is no {self.url}")
        for name in files:
            self.download_file(name, Path(directory))

    def download_file(self, name: str, directory: Path) -> None:
        """Copy one file below it to the same place below a local directory."""
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.filesystem.get_file(f"{self.path}/{name}", str(target))

    def delete(self) -> None:
        """Delete it with all that is below; nothing happens if it is gone."""
        try:
            if self.filesystem is None:
                shutil.rmtree(self.path)
            else:
                self.filesystem.invalidate_cache()
                self.filesystem.rm(self.path, recursive=True)
        except FileNotFoundError:
            pass

    def __repr__(self) -> str:
        return f"Storage({self.url!r})"


def _refuse_credentials(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise ValueError(
            f"the storage path {parts.scheme}://... holds credentials or options, which would be written into files: "
            "pass storage_filesystem=, or set them in the environment"
        )


def _filesystem_of(url: str) -> Any:
    import fsspec  # noqa: PLC0415 - costs 30 ms, and most experiments are local

    try:
        return fsspec.core.url_to_fs(url)[0]
    except (ValueError, ImportError) as error:
        raise ValueError(f"storage path {url!r}: {error}") from error


def _local_files(directory: Path) -> Iterator[Path]:
    """Yield the files below, without those of links to directories."""
    for place, _, names in os.walk(directory):
        for name in names:
            yield Path(place, name)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a directory; `target` appears whole or not at all, and replaces what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source, temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
