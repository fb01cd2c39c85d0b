"""Where experiments are kept: a local directory, or a directory of a remote file system that fsspec knows.

A remote experiment has a local *staging* directory. The driver works there as if it were the experiment; a background
thread (`Mirror`) copies what changed to the remote side. Checkpoints never pass through the driver: the trial's process
uploads them before it reports them. So the remote journal names only checkpoints that exist there, and a sweep can be
resumed on another machine from the remote side alone.

Order of a copy. A snapshot says up to which point of the journal it holds, so the remote journal must never be behind
the remote snapshot: snapshots are read first and written last. A checkpoint is deleted only after a copy of the journal
that no longer counts on it.

Credentials stay in the file system object, in memory: nothing here writes them, and URLs that hold them are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

logger: logging.Logger = logging.getLogger(__name__)

#: Directories of checkpoints begin with this; they are not mirrored.
CHECKPOINT_PREFIX = "checkpoint_"
#: Files under way begin with this; they are not mirrored either.
TEMPORARY_PREFIX = ".tmp-"
_NOT_MIRRORED = (CHECKPOINT_PREFIX, TEMPORARY_PREFIX)
#: Read first and written last (see the module's docstring).
_LATE = frozenset({"snapshot.pkl"})
#: Environment variable: where experiments go that name no ``storage_path``.
RESULTS_VARIABLE = "SKATE_TUNE_RESULTS"
#: Seconds between two copies of what changed.
INTERVAL_S = 2.0
#: Copies are so many times as far apart as one takes.
_PAUSE_SHARE = 10.0
#: Seconds that the last copy may take.
TIMEOUT_S = 1800.0
#: What tune itself writes into trials' directories; everything else there are artifacts of the trials' code.
_RECORDS = frozenset(
    {"params.json", "params.pkl", "result.json", "progress.csv", "error.txt", "error.pkl", "stdout", "stderr"}
)
_EVENT_FILES = "events.out.tfevents."
#: Files of more bytes than this (pages for people) are copied at most every so many seconds, and at the end.
LARGE, LARGE_INTERVAL_S = 1 << 20, 30.0
#: Seconds between two attempts when the remote side fails, at most.
_LONGEST_PAUSE_S = 60.0


def default_storage_path() -> Path:
    """Return where experiments go that name no ``storage_path``: ``~/skate_results`` unless the environment says."""
    return Path(os.environ.get(RESULTS_VARIABLE) or "~/skate_results").expanduser().absolute()


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


def is_record(path: Path) -> bool:
    """Tell whether tune itself writes such a file into trials' directories."""
    return path.name in _RECORDS or path.name.startswith(_EVENT_FILES)


class Mirror:
    """Copies a local experiment to its remote place while it grows, in a thread of its own.

    A remote side that fails is tried again, ever more slowly, with one warning; the sweep goes on.

    Args:
        directory: the local side.
        remote: the remote side.
        interval_s: seconds between two copies; more if they take long.
        timeout_s: seconds that the last copy may take.
        artifacts: copy also what trials' own code leaves in their directories.
    """

    def __init__(
        self,
        directory: Path,
        remote: Storage,
        interval_s: float = INTERVAL_S,
        *,
        timeout_s: float = TIMEOUT_S,
        artifacts: bool = True,
    ) -> None:
        self._directory = directory
        self._remote = remote
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._artifacts = artifacts
        #: modification time and size of what is on the remote side, by relative path
        self._copied: dict[str, tuple[int, int]] = {}
        #: when large files were copied (monotonic seconds)
        self._large: dict[str, float] = {}
        #: to be deleted after the next copy
        self._doomed: list[Storage] = []
        #: one copy at a time
        self._lock = threading.Lock()
        self._stop = threading.Event()
        #: set: copy now, or stop
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tune-mirror", daemon=True)

    def start(self) -> None:
        """Begin copying."""
        self._thread.start()

    def hurry(self) -> None:
        """Copy as soon as possible, in the thread."""
        self._wake.set()

    def delete_later(self, place: Storage) -> None:
        """Delete something remote after the next copy, when the remote journal counts on it no more."""
        self._doomed.append(place)

    def copy(self, *, last: bool = True) -> None:
        """Copy what changed since the last time, now.

        Args:
            last: large files too, also those copied a moment ago.

        Raises:
            OSError or what the remote file system raises: not all was copied; the next call goes on.
        """
        with self._lock:
            doomed, self._doomed = self._doomed, []
            try:
                self._copy(last)
                while doomed:
                    doomed[-1].delete()
                    doomed.pop()
            finally:
                self._doomed += doomed

    def _copy(self, last: bool) -> None:
        before = self._changed()
        late = {name: (self._directory / name).read_bytes() for name in before if Path(name).name in _LATE}
        # Looked at again: the journal must hold all that the snapshots just read count on.
        for name, state in self._changed().items():
            if Path(name).name not in _LATE and (last or self._due(name, state[1])):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    self._remote.child(name).write((self._directory / name).read_bytes())
                self._copied[name] = state
        for name, data in late.items():
            self._remote.child(name).write(data)
            self._copied[name] = before[name]

    def _due(self, name: str, size: int) -> bool:
        """Tell whether a changed file is to be copied now, and note that a large one is."""
        if size <= LARGE:
            return True
        now = time.monotonic()
        if now - self._large.get(name, -LARGE_INTERVAL_S) < LARGE_INTERVAL_S:
            return False
        self._large[name] = now
        return True

    def _changed(self) -> dict[str, tuple[int, int]]:
        """Return (modification time, size) of the files that the remote side does not have like this."""
        changed = {}
        for place, directories, names in os.walk(self._directory):
            directories[:] = [name for name in directories if not name.startswith(_NOT_MIRRORED)]
            for name in names:
                file = Path(place, name)
                relative = str(file.relative_to(self._directory))
                with contextlib.suppress(FileNotFoundError):
                    status = file.stat()
                    state = (status.st_mtime_ns, status.st_size)
                    if self._mirrors(relative) and self._copied.get(relative) != state:
                        changed[relative] = state
        return changed

    def _mirrors(self, relative: str) -> bool:
        path = Path(relative)
        if path.name.startswith(_NOT_MIRRORED):
            return False
        return self._artifacts or len(path.parts) == 1 or path.parts[0] == "journal" or is_record(path)

    def _run(self) -> None:
        pause = self._interval_s
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stop.is_set():
                return
            began = time.monotonic()
            try:
                self.copy(last=False)
                cost = time.monotonic() - began
                pause = max(self._interval_s, _PAUSE_SHARE * cost)
                self._stop.wait(cost)  # in a hurry, too, copying takes half of the time at most
            except Exception as error:  # noqa: BLE001 - the thread's outermost shell: each file system has its own errors
                if pause == self._interval_s:
                    logger.warning("%s cannot be written to, trying again: %s", self._remote.url, error)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Stop, after a last copy.

        Raises:
            OSError or what the remote file system raises: the last copy failed; the local side is whole.
            TimeoutError: it took too long; as above.
        """
        self._stop.set()
        self._wake.set()
        failures: list[BaseException] = []
        last = threading.Thread(target=self._copy_last, args=(failures,), name="tune-mirror-last", daemon=True)
        last.start()
        last.join(self._timeout_s)
        if last.is_alive():
            raise TimeoutError(
                f"{self._remote.url} did not take the last copy within {self._timeout_s:g} s; all of it is in "
                f"{self._directory}"
            )
        if failures:
            raise failures[0]

    def _copy_last(self, failures: list[BaseException]) -> None:
        try:
            if self._thread.ident is not None:
                self._thread.join()
            self.copy()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            failures.append(error)


class ExperimentStorage:
    """The place of one experiment: its local directory, and the remote one if it has one.

    As a context manager it mirrors while the experiment runs. A process that does not mirror only reads.

    Args:
        storage_path: as in ``tune.run``; None for `default_storage_path`.
        name: the experiment's name: a directory below `storage_path`.
        filesystem: as in ``tune.run``.
        staging: local directory for a remote experiment; None for one below the system's temporary directory.
        interval_s: as in `Mirror`.
        timeout_s: as in `Mirror`.
        artifacts: as in `Mirror`.

    Raises:
        TypeError, ValueError: as `Storage`.
    """

    def __init__(
        self,
        storage_path: str | os.PathLike[str] | None,
        name: str,
        filesystem: Any = None,
        *,
        staging: Path | None = None,
        interval_s: float = INTERVAL_S,
        timeout_s: float = TIMEOUT_S,
        artifacts: bool = True,
    ) -> None:
        root = Storage(default_storage_path() if storage_path is None else storage_path, filesystem)
        #: where trials' directories and checkpoints are kept
        self.storage: Storage = root.child(name)
        #: local directory of the experiment; it exists once `prepare` was called
        self.directory: Path = (
            Path(self.storage.path) if root.is_local else (staging or _staging(self.storage.url)) / name
        )
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._artifacts = artifacts
        self._mirror: Mirror | None = None

    @property
    def url(self) -> str:
        """Absolute path, or URL without credentials: what `SweepPlan.storage` and trials' directories begin with."""
        return self.storage.url

    def trial(self, trial_dir: str) -> tuple[Storage, Path]:
        """Return a trial's place and its local directory, from `Launch.trial_dir`."""
        relative = trial_dir.removeprefix(self.url).strip("/")
        return self.storage.child(*relative.split("/")), self.directory / relative

    def prepare(self) -> Path:
        """Make the local directory and return it; bring what the remote side has of the experiment, if it has more.

        Whichever side has the longer journal wins: the local one after a crash on this machine, the remote one after
        the sweep went on elsewhere. Checkpoints stay where they are.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.storage.is_local:
            return self.directory
        remote = self.storage.files()
        local = Storage(self.directory).files()
        if _journal_bytes(remote) > _journal_bytes(local):
            for name in remote:
                if not any(part.startswith(CHECKPOINT_PREFIX) for part in name.split("/")):
                    self.storage.download_file(name, self.directory)
        return self.directory

    def delete_checkpoint(self, trial_dir: str, name: str) -> None:
        """Delete a checkpoint; a remote one after the next copy of the journal."""
        place = self.trial(trial_dir)[0].child(name)
        if self._mirror is not None:
            self._mirror.delete_later(place)
        else:
            place.delete()

    def hurry(self) -> None:
        """Bring the remote side up to date as soon as possible; nothing to do for a local one."""
        if self._mirror is not None:
            self._mirror.hurry()

    def __enter__(self) -> Self:
        if not self.storage.is_local:
            self._mirror = Mirror(
                self.directory, self.storage, self._interval_s, timeout_s=self._timeout_s, artifacts=self._artifacts
            )
            self._mirror.start()
        return self

    def __exit__(self, *_: object) -> None:
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            mirror.close()

    def __getstate__(self) -> dict[str, Any]:
        # Trial processes need the places only.
        return {**self.__dict__, "_mirror": None}


def _journal_bytes(files: dict[str, int]) -> int:
    return sum(size for name, size in files.items() if name.startswith("journal/"))


def _staging(url: str) -> Path:
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    base = Path(tempfile.gettempdir()) / f"skate-tune-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_uid != os.getuid() or base.is_symlink():
        raise PermissionError(f"{base} belongs to somebody else: pass a storage directory of your own, or set TMPDIR")
    return base / digest
