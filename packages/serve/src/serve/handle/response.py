"""What a call through a handle returns at once: the promise of a value, or of a stream of values."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

import core
from core.exceptions import GetTimeoutError, RayActorError, TaskCancelledError
from serve.errors import ReplicaUnavailableError, RequestCancelledError
from serve.handle.call import Call, StreamCall
from serve.specs import Full

R_co = TypeVar("R_co", covariant=True)


class _Response:
    """What both kinds of response have."""

    # without a dictionary, so that nobody who looks for data in it (FastAPI does) finds locks and threads
    __slots__ = ("__weakref__", "_call")
    _advice = "await it (outside of event loops: call .result()) for its value"

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def request_id(self) -> str:
        """The id of the request, as in logs and in the header ``x-request-id``."""
        return self._call.meta.request_id

    def cancel(self) -> None:
        """Cancel the request: it leaves the line, or its replica interrupts it; too late, nothing happens.

        Waiting for the result then raises `RequestCancelledError`.
        """
        self._call.cancel()

    def cancelled(self) -> bool:
        """Tell whether `cancel` was called in time."""
        return self._call.cancelled

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            """Say what is missing between this and its value."""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}; {self._advice}")

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled: it can be no result and no part of an argument; {self._advice}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(request_id={self.request_id!r})"


class DeploymentResponse(_Response, Generic[R_co]):
    """The promise of a value.

    Await it in asynchronous code, call `result` elsewhere, or pass it as an argument of another call: the other replica
    then gets the value without a detour through this process.
    """

    __slots__ = ()

    def result(self, timeout_s: float | None = None) -> R_co:
        """Wait for the value and return it.

        Args:
            timeout_s: seconds to wait; None for as long as it takes.

        Raises:
            TimeoutError: the time is over; the request goes on.
            RuntimeError: called in the thread of an event loop, which would stand still; use ``await`` there.
            RequestCancelledError: it was cancelled.
            BackPressureError: the deployment's line was full.
            ReplicaUnavailableError: the replica died with it.
        """
        refuse_in_event_loop("DeploymentResponse.result()", "await the response")
        call = self._call
        outcome = call.outcome
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        if call.ref is not None and not outcome.done():
            # reads the answer in this very thread, which spares two switches of threads
            core.wait([call.ref], timeout=timeout_s)
        try:
            value = outcome.result(None if ends is None else max(0.0, ends - time.monotonic()))
        except TimeoutError:
            if outcome.done():
                raise
            raise TimeoutError(f"no result of request {self.request_id} within {timeout_s:g} s") from None
        return cast("R_co", value)

    def __await__(self) -> Generator[Any, None, R_co]:
        return self._wait().__await__()

    async def _wait(self) -> R_co:
        call = self._call
        if not call.outcome.done():
            try:
                await completion(call.outcome)
            except asyncio.CancelledError:
                call.cancel()
                raise
        return cast("R_co", call.outcome.result())

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call back when the value (or an error) is there, in whatever thread learns of it."""
        self._call.outcome.add_done_callback(lambda _: callback())

    def value(self) -> R_co:
        """Return the value (or raise the error), which is there."""
        return cast("R_co", self._call.outcome.result())

    def reference(self) -> Any:
        """Return core's reference to the value (or the error), which is there."""
        if self._call.ref is None or self._call.outcome.exception() is not None:
            self._call.outcome.result()
        return self._call.ref


class DeploymentResponseGenerator(_Response, Generic[R_co]):
    """The promise of a stream: iterate with ``for``, or with ``async for`` in asynchronous code."""

    __slots__ = ("_begun",)
    _advice = "iterate over it with `async for` (outside of event loops: `for`)"
    _call: StreamCall

    def __init__(self, call: StreamCall) -> None:
        super().__init__(call)
        self._begun = False

    def __iter__(self) -> Iterator[R_co]:
        return self

    def __next__(self) -> R_co:
        refuse_in_event_loop("Iterating a DeploymentResponseGenerator", "use `async for`")
        while True:
            with self._errors():
                stream = self._call.outcome.result()
                value = core.get(next(stream))
            if self._taken(value):
                return cast("R_co", value)

    def __aiter__(self) -> AsyncIterator[R_co]:
        return self

    async def __anext__(self) -> R_co:
        while True:
            try:
                with self._errors():
                    if not self._call.outcome.done():
                        await completion(self._call.outcome)
                    value = await (await self._call.outcome.result().__anext__())
            except asyncio.CancelledError:
                self._call.cancel()
                raise
            if self._taken(value):
                return cast("R_co", value)

    def _taken(self, value: Any) -> bool:
        """Tell whether this is an item; a replica without room sends something else, once."""
        if not self._begun and type(value) is Full:
            self._call.again()
            return False
        self._begun = True
        return True

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TaskCancelledError:
            raise RequestCancelledError(self.request_id) from None
        except GetTimeoutError:
            raise
        except RayActorError as error:
            raise ReplicaUnavailableError(f"the replica that had the request is gone: {error}") from error


async def completion(outcome: Any) -> None:
    """Wait until a future of another thread is done, whatever its result."""
    loop = asyncio.get_running_loop()
    here = threading.get_ident()
    waiting = loop.create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    def done(_: object) -> None:
        if threading.get_ident() == here:
            wake()
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(wake)

    outcome.add_done_callback(done)
    await waiting


def refuse_in_event_loop(what: str, instead: str) -> None:
    """Raise RuntimeError in a thread that runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{what} would block the event loop that runs in this thread; {instead}")
