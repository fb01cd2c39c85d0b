"""The user's class or function inside a replica: made once, called by handles and by HTTP, told of changes.

All of it runs on the replica's event loop. What is not ``async`` runs in threads, so that a slow method keeps neither
the loop nor health checks waiting.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import io
import logging
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve.context import ReplicaContext, set_replica_context
from serve.errors import RayServeException
from serve.multiplex.finalizing import finalize, is_asynchronous
from serve.specs import DeploymentSpec, HandleMarker

#: asynchronous method of a class that works in the background: called when its replica stops, awaited for as long as
#: that may take
DRAIN_ATTRIBUTE = "__serve_drain__"
logger = logging.getLogger("serve.replica")

#: what a generator's end looks like across a thread; StopIteration cannot cross one
_END = object()


class UserCode:
    """The user's code of one deployment.

    Args:
        spec: the deployment.
        replica_id: this replica.
        make_handle: makes the handle that takes the place of a bound deployment.
    """

    def __init__(self, spec: DeploymentSpec, replica_id: str, make_handle: Callable[[HandleMarker], Any]) -> None:
        self._spec = spec
        self._replica_id = replica_id
        self._make_handle = make_handle
        self._limit = int(spec.config["max_ongoing_requests"])
        self._threads = _threads(self._limit)
        self._target: Any = None
        self._instance: Any = None

    def limit(self, requests: int) -> None:
        """Take over another number of requests at a time: what is not ``async`` has as many threads."""
        if requests != self._limit:
            self._limit = requests
            before, self._threads = self._threads, _threads(requests)
            before.shutdown(wait=False)

    @property
    def instance(self) -> Any:
        """The user's object, or the user's function."""
        return self._instance

    async def make(self) -> None:
        """Load the code and make the instance; whatever the user's code raises goes to the caller."""
        self._target, args, kwargs = self._load()
        self._note(ReplicaContext(self._spec.id, self._replica_id))
        if not inspect.isclass(self._target):
            self._instance = self._target
            return
        instance = self._target.__new__(self._target)
        made: Any = self._target.__init__(instance, *args, **kwargs)
        if inspect.isawaitable(made):  # async def __init__, as Ray allows
            await made
        self._instance = instance
        self._note(ReplicaContext(self._spec.id, self._replica_id, instance))
        if self._spec.config.get("user_config") is not None:
            await self.reconfigure(self._spec.config["user_config"])

    def _load(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """Return the class or function, and the constructor's arguments."""
        return _load(self._spec.blob, self._make_handle)

    def _note(self, context: ReplicaContext | None) -> None:
        """Let the user's code find the replica it runs in."""
        set_replica_context(context)

    async def reconfigure(self, user_config: Any) -> None:
        """Pass a ``user_config`` on.

        Raises:
            RayServeException: the class has no ``reconfigure``.
        """
        method = getattr(self._instance, "reconfigure", None)
        if method is None or not inspect.isclass(self._target):
            raise RayServeException(
                f"deployment {self._spec.id} has a user_config, but {self._target.__name__} has no "
                "reconfigure(user_config)"
            )
        await self._run(method, (user_config,), {})

    async def check_health(self) -> None:
        """Ask the user's ``check_health``, if there is one; what it raises means unhealthy."""
        method = getattr(self._instance, "check_health", None)
        if method is not None and inspect.isclass(self._target):
            await self._run(method, (), {})

    async def autoscaling_stats(self) -> dict[str, float]:
        """Return what the user's ``record_autoscaling_stats`` returns, if there is one: numbers for a policy."""
        method = getattr(self._instance, "record_autoscaling_stats", None)
        if method is None or not inspect.isclass(self._target):
            return {}
        try:
            return {str(name): float(value) for name, value in (await self._run(method, (), {})).items()}
        except Exception:  # the user's code; the other numbers go out without these
            logger.exception("record_autoscaling_stats() of %s failed", self._spec.id)
            return {}

    def method(self, name: str) -> Callable[..., Any]:
        """Return what a call of this name runs.

        Raises:
            AttributeError: there is no such method; the message lists those there are.
        """
        if not inspect.isclass(self._target):
            if name != "__call__":
                raise AttributeError(f"deployment {self._spec.id} is a function; it has no method {name!r}")
            function: Callable[..., Any] = self._target
            return function
        method = getattr(self._instance, name, None)
        if not callable(method):
            known = sorted(
                known
                for known in dir(self._instance)
                if not known.startswith("_") and callable(getattr(self._instance, known))
            )
            raise AttributeError(  # noqa: TRY004 - as Python itself for a missing method
                f"deployment {self._spec.id} has no method {name!r}; it has {', '.join(known) or 'none'}"
            )
        found: Callable[..., Any] = method
        return found

    async def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method and return its result.

        Raises:
            TypeError: it is a generator; those are called with ``stream=True``.
        """
        method = self.method(name)
        if _is_generator(method):
            raise TypeError(
                f"{self._spec.id}.{name} is a generator: call it with handle.options(stream=True).{name}.remote(...)"
            )
        return await self._run(method, args, kwargs)

    async def stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Call a generator method and yield what it yields; another one's single result is a stream of one."""
        result = (
            self.method(name)(*args, **kwargs)
            if _is_generator(self.method(name))
            else await self.call(name, args, kwargs)
        )
        if inspect.isasyncgen(result):
            async for item in result:
                yield item
        elif inspect.isgenerator(result):
            async for item in self.in_thread(result):
                yield item
        else:
            yield result

    async def in_thread(self, iterator: Iterator[Any]) -> AsyncIterator[Any]:
        """Yield what an ordinary iterator yields, each item made in a thread."""
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()

        def step() -> Any:
            return context.run(next, iterator, _END)

        while (item := await loop.run_in_executor(self._threads, step)) is not _END:
            yield item

    async def _run(self, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if _is_async(method):
            return await method(*args, **kwargs)
        context = contextvars.copy_context()
        call = functools.partial(context.run, method, *args, **kwargs)
        result = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        return await result if inspect.isawaitable(result) else result

    async def drain(self) -> None:
        """Wait until the user's object has finished what it does in the background, if it says so."""
        drain = getattr(self._instance, DRAIN_ATTRIBUTE, None)
        if drain is not None and inspect.isclass(self._target):
            await drain()

    async def end(self) -> None:
        """Let the user's object go: its ``__del__`` runs once."""
        instance, self._instance = self._instance, None
        self._note(None)
        if is_asynchronous(instance):
            await finalize(instance)
        self._threads.shutdown(wait=False, cancel_futures=True)


def _load(blob: bytes, make_handle: Callable[[HandleMarker], Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    loaded: tuple[Any, tuple[Any, ...], dict[str, Any]] = _Unpickler(io.BytesIO(blob), make_handle).load()
    return loaded


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, make_handle: Callable[[HandleMarker], Any]) -> None:
        super().__init__(file)
        self._make_handle = make_handle

    def persistent_load(self, pid: Any) -> Any:
        return self._make_handle(pid)


def _threads(requests: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(requests, thread_name_prefix="serve-request")


def _is_async(method: Callable[..., Any]) -> bool:
    if inspect.iscoroutinefunction(method):
        return True
    return not inspect.isroutine(method) and inspect.iscoroutinefunction(type(method).__call__)


def _is_generator(method: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method)
