"""The queue: one SQLite file that any process of this machine may open at any time.

Every change is one transaction, on the disk when the call returns (write-ahead log, ``synchronous=FULL``): what was
submitted survives the end of every process and of the machine. Changes go through `serve.tasks.lifecycle`, on the row
as it is inside the transaction, so whoever comes second sees what the first did.

The file belongs to its user alone (mode 0600, in a directory of mode 0700), because arguments may be pickled.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from serve.tasks import lifecycle
from serve.tasks.errors import TaskNotFoundError, TaskStateError
from serve.tasks.lifecycle import Policy, TaskRecord, TaskStatus
from serve.tasks.owner import is_gone

#: where queues are kept whose task names no directory
DIRECTORY_VARIABLE = "SKATE_SERVE_TASKS"
#: seconds to wait for another process's transaction
BUSY_S = 60.0
_SCHEMA = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    key TEXT,
    status TEXT NOT NULL,
    priority INTEGER NOT NULL,
    run_at REAL NOT NULL,
    expires_at REAL,
    owner TEXT NOT NULL,
    lease_until REAL NOT NULL,
    record BLOB NOT NULL,
    arguments BLOB NOT NULL,
    result BLOB
);
CREATE UNIQUE INDEX IF NOT EXISTS tasks_key ON tasks (name, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS tasks_next ON tasks (status, priority DESC, run_at, seq);
CREATE INDEX IF NOT EXISTS tasks_expiry ON tasks (expires_at) WHERE expires_at IS NOT NULL;
"""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TaskRecord)
_open: weakref.WeakValueDictionary[Path, TaskQueue] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def default_directory() -> Path:
    """Return where queues without a directory are kept: ``~/skate_results/tasks``, or as the environment says."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or "~/skate_results/tasks").expanduser().absolute()


def open_queue(name: str, directory: str | os.PathLike[str] | None = None) -> TaskQueue:
    """Return the queue of this name; this process opens each file once.

    Args:
        name: letters, digits, ``-`` and ``_``.
        directory: where its file is; None for `default_directory`.

    Raises:
        ValueError: the name is none.
        OSError: the file cannot be opened.
    """
    if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ValueError(f"a queue's name has letters, digits, '-' and '_', so it cannot be {name!r}")
    path = (default_directory() if directory is None else Path(directory).expanduser().absolute()) / f"{name}.sqlite3"
    with _opening:
        queue = _open.get(path)
        if queue is None:
            queue = _open[path] = TaskQueue(path)
        return queue


class Claim(msgspec.Struct, frozen=True):
    """A task that a worker has taken, with its arguments."""

    task: TaskRecord
    arguments: bytes


class TaskQueue:
    """See the module's docstring. May be used by any thread.

    Args:
        path: of the file; made if there is none.
        clock: returns seconds since the epoch.
        draw: returns a number from 0 up to 1, at random.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, draw: Callable[[], float] = random.random
    ) -> None:
        self.path = path
        self._clock = clock
        self._draw = draw
        self._lock = threading.RLock()
        #: inside of `together`
        self._is_together = False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        if path.stat().st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to somebody else; what it says would be believed, so it is not read")
        self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise OSError(f"{path} cannot be used as a queue of tasks: {error}") from error

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == _SCHEMA:
            return
        if version > _SCHEMA:
            raise sqlite3.DatabaseError(f"it was written by a later release (schema {version})")
        with self._transaction():
            for statement in _TABLE.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={_SCHEMA}")

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.path.stem

    def close(self) -> None:
        """Close the file; the queue cannot be used any more."""
        with self._lock:
            self._db.close()

    def __del__(self) -> None:
        db = getattr(self, "_db", None)
        if db is not None:
            db.close()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make all changes of a block in one transaction: they reach the disk at once, or none does."""
        with self._transaction():
            self._is_together = True
            try:
                yield
            finally:
                self._is_together = False

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._is_together:
                yield self._db
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # some errors of SQLite, a full disk's for example, have ended it already
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    # -- submitting and looking ---------------------------------------------------------------------------------------

    def submit(
        self,
        name: str,
        arguments: bytes,
        policy: Policy,
        *,
        priority: int = 0,
        delay_s: float = 0.0,
        key: str | None = None,
    ) -> TaskRecord:
        """Add a task, and return it; with a `key` that was used before, return the task it was used for.

        Args:
            name: of the function that works on it.
            arguments: encoded.
            policy: how it is treated.
            priority: higher first.
            delay_s: seconds before it may run.
            key: submitting the same twice adds it once, as long as the first is remembered.
        """
        now = self._clock()
        task = TaskRecord(f"{self.name}.{secrets.token_hex(12)}", name, now, now + delay_s, priority, policy, key=key)
        with self._transaction() as db:
            if key is not None:
                found = db.execute("SELECT record FROM tasks WHERE name = ? AND key = ?", (name, key)).fetchone()
                if found is not None:
                    return _decoder.decode(found[0])
            db.execute(
                "INSERT INTO tasks (id, name, key, status, priority, run_at, owner, lease_until, record, arguments)"
                " VALUES (?, ?, ?, ?, ?, ?, '', 0, ?, ?)",
                (task.id, name, key, task.status, priority, task.run_at, _encoder.encode(task), arguments),
            )
        return task

    def get(self, task_id: str) -> TaskRecord:
        """Return a task.

        Raises:
            TaskNotFoundError: there is none.
        """
        return self.get_with_result(task_id)[0]

    def get_with_result(self, task_id: str) -> tuple[TaskRecord, bytes | None]:
        """Return a task and its result (or the exception it failed with), encoded.

        Raises:
            TaskNotFoundError: there is none.
        """
        found = self._read("SELECT record, result FROM tasks WHERE id = ?", task_id)
        if not found:
            raise TaskNotFoundError(f"there is no task {task_id!r} in {self.path}; its result may have expired")
        return _decoder.decode(found[0][0]), found[0][1]

    def tasks(
        self, status: TaskStatus | None = None, name: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[TaskRecord]:
        """Return tasks, the newest first."""
        found = self._read(
            "SELECT record FROM tasks WHERE status = coalesce(?, status) AND name = coalesce(?, name)"
            " ORDER BY seq DESC LIMIT ? OFFSET ?",
            status,
            name,
            limit,
            offset,
        )
        return [_decoder.decode(record) for (record,) in found]

    def dead_letters(self, name: str | None = None, limit: int = 100) -> list[TaskRecord]:
        """Return tasks that were given up, the newest first; `requeue` gives one another chance."""
        return self.tasks(TaskStatus.FAILED, name, limit)

    def counts(self) -> dict[TaskStatus, int]:
        """Return how many tasks stand where."""
        found = dict(self._read("SELECT status, count(*) FROM tasks GROUP BY status"))
        return {status: found.get(status, 0) for status in TaskStatus}

    def due(self) -> int:
        """Return how many tasks could be worked on now and are not."""
        query = "SELECT count(*) FROM tasks WHERE status = 'PENDING' AND run_at <= ?"
        return int(self._read(query, self._clock())[0][0])

    def cancel(self, task_id: str) -> TaskRecord:
        """Cancel a task; one that runs is cancelled by its worker, soon. Nothing happens to one that has ended."""
        return self._change(task_id, lambda task: lifecycle.cancel(task, self._clock()))

    def requeue(self, task_id: str) -> TaskRecord:
        """Try again what failed or was cancelled.

        Raises:
            TaskStateError: it is neither.
        """

        def again(task: TaskRecord) -> TaskRecord:
            if task.status not in (TaskStatus.FAILED, TaskStatus.CANCELLED):
                raise TaskStateError(f"task {task_id} is {task.status}; only FAILED and CANCELLED ones are tried again")
            return lifecycle.requeue(task, self._clock())

        return self._change(task_id, again)

    def remove(self, task_id: str) -> None:
        """Forget a task that has ended.

        Raises:
            TaskNotFoundError: there is none.
            TaskStateError: it has not ended.
        """
        with self._transaction() as db:
            task = self._row(task_id)
            if not task.status.ended:
                raise TaskStateError(f"task {task_id} is {task.status}; cancel it first")
            db.execute("DELETE FROM tasks WHERE id = ?", (task_id,))

    # -- working ------------------------------------------------------------------------------------------------------

    def claim(self, names: Iterable[str], limit: int, owner: str) -> list[Claim]:
        """Take tasks of these names that are due, the most urgent first."""
        now = self._clock()
        wanted = tuple(names)
        marks = ", ".join("?" * len(wanted))
        query = (
            "SELECT record, arguments FROM tasks WHERE status = 'PENDING' AND run_at <= ?"  # noqa: S608 - only marks
            f" AND name IN ({marks}) ORDER BY priority DESC, run_at, seq LIMIT ?"
        )
        values = (now, *wanted, limit)
        if not self._read(query, *values):  # without a lock: most looks find nothing
            return []
        with self._transaction() as db:
            found = db.execute(query, values).fetchall()
            claims = [Claim(lifecycle.claim(_decoder.decode(record), now, owner), args) for record, args in found]
            for each in claims:
                self._write(each.task)
        return claims

    def succeed(self, task_id: str, token: int, result: bytes) -> bool:
        """Report a result; False if the lease was over."""
        return self._report(task_id, token, lambda task: lifecycle.succeed(task, self._clock()), result)

    def fail(self, task_id: str, token: int, error: str, *, retry: bool = True, cause: bytes | None = None) -> bool:
        """Report a failed attempt; False if the lease was over.

        Args:
            task_id: which task.
            token: of its lease.
            error: traceback.
            retry: whether another attempt makes sense.
            cause: the exception, encoded.
        """
        return self._report(
            task_id, token, lambda task: lifecycle.fail(task, self._clock(), error, self._draw(), retry=retry), cause
        )

    def give_back(self, task_id: str, token: int) -> bool:
        """Report that its worker stops before it was done; False if the lease was over."""
        return self._report(task_id, token, lambda task: lifecycle.give_back(task, self._clock()), None)

    def extend(self, leases: dict[str, int]) -> set[str]:
        """Extend leases (id to token), and return the ids of those that are lost."""
        lost: set[str] = set()
        with self._transaction():
            for task_id, token in leases.items():
                try:
                    task = self._row(task_id)
                except TaskNotFoundError:
                    lost.add(task_id)
                    continue
                if lifecycle.holds(task, token):
                    self._write(lifecycle.extend(task, self._clock()))
                else:
                    lost.add(task_id)
        return lost

    def cancel_requests(self, leases: dict[str, int]) -> set[str]:
        """Return which of these running tasks somebody wants to be cancelled."""
        found = self._read("SELECT record FROM tasks WHERE status = 'RUNNING'") if leases else []
        tasks = [_decoder.decode(record) for (record,) in found]
        return {task.id for task in tasks if task.cancel_requested and leases.get(task.id) == task.token}

    def reap(self) -> int:
        """Take back what was leased to processes that ended, or gave no sign of life for too long; return how many."""
        now = self._clock()
        running = self._read("SELECT id, owner, lease_until FROM tasks WHERE status = 'RUNNING'")
        gone = {owner for owner in {owner for _, owner, _ in running} if is_gone(owner)}
        lost = [task_id for task_id, owner, until in running if until < now or owner in gone]
        if not lost:
            return 0
        taken = 0
        with self._transaction():
            for task_id in lost:
                task = self._row(task_id)
                if task.status is TaskStatus.RUNNING and (task.lease_until < now or task.owner in gone):
                    self._write(lifecycle.lose(task, now))
                    taken += 1
        return taken

    def purge(self) -> int:
        """Forget results that have expired; return how many."""
        now = self._clock()
        if not self._read("SELECT 1 FROM tasks WHERE expires_at <= ? LIMIT 1", now):
            return 0
        with self._transaction() as db:
            return db.execute("DELETE FROM tasks WHERE expires_at <= ?", (now,)).rowcount

    # -- rows (inside a transaction) ----------------------------------------------------------------------------------

    def _row(self, task_id: str) -> TaskRecord:
        found = self._db.execute("SELECT record FROM tasks WHERE id = ?", (task_id,)).fetchone()
        if found is None:
            raise TaskNotFoundError(f"there is no task {task_id!r} in {self.path}; its result may have expired")
        return _decoder.decode(found[0])

    def _write(self, task: TaskRecord) -> None:
        self._db.execute(
            "UPDATE tasks SET status = ?, run_at = ?, owner = ?, lease_until = ?, expires_at = ?, record = ?"
            " WHERE id = ?",
            (
                task.status,
                task.run_at,
                task.owner,
                task.lease_until,
                lifecycle.expires_at(task),
                _encoder.encode(task),
                task.id,
            ),
        )

    def _change(self, task_id: str, change: Callable[[TaskRecord], TaskRecord]) -> TaskRecord:
        with self._transaction():
            task = change(self._row(task_id))
            self._write(task)
        return task

    def _report(
        self, task_id: str, token: int, change: Callable[[TaskRecord], TaskRecord], result: bytes | None
    ) -> bool:
        with self._transaction() as db:
            try:
                task = self._row(task_id)
            except TaskNotFoundError:
                return False
            if not lifecycle.holds(task, token):
                return False
            task = change(task)
            self._write(task)
            if task.status in (TaskStatus.SUCCEEDED, TaskStatus.FAILED):
                db.execute("UPDATE tasks SET result = ? WHERE id = ?", (result, task_id))
        return True
