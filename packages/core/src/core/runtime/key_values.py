"""This process's access to the control store's keys and values, by messages to its node daemon."""

from __future__ import annotations

import concurrent.futures
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from core import remote_errors
from core.protocol import from_node, to_node
from core.runtime.waiting import FutureWaiter

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime


class _Answer(concurrent.futures.Future[Any]):
    """The answer to a request, which a thread can also wait for by reading itself."""

    waiter: FutureWaiter


class KeyValueClient:
    """See ``core.engine.base.KeyValueStore``."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime
        self._numbers = count(1)

    def get(self, key: str) -> from_node.KeyReply:
        """See ``KeyValueStore``."""
        reply: from_node.KeyReply = self._rt.request(lambda number: to_node.KeyGet(number, key))
        return reply

    def put(self, key: str, value: bytes, expected: int | None) -> from_node.KeyReply:
        """See ``KeyValueStore``."""
        reply: from_node.KeyReply = self._rt.request(lambda number: to_node.KeyPut(number, key, value, expected))
        return reply

    def delete(self, key: str, expected: int | None) -> from_node.KeyReply:
        """See ``KeyValueStore``."""
        reply: from_node.KeyReply = self._rt.request(lambda number: to_node.KeyDelete(number, key, expected))
        return reply

    def keys(self, prefix: str) -> list[str]:
        """See ``KeyValueStore``."""
        reply: from_node.KeyNames = self._rt.request(lambda number: to_node.KeyList(number, prefix))
        return reply.keys

    def new_watch(self) -> int:
        """See ``KeyValueStore``."""
        return next(self._numbers)

    def changes(self, watch: int, prefix: str, after: int) -> concurrent.futures.Future[from_node.KeyChanges]:
        """See ``KeyValueStore``."""
        return self._future(lambda number: to_node.KeyWatch(number, watch, prefix, after))

    def wait(self, future: concurrent.futures.Future[Any], timeout: float | None) -> bool:
        """See ``KeyValueStore``."""
        assert isinstance(future, _Answer), "only what this made can be waited for by reading"
        deadline = None if timeout is None else time.monotonic() + timeout
        return future.done() or self._rt.reactor.wait(future.waiter, deadline)

    def unwatch(self, watch: int, asking: concurrent.futures.Future[Any] | None) -> None:
        """See ``KeyValueStore``."""
        with self._rt.lock:
            if self._rt.failure is None:
                self._rt.to_node(to_node.KeyUnwatch(watch))
                self._rt.flush_node()
            if isinstance(asking, _Answer) and asking.cancel():
                self._rt.reactor.complete(asking.waiter)
                self._rt.reactor.wake()  # its thread may be reading

    def when_taken(self, key: str, version: int) -> concurrent.futures.Future[from_node.KeyReply]:
        """See ``KeyValueStore``."""
        return self._future(lambda number: to_node.KeyTaken(number, key, version))

    def _future(self, make: Any) -> concurrent.futures.Future[Any]:
        runtime = self._rt
        future = _Answer()
        numbers: list[int] = []

        def deliver() -> None:
            runtime.close_request(numbers[0])
            if not future.set_running_or_notify_cancel():
                return
            if waiter.reply is None:
                assert runtime.failure is not None, "a request ends with its reply or with the session"
                future.set_exception(remote_errors.unpack_error(runtime.failure))
            else:
                future.set_result(waiter.reply)

        waiter = future.waiter = FutureWaiter(runtime.reactor, deliver)
        with runtime.lock:  # no reply is handled before its number is known here
            numbers.append(runtime.open_request(make, waiter)[0])
        return future
