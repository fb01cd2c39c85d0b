"""`ExperimentStorage`: where one experiment is kept, and where the driver works on it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Self

from tune.storage.mirror import INTERVAL_S, TIMEOUT_S, Mirror
from tune.storage.place import CHECKPOINT_PREFIX, Storage

#: Environment variable: where experiments go that name no ``storage_path``.
RESULTS_VARIABLE = "SKATE_TUNE_RESULTS"


def default_storage_path() -> Path:
    """Return where experiments go that name no ``storage_path``: ``~/skate_results`` unless the environment says."""
    return Path(os.environ.get(RESULTS_VARIABLE) or "~/skate_results").expanduser().absolute()


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
