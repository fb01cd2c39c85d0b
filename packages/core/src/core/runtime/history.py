"""What this process knows of the tasks and calls it submitted, for people: the unfinished ones and the last that ended.

The record of what ended is bounded, and one tuple per attempt: it is written on the hot path and read when somebody
asks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from core import ids, remote_errors
from core.protocol.records import TaskRow
from core.specs import RESOURCE_UNIT
from core.state.leases import Task

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

#: Ended attempts remembered.
REMEMBERED = 20_000
#: Tasks told of at most, as in Ray's state API.
MAX_ROWS = 10_000

#: An attempt that ended: task, attempt, name of the function or method, class and actor ("" and b"" for functions),
#: process that ran it (0 if unknown), end (monotonic seconds), how long it ran (microseconds), and for failures class
#: and message of the error.
Ended = tuple[bytes, int, str, str, bytes, int, float, int, tuple[str, str] | None]


class History:
    """See the module's docstring. All methods are called under the runtime's lock."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        #: oldest first; the hot paths append to it themselves
        self.ended: deque[Ended] = deque(maxlen=REMEMBERED)
        #: the last error and its summary: what fails one task often fails thousands
        self._last_error: tuple[bytes, tuple[str, str, int]] = (b"", ("", "", 0))

    def failed(self, task: Task, error: bytes, micros: int = 0) -> None:
        """An attempt at a task or call ended with an error."""
        if self._last_error[0] is not error:
            self._last_error = error, remote_errors.summary(error)
        kind, text, pid = self._last_error[1]
        name, class_name, actor = _names(task)
        self.ended.append((task.id, task.attempt, name, class_name, actor, pid, time.monotonic(), micros, (kind, text)))

    def finished(self, task: Task, pid: int, micros: int) -> None:
        """A task or call ended well, in any but the simplest way."""
        name, class_name, actor = _names(task)
        self.ended.append((task.id, task.attempt, name, class_name, actor, pid, time.monotonic(), micros, None))

    def rows(self) -> list[TaskRow]:
        """Return a row for each attempt at a task or call that this process submitted, the newest ended ones first."""
        to_wall = time.time() - time.monotonic()
        unfinished: Iterator[tuple[Task, str]] = self._unfinished()
        rows = [_unfinished_row(task, state) for task, state in islice(unfinished, MAX_ROWS)]
        rows += [_ended_row(ended, to_wall) for ended in islice(reversed(self.ended), MAX_ROWS - len(rows))]
        return rows

    def any_unfinished(self) -> bool:
        """Tell whether a task or call that this process submitted is not finished."""
        return next(self._unfinished(), None) is not None

    def children(self, parent: bytes) -> list[Task]:
        """Return the unfinished tasks and calls that the task ``parent`` submitted from this process."""
        return [task for task, _ in self._unfinished() if task.parent == parent]

    def _unfinished(self) -> Iterator[tuple[Task, str]]:
        for task in self._rt.tasks.waiting.values():
            if not task.cancelled:
                yield task, "PENDING_ARGS_AVAIL"
        for tasks, state in (*self._rt.tasks.unfinished(), *self._rt.actors.unfinished()):
            for task in tasks:
                # Calls keep their order: also those whose arguments are missing stand in line.
                if not task.missing:
                    yield task, state


def _names(task: Task) -> tuple[str, str, bytes]:
    """Return the name of a task, and class and actor of a call."""
    if type(task.function) is str:
        return task.options.name or task.function, task.pool.class_name, task.pool.actor_id
    return task.options.name or task.function.short_name, "", b""


def _unfinished_row(task: Task, state: str) -> TaskRow:
    row = _row(task.id, task.attempt, _names(task))
    row.state = state
    row.parent_task_id = task.parent.hex() or None
    # The lease of a task, the connection of a call: both know the process.
    place = task.lease
    if place is not None:
        row.worker_pid, row.worker_id = place.pid, ids.worker_id(place.address).hex()
    if type(task.function) is not str:
        row.func_or_class_name = task.function.short_name
        row.required_resources = {name: amount / RESOURCE_UNIT for name, amount in task.pool.spec.resources}
    return row


def _ended_row(ended: Ended, to_wall: float) -> TaskRow:
    task, attempt, name, class_name, actor, pid, end, micros, error = ended
    row = _row(task, attempt, (name, class_name, actor))
    row.state = "FINISHED" if error is None else "FAILED"
    row.worker_pid = pid or None
    row.end_time_ms = round((end + to_wall) * 1000)
    row.start_time_ms = row.end_time_ms - micros // 1000
    if error is not None:
        row.error_type, row.error_message = error
    return row


def _row(task: bytes, attempt: int, names: tuple[str, str, bytes]) -> TaskRow:
    name, class_name, actor = names
    shown = f"{class_name}.{name}" if class_name else name
    kind = "ACTOR_TASK" if class_name else "NORMAL_TASK"
    job = task[ids.TASK_ID_BYTES - ids.JOB_ID_BYTES :]
    return TaskRow(task.hex(), attempt, shown, "", job.hex(), kind, shown, actor.hex() or None)
