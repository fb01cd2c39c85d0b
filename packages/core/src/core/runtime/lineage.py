"""Making lost objects again: what a task's arguments kept alive, and running it once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core import ids
from core.exceptions import ObjectReconstructionFailedError
from core.runtime import causes
from core.runtime.objects import PENDING, STORED, Entry
from core.state.leases import Task

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime


class Lineage:
    """Keeps and uses the tasks behind stored objects. All methods are called under the runtime's lock."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def keep(self, task: Task) -> None:
        """A task is done and may have to run again: remember its arguments, but not for their values' sake."""
        for object_id in _arguments(task):
            self._rt.table.keep_for_lineage(object_id)
        task.kept = True

    def retire(self, task: Task) -> None:
        """A task will not run again: let go of what its arguments kept alive."""
        drop = self._rt.table.drop_from_lineage if task.kept else self._rt.table.unpin
        arguments = _arguments(task)
        task.dependencies = task.nested = ()
        for object_id in arguments:
            drop(object_id)
        if task.args_stored:
            self._rt.store.free(task.id + ids.ARGUMENTS_INDEX)

    def recover(self, object_id: bytes, entry: Entry) -> None:
        """The stored value of an owned object is gone: make it again, with all that takes; or the object fails.

        Nothing is freed: the node has forgotten what is lost, and of a sibling that is still there it keeps the old
        copy. What is freed now could reach the node after the new copy, and would take that.
        """
        lost = [(object_id, entry)]
        again: list[Task] = []
        while lost:
            object_id, entry = lost.pop()
            if entry.state != STORED:
                continue  # a sibling, or the same object as the argument of another task
            task: Task | None = entry.task
            if task is None or task.retries_left == 0 or type(task.function) is str:
                self._rt.settling.fail_entry(object_id, entry, _beyond_recovery(object_id))
                continue
            self._reset(task)
            again.append(task)
            for dependency, _, _ in task.dependencies:
                needed = self._rt.table.entries.get(dependency)
                if needed is not None and needed.released:
                    lost.append((dependency, needed))
        for task in reversed(again):
            self._restart(task)

    def _reset(self, task: Task) -> None:
        """Make a task that is done one that is not."""
        if task.retries_left > 0:
            task.retries_left -= 1
        task.attempt += 1
        task.missing = 0
        for index in range(max(1, task.returns)):
            other = self._rt.table.entries.get(ids.object_id(task.id, index))
            if other is not None and other.state == STORED:
                other.state, other.task = PENDING, task
        task.stored = 0
        if task.kept:
            task.kept = False
            for object_id in _arguments(task):
                self._rt.table.pin(object_id)
                self._rt.table.drop_from_lineage(object_id)

    def _restart(self, task: Task) -> None:
        """Run a task again once its arguments are there."""
        for dependency, _, _ in task.dependencies:
            needed = self._rt.table.entries.get(dependency)
            if needed is not None and needed.state == PENDING:
                task.missing += 1
                self._rt.exchange.need(dependency, needed, lambda *_: self._dependency_ready(task))
        if task.missing == 0:
            self._rt.tasks.enqueue(task, task.pool)

    def _dependency_ready(self, task: Task) -> None:
        task.missing -= 1
        if task.missing == 0 and not task.cancelled:
            self._rt.tasks.enqueue(task, task.pool)


def _arguments(task: Task) -> tuple[bytes, ...]:
    return (*(dependency[0] for dependency in task.dependencies), *task.nested)


def _beyond_recovery(object_id: bytes) -> bytes:
    return causes.pack(
        ObjectReconstructionFailedError(
            object_id.hex(),
            "its bytes are lost and cannot be made again: it came from put(), from an actor, or its task has no "
            "retries left",
        )
    )
