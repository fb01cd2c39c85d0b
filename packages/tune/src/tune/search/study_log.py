"""An Optuna study as a file: the journal format of Optuna's ``JournalStorage``, written many records at a time.

Optuna's own backend takes a lock, writes and syncs for every record, some milliseconds a trial, and importing Optuna
takes longer than a short sweep. So records are collected here and appended with one write, without Optuna. The file can
be read and written by Optuna and its dashboard at the same time: the lock is Optuna's symbolic link, and what others
appended is read before our own records are, because Optuna numbers trials by their order in the file. The file is no
safer than the last append: what must survive a crash is in the sweep's own journal.
"""

from __future__ import annotations

import enum
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec


class Operation(enum.IntEnum):
    """Kinds of records, with Optuna's numbers."""

    CREATE_STUDY = 0
    DELETE_STUDY = 1
    SET_STUDY_SYSTEM_ATTR = 3
    CREATE_TRIAL = 4
    SET_TRIAL_STATE_VALUES = 6
    SET_TRIAL_INTERMEDIATE_VALUE = 7
    SET_TRIAL_USER_ATTR = 8
    SET_TRIAL_SYSTEM_ATTR = 9


class State(enum.IntEnum):
    """States of a trial, with Optuna's numbers."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4


#: The user attribute that holds the id of the trial in the sweep; it is how a resumed sweep finds its trials.
TRIAL_ID = "trial_id"


class Parameter(msgspec.Struct, frozen=True):
    """A parameter as Optuna stores it."""

    #: `tune.space.distributions.as_json`
    distribution: str
    #: `tune.space.distributions.internal`
    value: float


class Beginning(msgspec.Struct, frozen=True):
    """A trial that starts."""

    #: seconds since the epoch
    time: float
    params: dict[str, Parameter]
    #: plain values
    user_attrs: dict[str, Any] = msgspec.field(default_factory=dict)


class Ending(msgspec.Struct, frozen=True):
    """A trial that ended: with values, or failed."""

    time: float
    values: list[float] | None
    user_attrs: dict[str, Any] = msgspec.field(default_factory=dict)
    #: by how much each constraint is broken; None if there are none
    constraints: list[float] | None = None


class _Pending(msgspec.Struct):
    """What is still to be written about a trial."""

    beginning: Beginning | None = None
    curve: dict[int, float] = msgspec.field(default_factory=dict)
    ending: Ending | None = None


class StudyLog:
    """Writes one study into a journal file.

    Args:
        path: the file; made if it is not there, gone on with if it is.
        study_name: name of the study.
        metrics: names of its values.
        modes: ``"min"`` or ``"max"`` for each.
    """

    def __init__(self, path: Path, study_name: str, metrics: tuple[str, ...], modes: tuple[str, ...]) -> None:
        self.path = path
        self._name = study_name
        self._metrics = metrics
        self._directions = [1 if mode == "min" else 2 for mode in modes]
        self._worker = f"{uuid.uuid4()}-skate"
        #: what is to be written, in the order in which it began, and by trial what may still be added to
        self._queue: list[tuple[str, _Pending]] = []
        self._pending: dict[str, _Pending] = {}
        #: how much of the file has been read or written
        self._offset = 0
        #: whether the file ever had the study; if it has no more, somebody deleted it
        self._founded = False
        #: names of studies by number, None for deleted ones
        self._studies: list[str | None] = []
        self._trials = 0
        #: numbers of our trials that have not ended
        self._open: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        #: our trials that have; forgotten after `forget`
        self._ended: set[str] | None = set()

    def knows(self, key: str) -> bool:
        """Tell whether a trial is in the file and has not ended."""
        waiting = self._pending.get(key)
        return waiting is not None or (key in self._open and not any(key == other for other, _ in self._queue))

    def ended(self, key: str) -> bool:
        """Tell whether a trial was read from the file as ended; not after `forget`."""
        return self._ended is not None and key in self._ended

    def forget(self) -> None:
        """Keep no list of ended trials any more."""
        self._ended = None

    def begin(self, key: str, beginning: Beginning) -> None:
        """Record that a trial starts."""
        self._of(key).beginning = beginning

    def point(self, key: str, step: int, value: float) -> None:
        """Record a point of a learning curve."""
        self._of(key).curve[step] = value

    def end(self, key: str, ending: Ending) -> None:
        """Record that a trial ended."""
        self._of(key).ending = ending
        del self._pending[key]

    def load(self) -> bool:
        """Read what is in the file, and add the study if it is not; return False if another process has the lock."""
        self.path.touch()
        return self._append()

    def flush(self) -> bool:
        """Append what was recorded; return False if another process has the lock, which is not waited for."""
        return not self._queue or self._append()

    def close(self) -> None:
        """Append what was recorded, waiting for the lock as long as Optuna would."""
        if self.flush():
            return
        # The one case in which Optuna is needed: somebody else is writing, or died doing so.
        from optuna.storages.journal import JournalFileSymlinkLock  # noqa: PLC0415  a fifth of a second

        lock = JournalFileSymlinkLock(str(self.path))
        lock.acquire()
        try:
            self._append_locked()
        finally:
            lock.release()

    def _of(self, key: str) -> _Pending:
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = _Pending()
            self._queue.append((key, pending))
        return pending

    def _append(self) -> bool:
        lock = Path(f"{self.path}.lock")
        try:
            lock.symlink_to(self.path)
        except FileExistsError:
            return False
        try:
            self._append_locked()
        finally:
            lock.unlink()
        return True

    def _append_locked(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            self._follow(descriptor)
            lines = self._lines()
            if lines:
                self._offset += _write(descriptor, "".join(lines).encode())
        finally:
            os.close(descriptor)
        self._queue.clear()
        self._pending.clear()

    # --------------------------------------------------------------------------------------------------- reading

    def _follow(self, descriptor: int) -> None:
        """Read what others appended, or all of it at first; cut off a last line that a crash left unfinished."""
        size = os.fstat(descriptor).st_size
        if size == self._offset:
            return
        content = os.pread(descriptor, size - self._offset, self._offset)
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._apply(json.loads(line))
        self._offset += len(whole)
        if len(whole) < len(content):
            os.ftruncate(descriptor, self._offset)

    def _apply(self, record: dict[str, Any]) -> None:
        """Count studies and trials as Optuna does."""
        operation = record["op_code"]
        if operation == Operation.CREATE_STUDY:
            if record["study_name"] not in self._studies:
                self._studies.append(record["study_name"])
        elif operation == Operation.DELETE_STUDY:
            self._studies[record["study_id"]] = None
        elif operation == Operation.CREATE_TRIAL and self._studies[record["study_id"]] is not None:
            if self._studies[record["study_id"]] == self._name:
                self._apply_trial(record, record.get("user_attrs", {}).get(TRIAL_ID))
            self._trials += 1
        elif operation == Operation.SET_TRIAL_STATE_VALUES and record["state"] in _ENDED:
            self._apply_end(self._keys.get(record["trial_id"]))

    def _apply_trial(self, record: dict[str, Any], key: str | None) -> None:
        if key is None:
            return
        self._open[key] = self._trials
        self._keys[self._trials] = key
        if record.get("state", State.RUNNING) in _ENDED:
            self._apply_end(key)

    def _apply_end(self, key: str | None) -> None:
        if key is None or key not in self._open:
            return
        self._keys.pop(self._open.pop(key))
        if self._ended is not None:
            self._ended.add(key)

    # --------------------------------------------------------------------------------------------------- writing

    def _lines(self) -> list[str]:
        lines: list[str] = []
        if self._name not in self._studies:
            if self._founded:
                # Somebody deleted the study: they do not want it, and it does not come back before the next run.
                return lines
            self._create_study(lines)
        self._founded = True
        study = self._studies.index(self._name)
        for key, pending in self._queue:
            if pending.beginning is not None and key not in self._open:
                lines.append(self._created(study, key, pending.beginning, pending))
            elif key in self._open:
                self._updated(lines, self._open[key], pending)
            if pending.ending is not None:
                self._apply_end(key)
        return lines

    def _create_study(self, lines: list[str]) -> None:
        self._studies.append(self._name)
        lines.append(self._line(Operation.CREATE_STUDY, study_name=self._name, directions=self._directions))
        names = {"study:metric_names": list(self._metrics)}
        study = len(self._studies) - 1
        lines.append(self._line(Operation.SET_STUDY_SYSTEM_ATTR, study_id=study, system_attr=names))

    def _created(self, study: int, key: str, beginning: Beginning, pending: _Pending) -> str:
        """Return the record of a new trial, with all that is already known about it."""
        self._open[key] = self._trials
        self._keys[self._trials] = key
        self._trials += 1
        record: dict[str, Any] = {
            "study_id": study,
            "datetime_start": _written(beginning.time),
            "state": State.RUNNING,
            "value": None,
            "values": None,
            "distributions": {name: param.distribution for name, param in beginning.params.items()},
            "params": {name: param.value for name, param in beginning.params.items()},
            "user_attrs": {TRIAL_ID: key, **beginning.user_attrs},
            "system_attrs": {},
            "intermediate_values": pending.curve,
        }
        ending = pending.ending
        if ending is not None:
            record["state"] = State.FAIL if ending.values is None else State.COMPLETE
            if ending.values is not None and len(ending.values) == 1:
                record["value"] = ending.values[0]
            else:
                record["values"] = ending.values
            record["datetime_complete"] = _written(ending.time)
            record["user_attrs"].update(ending.user_attrs)
            if ending.constraints is not None:
                record["system_attrs"]["constraints"] = ending.constraints
        return self._line(Operation.CREATE_TRIAL, **record)

    def _updated(self, lines: list[str], trial: int, pending: _Pending) -> None:
        for step, value in pending.curve.items():
            point = {"trial_id": trial, "step": step, "intermediate_value": value}
            lines.append(self._line(Operation.SET_TRIAL_INTERMEDIATE_VALUE, **point))
        ending = pending.ending
        if ending is None:
            return
        for name, value in ending.user_attrs.items():
            lines.append(self._line(Operation.SET_TRIAL_USER_ATTR, trial_id=trial, user_attr={name: value}))
        if ending.constraints is not None:
            broken = {"constraints": ending.constraints}
            lines.append(self._line(Operation.SET_TRIAL_SYSTEM_ATTR, trial_id=trial, system_attr=broken))
        state = State.FAIL if ending.values is None else State.COMPLETE
        end = {"state": state, "values": ending.values, "datetime_complete": _written(ending.time)}
        lines.append(self._line(Operation.SET_TRIAL_STATE_VALUES, trial_id=trial, **end))

    def _line(self, operation: Operation, **fields: Any) -> str:
        record = {"op_code": operation, "worker_id": self._worker, **fields}
        return json.dumps(record, separators=(",", ":")) + "\n"


_ENDED = frozenset({State.COMPLETE, State.PRUNED, State.FAIL})


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="microseconds")


def _write(descriptor: int, content: bytes) -> int:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return len(content)
