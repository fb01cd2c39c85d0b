"""A call of a replica in this process, and what it promises."""

from __future__ import annotations

import asyncio
import collections
import io
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import cloudpickle

from serve.errors import DeploymentUnavailableError, RequestCancelledError
from serve.handle.response import (
    DeploymentResponse,
    DeploymentResponseGenerator,
    completion,
    refuse_in_event_loop,
)
from serve.local.replica import LocalReplica
from serve.specs import RequestMeta

R_co = TypeVar("R_co", covariant=True)


class LocalCall:
    """A call whose answer is one value. `outcome` completes with it.

    Args:
        replica: who is called; None if the deployment is gone.
        meta: what goes with it.
        args: for the method.
        kwargs: for the method.
        copies: whether arguments and results are copied, as between processes.
    """

    #: core knows nothing of it
    ref = None

    def __init__(
        self,
        replica: LocalReplica | None,
        meta: RequestMeta,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        copies: bool,
    ) -> None:
        self.outcome: Future[Any] = Future()
        self.meta = meta
        self.cancelled = False
        self._replica = replica
        self._args = args
        self._kwargs = kwargs
        self._copies = copies
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Begin.

        Raises:
            TypeError: an argument cannot be pickled.
        """
        if self._copies:
            self._args, self._kwargs = copied((self._args, self._kwargs))
        if self._replica is None or not self._replica.loop_thread.call(self._begin, self._replica):
            self._failed(DeploymentUnavailableError(f"there is no application {self.meta.app!r} in this process"))

    def start_with(self, _resolve: Callable[[Any], Any]) -> None:
        """Start with the values of the responses among the arguments, which are there."""
        try:
            self._args = tuple(_value(value) for value in self._args)
            self._kwargs = {name: _value(value) for name, value in self._kwargs.items()}
            self.start()
        except BaseException as error:  # noqa: BLE001 - whatever the other call ended with
            self._failed(error)

    def cancel(self) -> None:
        """Cancel; nothing happens if the answer is there."""
        if self.cancelled or self.outcome.done():
            return
        self.cancelled = True
        if self._replica is not None:
            self._replica.loop_thread.call(self._cancel_task)

    def _begin(self, replica: LocalReplica) -> None:
        """Make the task (in the replica's thread)."""
        self._task = replica.loop_thread.spawn(self._run(replica))
        self._task.add_done_callback(self._ended)
        if self.cancelled:
            self._task.cancel()

    async def _run(self, replica: LocalReplica) -> Any:
        result = await replica.call(self.meta, self._args, self._kwargs)
        return copied(result) if self._copies else result

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._args, self._kwargs = (), {}
        if task.cancelled():
            self._failed(RequestCancelledError(self.meta.request_id))
        elif (error := task.exception()) is not None:
            self._failed(error)
        else:
            self._done(task.result())

    def _done(self, result: Any) -> None:
        self.outcome.set_result(result)

    def _failed(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


class LocalStreamCall(LocalCall):
    """A call whose answer is a stream. `take` gives a future for each of its items."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._items: collections.deque[Any] = collections.deque()
        self._takers: collections.deque[Future[Any]] = collections.deque()

    def take(self) -> Future[Any]:
        """Return a future of the next item; at the end of the stream it fails with `StopAsyncIteration`."""
        taker: Future[Any] = Future()
        with self._lock:
            if self._items:
                taker.set_result(self._items.popleft())
                return taker
            if not self.outcome.done():
                self._takers.append(taker)
                return taker
        error = self.outcome.exception()
        taker.set_exception(StopAsyncIteration() if error is None else error)
        return taker

    async def _run(self, replica: LocalReplica) -> None:
        async for item in replica.stream(self.meta, self._args, self._kwargs):
            self._give(copied(item) if self._copies else item)

    def _give(self, item: Any) -> None:
        with self._lock:
            taker = self._takers.popleft() if self._takers else None
            if taker is None:
                self._items.append(item)
        if taker is not None:
            taker.set_result(item)

    def _done(self, _result: Any) -> None:
        self._close(None)

    def _failed(self, error: BaseException) -> None:
        self._close(error)

    def _close(self, error: BaseException | None) -> None:
        with self._lock:
            if self.outcome.done():
                return
            if error is None:
                self.outcome.set_result(None)
            else:
                self.outcome.set_exception(error)
            takers = list(self._takers)
            self._takers.clear()
        for taker in takers:
            taker.set_exception(StopAsyncIteration() if error is None else error)


class LocalResponse(DeploymentResponse[R_co]):
    """The promise of a value that is made in this process."""

    def reference(self) -> Any:
        """Return the value: an argument of a call in other processes."""
        return self.value()


class LocalResponseGenerator(DeploymentResponseGenerator[R_co]):
    """The promise of a stream that is made in this process. Letting it go cancels the call."""

    def __init__(self, call: Any) -> None:
        super().__init__(call)
        self._stream: LocalStreamCall = call
        weakref.finalize(self, call.cancel).atexit = False

    def __next__(self) -> R_co:
        refuse_in_event_loop("Iterating a DeploymentResponseGenerator", "use `async for`")
        try:
            return cast("R_co", self._stream.take().result())
        except StopAsyncIteration:
            raise StopIteration from None

    async def __anext__(self) -> R_co:
        taker = self._stream.take()
        try:
            if not taker.done():
                await completion(taker)
            return cast("R_co", taker.result())
        except asyncio.CancelledError:
            self._stream.cancel()
            raise


def copied(value: Any) -> Any:
    """Return a copy, made as for another process.

    Raises:
        TypeError: it cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        cloudpickle.Pickler(buffer).dump(value)
    except (TypeError, AttributeError, ValueError) as error:
        raise TypeError(f"cannot be sent to another process: {error} (it cannot be pickled)") from error
    return cloudpickle.loads(buffer.getvalue())


def _value(value: Any) -> Any:
    return value.value() if isinstance(value, DeploymentResponse) else value
