"""Results of a pool, as the standard library's ``multiprocessing.pool`` has them."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import TimeoutError  # noqa: A004 - what the standard library's pool raises
from typing import Any

from core.util.multiprocessing.crew import Crew, Job
from core.util.multiprocessing.worker import Call, Outcome

_Callback = Callable[[Any], object]
_MakeJob = Callable[[list[Call], Callable[[Sequence[Outcome]], None]], Job]


class RemoteTraceback(Exception):  # noqa: N818 - the standard library's name
    """The cause of an error that a worker reported: prints the worker's own traceback."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def value_of(outcome: Outcome) -> Any:
    """Return the value of a call, or raise its error with the worker's traceback as the cause."""
    if outcome.error is None:
        return outcome.value
    raise _error_of(outcome)


def _error_of(outcome: Outcome) -> BaseException:
    error = outcome.error
    assert error is not None
    if outcome.traceback:
        error.__cause__ = RemoteTraceback(outcome.traceback)
    return error


class AsyncResult:
    """The result of ``apply_async``, ``map_async`` or ``starmap_async``. Made by the pool.

    Callbacks run in the pool's thread: quickly, please.
    """

    def __init__(
        self,
        owner: object,
        chunks: int,
        *,
        single: bool,
        callback: _Callback | None = None,
        error_callback: _Callback | None = None,
    ) -> None:
        #: keeps the pool alive until the result is there
        self._owner: object | None = owner
        self._single = single
        self._callback = callback
        self._error_callback = error_callback
        self._chunks: list[Sequence[Outcome]] = [()] * chunks
        self._missing = chunks
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._value: Any = None
        if chunks == 0:
            self._finish()

    def deliver(self, index: int, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of one chunk (called by the pool, in its thread)."""
        self._chunks[index] = outcomes
        self._missing -= 1
        if self._missing == 0:
            self._finish()

    def _finish(self) -> None:
        outcomes = list(itertools.chain.from_iterable(self._chunks))
        failed = next((outcome for outcome in outcomes if outcome.error is not None), None)
        if failed is not None:
            self._error = _error_of(failed)
        elif self._single:
            self._value = outcomes[0].value
        else:
            self._value = [outcome.value for outcome in outcomes]
        self._chunks.clear()
        self._owner = None
        try:
            if self._error is not None and self._error_callback is not None:
                self._error_callback(self._error)
            if self._error is None and self._callback is not None:
                self._callback(self._value)
        finally:
            self._ready.set()

    def get(self, timeout: float | None = None) -> Any:
        """Return the result; raise what a call raised (the first one in order, once all are done).

        Raises:
            multiprocessing.TimeoutError: it is not there after ``timeout`` seconds.
        """
        if not self._ready.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, at most ``timeout`` seconds."""
        self._ready.wait(timeout)

    def ready(self) -> bool:
        """Tell whether the result is there."""
        return self._ready.is_set()

    def successful(self) -> bool:
        """Tell whether no call raised.

        Raises:
            ValueError: the result is not there yet.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None


class IMapIterator:
    """The results of ``imap`` and ``imap_unordered``, as they come.

    The input is read as results are taken, a few chunks per worker ahead; so it may be endless. An item whose call
    raised raises when its turn comes; the iteration can go on after it.
    """

    def __init__(
        self, crew: Crew, make_job: _MakeJob, iterable: Iterable[Any], chunksize: int, *, ordered: bool, owner: object
    ) -> None:
        self._owner = owner
        self._crew = crew
        self._make_job = make_job
        self._source = iter(iterable)
        self._chunksize = chunksize
        self._ordered = ordered
        #: chunks as they arrive from the crew's thread: (index, outcomes)
        self._arrived: queue.SimpleQueue[tuple[int, Sequence[Outcome]]] = queue.SimpleQueue()
        #: chunks that came before their turn
        self._early: dict[int, Sequence[Outcome]] = {}
        self._items: deque[Outcome] = deque()
        self._submitted = 0
        self._taken = 0
        #: what ended the input: StopIteration, or an error it raised
        self._end: BaseException | None = None
        self._lock = threading.Lock()
        for _ in range(2 * crew.options.size):
            self._feed()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Raises:
            StopIteration: there is none any more.
            multiprocessing.TimeoutError: none came within ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while not self._items:
                if self._taken == self._submitted:
                    raise self._end or StopIteration
                self._take(deadline)
            outcome = self._items.popleft()
        return value_of(outcome)

    def _take(self, deadline: float | None) -> None:
        """Wait for a chunk, then send the next one."""
        try:
            index, outcomes = self._arrived.get(
                timeout=None if deadline is None else max(0.0, deadline - time.monotonic())
            )
        except queue.Empty:
            raise TimeoutError from None
        self._early[index if self._ordered else self._taken + len(self._early)] = outcomes
        while (chunk := self._early.pop(self._taken, None)) is not None:
            self._items.extend(chunk)
            self._taken += 1
            self._feed()

    def _feed(self) -> None:
        if self._end is not None:
            return
        try:
            chunk = list(itertools.islice(self._source, self._chunksize))
        except Exception as error:  # noqa: BLE001 - the user's iterator raised: it is passed on when its turn comes
            self._end = error
            return
        if not chunk:
            self._end = StopIteration()
            return
        index = self._submitted
        self._submitted += 1
        arrived = self._arrived
        self._crew.submit(
            self._make_job([((item,), {}) for item in chunk], lambda outcomes: arrived.put((index, outcomes)))
        )
