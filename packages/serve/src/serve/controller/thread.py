"""The controller in the driver's process: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from core.util import kv
from serve.config import GRPCOptions, HTTPOptions
from serve.controller.controller import Controller
from serve.controller.detached import THREAD
from serve.specs import CONTROLLER_KEY

T = TypeVar("T")


class ControllerThread:
    """Runs a `Controller`, and passes calls on to it.

    Args:
        options: of HTTP.
        grpc_options: of gRPC; None serves none.
    """

    def __init__(self, options: HTTPOptions, grpc_options: GRPCOptions | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="serve-controller", daemon=True)
        self._thread.start()
        self._controller: Controller = self._submit(self._make(options, grpc_options)).result()

    async def _make(self, options: HTTPOptions, grpc_options: GRPCOptions | None) -> Controller:
        controller = Controller(options, grpc_options)
        await controller.begin()
        kv.put(CONTROLLER_KEY, THREAD)
        return controller

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Run a method of the controller on its loop, and return its result.

        An interrupt (Ctrl-C) cancels the waiting.

        Args:
            method: name of a coroutine function of `Controller`.
            *args: for it.
            **options: for it.
        """
        future = self._submit(getattr(self._controller, method)(*args, **options))
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, *, session_over: bool = False) -> None:
        """Shut the controller down, and end the thread.

        Args:
            session_over: there is no session any more, so nothing is left to stop.
        """
        if session_over:
            self.call("abandon")
        else:
            self.call("shutdown")
            kv.delete(CONTROLLER_KEY)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        with contextlib.suppress(RuntimeError):
            self._loop.close()
