"""The joblib backend: batches of calls become tasks; large arrays among their arguments are stored once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

import core
from core.refs import ObjectRef
from core.util.executor import SkateExecutor
from core.util.joining import join_session

#: Arguments of at least so many bytes are put into the store once per ``Parallel`` call, not pickled with each batch.
LARGE_ARGUMENT_BYTES = 100 * 1024


@dataclass(frozen=True)
class _Slot:
    """Stands for the ``index``-th large argument in a batch."""

    index: int


class SkateBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs each batch of joblib calls as a task.

    Large arrays and data frames arrive read-only, as with joblib's own memory-mapping. Nested ``Parallel`` calls use
    threads, joblib's default.

    Args:
        nesting_level: set by joblib.
        inner_max_num_threads: set by joblib; without effect.
        ray_remote_args: options of the tasks, for example ``{"num_cpus": 2}``.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **backend_kwargs: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **backend_kwargs)
        self._remote_args = ray_remote_args
        self._executor: SkateExecutor | None = None
        #: large arguments stored during this ``Parallel`` call, by identity: (the argument, kept alive; its reference)
        self._stored: dict[int, tuple[Any, ObjectRef[Any]]] = {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches may run at a time: -1 means as many as the session has CPUs, -2 one less, ..."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        return max(join_session(None) + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **_memmapping_args: Any,
    ) -> int:
        """Get ready for a ``Parallel`` call; return the number of jobs (joblib's hook)."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        if ray_remote_args is not None:
            self._remote_args = ray_remote_args
        self._executor = SkateExecutor(n_jobs, task_options=self._remote_args)
        return n_jobs

    def submit(self, func: Any, callback: Callable[[Future[Any]], object] | None = None) -> Future[Any]:
        """Schedule a batch (joblib's hook)."""
        assert self._executor is not None, "joblib configures the backend before it submits"
        large: list[ObjectRef[Any]] = []
        for index, (function, args, kwargs) in enumerate(func.items):
            new_args = [self._slot(argument, large) for argument in args]
            new_kwargs = {name: self._slot(argument, large) for name, argument in kwargs.items()}
            func.items[index] = (function, new_args, new_kwargs)
        future = self._executor.submit(_run_batch, func, *large)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    #: the hook's name in older versions of joblib
    apply_async = submit

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """Return a batch's results or raise its error (joblib's hook)."""
        return future.result()

    def stop_call(self) -> None:
        """Let go of the stored arguments (joblib's hook)."""
        self._stored.clear()

    def terminate(self) -> None:
        """Let go of everything (joblib's hook)."""
        self._stored.clear()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the batches that have not been started, after an error in one of them (joblib's hook)."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def _slot(self, argument: Any, large: list[ObjectRef[Any]]) -> Any:
        """Return the argument itself, or a slot for it if it is large; its reference is then appended to ``large``."""
        if _size_of(argument) < LARGE_ARGUMENT_BYTES:
            return argument
        known = self._stored.get(id(argument))
        if known is None:
            known = self._stored[id(argument)] = (argument, core.put(argument))
        large.append(known[1])
        return _Slot(len(large) - 1)


def _size_of(argument: Any) -> int:
    """Return the bytes in an array or data frame, 0 for anything else."""
    size = getattr(argument, "nbytes", None)
    if isinstance(size, int):
        return size
    if type(argument).__module__.startswith("pandas.") and hasattr(argument, "memory_usage"):
        return int(argument.memory_usage().sum())
    return 0


def _run_batch(batch: Any, *large: Any) -> Any:
    """Put the large arguments back into their slots and run the batch, in a worker."""

    def value(argument: Any) -> Any:
        return large[argument.index] if isinstance(argument, _Slot) else argument

    batch.items = [
        (function, [value(argument) for argument in args], {name: value(arg) for name, arg in kwargs.items()})
        for function, args, kwargs in batch.items
    ]
    return batch()
