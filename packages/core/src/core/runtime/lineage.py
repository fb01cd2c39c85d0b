"""Making lost objects again: what a task's arguments kept alive, and running it once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core import ids
from core.runtime.objects import PENDING, STORED, Entry
from core.state.leases import Task

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime


class Lineage:
    """Keeps and uses the tasks behind stored objects. All methods are called under the runtime's lock."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def retire(self, task: Task) -> None:
        """A task will not run again: let go of what its arguments kept alive."""
        unpin = self._rt.table.unpin
        for object_id, _, _ in task.dependencies:
            unpin(object_id)
        for object_id in task.nested:
            unpin(object_id)
        if task.args_stored:
            self._rt.store.free(task.id + ids.ARGUMENTS_INDEX)
        task.dependencies = task.nested = ()

    def reconstruct(self, object_id: bytes, entry: Entry) -> bool:
        """The stored value of an owned object is gone: make it again; False if that is not possible.

        Nothing is freed: the node has forgotten what is lost, and of a sibling that is still there it keeps the old
        copy. What is freed now could reach the node after the new copy, and would take that.
        """
        task = entry.task
        if task is None or task.retries_left == 0 or type(task.function) is str:
            return False
        if task.retries_left > 0:
            task.retries_left -= 1
        task.attempt += 1
        task.missing = 0
        for index in range(max(1, task.returns)):
            other = self._rt.table.entries.get(ids.object_id(task.id, index))
            if other is not None and other.state == STORED:
                other.state, other.task = PENDING, task
        task.stored = 0
        for dependency, _, _ in task.dependencies:
            needed = self._rt.table.entries.get(dependency)
            if needed is not None and needed.state == PENDING:
                task.missing += 1
                self._rt.exchange.need(dependency, needed, lambda *_: self._dependency_ready(task))
        if task.missing == 0:
            self._rt.tasks.enqueue(task, task.pool)
        return True

    def _dependency_ready(self, task: Task) -> None:
        task.missing -= 1
        if task.missing == 0 and not task.cancelled:
            self._rt.tasks.enqueue(task, task.pool)
