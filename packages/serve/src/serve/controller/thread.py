"""The controller in the driver's process: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from serve.config import HTTPOptions
from serve.controller.controller import Controller

T = TypeVar("T")


class ControllerThread:
    """Runs a `Controller`, and passes calls on to it.

    Args:
        options: of HTTP.
    """

    def __init__(self, options: HTTPOptions) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="serve-controller", daemon=True)
        self._thread.start()
        self._controller: Controller = self._submit(self._make(options)).result()

    async def _make(self, options: HTTPOptions) -> Controller:
        return Controller(options)

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Callable[[Controller], Coroutine[Any, Any, T]]) -> T:
        """Run a method of the controller on its loop, and return its result.

        An interrupt (Ctrl-C) cancels the waiting.
        """
        future = self._submit(work(self._controller))
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def ask(self, question: Callable[[Controller], T]) -> T:
        """Return what a question that needs no waiting is answered on the controller's loop."""

        async def asked() -> T:
            return question(self._controller)

        return self._submit(asked()).result()

    def close(self, *, session_over: bool = False) -> None:
        """Shut the controller down, and end the thread.

        Args:
            session_over: there is no session any more, so nothing is left to stop.
        """
        if session_over:
            self.ask(Controller.abandon)
        else:
            self.call(Controller.shutdown)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        with contextlib.suppress(RuntimeError):
            self._loop.close()
