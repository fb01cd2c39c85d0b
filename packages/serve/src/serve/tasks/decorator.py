"""``@serve.task``: functions that run in the background, even if everything stops meanwhile."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from serve.tasks.lifecycle import Policy
from serve.tasks.payload import encode
from serve.tasks.queue import TaskQueue, default_directory, open_queue
from serve.tasks.run import TaskRun

P = ParamSpec("P")
R = TypeVar("R")

#: defaults of the decorator's options are the policy's
_POLICY = {"max_retries", "retry_backoff_s", "retry_backoff_max_s", "timeout_s", "lease_s", "result_ttl_s"}


class Task(Generic[P, R]):
    """A function that runs in the background: ``submit`` it, or call it here and now. Made by ``@serve.task``."""

    def __init__(
        self, function: Callable[P, R], name: str, queue: str, directory: Path | None, policy: Policy, priority: int
    ) -> None:
        self.function = function
        self.name = name
        self.queue_name = queue
        #: where its queue is; settled here, so that all processes agree
        self.directory: Path = (directory or default_directory()).expanduser().absolute()
        self.policy = policy
        self.priority = priority
        self._queue: TaskQueue | None = None
        functools.update_wrapper(self, function)

    @property
    def queue(self) -> TaskQueue:
        """The queue, opened when it is first asked for."""
        if self._queue is None:
            self._queue = open_queue(self.queue_name, self.directory)
        return self._queue

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now."""
        return self.function(*args, **kwargs)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskRun[R]:
        """Have the function called in the background; on return the task is on the disk.

        Args:
            *args: for the function: what JSON or pickle can keep.
            **kwargs: likewise.

        Raises:
            TypeError: the arguments do not fit the function, or cannot be kept.
        """
        return self._submit(args, kwargs)

    def options(
        self, *, priority: int | None = None, delay_s: float = 0.0, idempotency_key: str | None = None, **policy: Any
    ) -> Submission[P, R]:
        """Return what ``submit`` is called on for one task with other options.

        Args:
            priority: higher first.
            delay_s: seconds before it may run.
            idempotency_key: submitting twice with the same key adds one task, and returns it both times.
            **policy: as for the decorator.

        Raises:
            ValueError: an unknown option, or a wrong value.
        """
        if not 0 <= delay_s < math.inf:
            raise ValueError(f"delay_s is a number of seconds, 0 or more, not {delay_s!r}")
        if priority is not None and type(priority) is not int:
            raise ValueError(f"priority is a whole number, not {priority!r}")
        changed = check_policy(f"task {self.name!r}", policy, self.policy)
        return Submission(self, self.priority if priority is None else priority, delay_s, idempotency_key, changed)

    def _submit(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        priority: int | None = None,
        delay_s: float = 0.0,
        key: str | None = None,
        policy: Policy | None = None,
    ) -> TaskRun[R]:
        try:
            inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"task {self.name!r}: {error}") from None
        record = self.queue.submit(
            self.name,
            encode([list(args), kwargs]),
            policy or self.policy,
            priority=self.priority if priority is None else priority,
            delay_s=delay_s,
            key=key,
        )
        return TaskRun(self.queue, record.id)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_queue": None}

    def __repr__(self) -> str:
        return f"Task({self.name!r}, queue={self.queue_name!r})"


class Submission(Generic[P, R]):
    """A task with options for one submission. Made by `Task.options`."""

    def __init__(
        self, task: Task[P, R], priority: int, delay_s: float, idempotency_key: str | None, policy: Policy
    ) -> None:
        self._task = task
        self._options: dict[str, Any] = {
            "priority": priority,
            "delay_s": delay_s,
            "key": idempotency_key,
            "policy": policy,
        }

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskRun[R]:
        """As `Task.submit`."""
        return self._task._submit(args, kwargs, **self._options)  # noqa: SLF001 - of the same make


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    queue: str = "default",
    directory: str | os.PathLike[str] | None = None,
    priority: int = 0,
    **policy: Any,
) -> Any:
    """Make a function a background task, kept in a queue on the disk until some worker has done it.

    ::

        @serve.task(max_retries=5, timeout_s=600)
        def transcode(path: str, height: int = 720) -> str: ...


        serve.run(serve.task_workers(transcode, concurrency=2), name="transcoding", route_prefix="/transcode")
        run = transcode.submit("film.mkv", height=480)
        run.id, run.status(), run.result(timeout_s=60)

    A task runs *at least* once: if its worker is killed, or the machine restarts, it runs again from its beginning, so
    its effects should bear repetition. A task that fails is tried again, and in the end kept as a dead letter.

    Args:
        function: the function, ``async`` or not, when used bare.
        name: what it is called in the queue; default: its own name. It should outlive renamings.
        queue: tasks of one queue share a file and its order.
        directory: where the file is. Default: ``~/skate_results/tasks``, or the environment's ``SKATE_SERVE_TASKS``.
        priority: higher first.
        **policy: ``max_retries`` (3): further attempts after one that failed; ``retry_backoff_s`` (1.0): seconds before
            the first of them, doubling up to ``retry_backoff_max_s`` (600); ``timeout_s`` (None): seconds that an
            attempt may take; ``lease_s`` (30): seconds without a sign of life from its worker after which another gets
            it (one whose process has ended is found out within about a second); ``result_ttl_s`` (86,400): seconds that
            results are kept, None for ever.

    Raises:
        TypeError: what is decorated is no function.
        ValueError: an unknown option, or a wrong value.
    """
    checked = check_policy("@serve.task", policy, Policy())
    if type(priority) is not int:
        raise ValueError(f"priority is a whole number, not {priority!r}")

    def decorate(decorated: Callable[..., Any]) -> Task[..., Any]:
        if not inspect.isroutine(decorated) or inspect.isasyncgenfunction(decorated):
            raise TypeError(f"@serve.task takes a function that returns, not {decorated!r}")
        where = None if directory is None else Path(directory)
        return Task(decorated, name or decorated.__name__, queue, where, checked, priority)

    return decorate if function is None else decorate(function)


def check_policy(where: str, options: dict[str, Any], base: Policy) -> Policy:
    """Return a policy with some options changed.

    Raises:
        ValueError: an unknown option, or a wrong value.
    """
    values = {name: getattr(base, name) for name in _POLICY}
    for name, value in options.items():
        if name not in _POLICY:
            raise ValueError(f"{where}: unknown option {name!r}; expected one of {', '.join(sorted(_POLICY))}")
        if not _is_good(name, value):
            raise ValueError(f"{where}: {name} cannot be {value!r}")
        values[name] = value
    return Policy(**values)


def _is_good(name: str, value: Any) -> bool:
    if name in ("timeout_s", "result_ttl_s") and value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int if name == "max_retries" else (int, float)):
        return False
    least_allowed = value >= 0 if name in ("max_retries", "retry_backoff_s", "result_ttl_s") else value > 0
    return least_allowed and value < math.inf
