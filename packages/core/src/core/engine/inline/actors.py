"""Actors of the inline engine: objects of this process. Asyncio actors have an event loop in a thread of their own."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable
from typing import Any

from core.descriptors import ClassDescriptor
from core.engine.inline.calls import (
    ActorExitRequest,
    PackedCall,
    Retries,
    TaskContext,
    attempt,
    failed,
    running,
    split,
)
from core.engine.inline.objects import ObjectTable, Outcome, StoredError
from core.exceptions import ActorDiedError, ActorHandleNotFoundError, RayTaskError, TaskCancelledError
from core.options import ActorOptions
from core.refs import ActorToken, MethodInfo, ObjectRef
from core.remote_errors import unpack_error

#: Calls at a time of an asyncio actor that does not say otherwise.
_ASYNC_CONCURRENCY = 1000


class EventLoopThread:
    """An event loop that runs in a thread of its own until it is stopped."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def is_current(self) -> bool:
        """Tell whether the calling thread is the loop's."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Cancel what runs and end the thread; waits for it unless called from inside."""
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self._cancel_all)
        if not self.is_current():
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        # One more round lets the cancelled tasks end before the loop does.
        asyncio.gather(*tasks, return_exceptions=True).add_done_callback(lambda _: self.loop.stop())
        if not tasks:
            self.loop.stop()


class InlineActor:
    """One actor: its instance, and whether it lives."""

    def __init__(
        self,
        objects: ObjectTable,
        actor_id: bytes,
        descriptor: ClassDescriptor,
        cls: type,
        options: ActorOptions,
        packed: PackedCall,
    ) -> None:
        self.actor_id = actor_id
        self.descriptor = descriptor
        self.options = options
        self.restarts = 0
        #: why it is dead; None while it lives
        self.death: StoredError | None = None
        #: no handle is left; it ends after the calls it has
        self.out_of_scope = False
        #: dead, and its resources are given back
        self.buried = False
        #: unfinished calls; only asyncio actors have any
        self.pending = 0
        self._objects = objects
        self._cls = cls
        self._packed = packed
        self._instance: Any = None
        #: one call at a time, also from several threads
        self._turn = threading.RLock()
        self.loop_thread = EventLoopThread(f"actor {descriptor.name}") if descriptor.is_async else None
        limit = options.max_concurrency or _ASYNC_CONCURRENCY
        self._slots = asyncio.Semaphore(limit) if descriptor.is_async else None

    def describe(self, namespace: str) -> dict[str, Any]:
        """Describe the actor, for the state API."""
        return {
            "actor_id": self.actor_id,
            "state": "ALIVE" if self.death is None else "DEAD",
            "class_name": self.descriptor.name,
            "name": self.options.name,
            "namespace": self.options.namespace or namespace,
            "pid": os.getpid(),
            "restarts": self.restarts,
        }

    def token(self, namespace: str, ref: ObjectRef[Any] | None) -> ActorToken:
        """Return what handles of the actor share; ``ref`` counts them, None for those that do not keep it alive."""
        return ActorToken(
            actor_id=self.actor_id,
            class_name=self.descriptor.name,
            methods=self.descriptor.methods,
            client=self,
            ref=ref,
            name=self.options.name,
            namespace=self.options.namespace or namespace,
            max_pending_calls=self.options.max_pending_calls,
            is_async=self.descriptor.is_async,
        )

    # life and death

    def start(self, context: TaskContext) -> None:
        """Make the instance. An error makes the actor dead from the start; it shows at the first call."""
        broken = self._packed.failure()
        outcome: Outcome
        if broken is not None:
            outcome = broken
        else:
            try:
                [outcome] = attempt(self._objects, context, self._construct, Retries(0, False, None), 1)
            except ActorExitRequest:
                self.end("exit_actor() was called in __init__")
                return
        if isinstance(outcome, StoredError):
            error = unpack_error(outcome.blob)
            cause = error if isinstance(error, RayTaskError) else str(error)
            died = ActorDiedError(
                cause, actor_id=self.actor_id.hex(), class_name=self.descriptor.name, actor_init_failed=True
            )
            self._die(died)

    def _construct(self) -> None:
        args, kwargs = self._packed.unpack()
        if self.loop_thread is None:
            self._instance = self._cls(*args, **kwargs)
            return

        async def construct() -> Any:
            return self._cls(*args, **kwargs)

        self._instance = asyncio.run_coroutine_threadsafe(construct(), self.loop_thread.loop).result()

    def restart(self, context: TaskContext) -> bool:
        """Start again with the arguments it was made with, if a restart is left; return whether it was."""
        left = self.options.max_restarts
        if left >= 0 and self.restarts >= left:
            return False
        self.restarts += 1
        self._instance = None
        self.start(context)
        return True

    def end(self, reason: str) -> StoredError:
        """Make it dead, for good; return what its callers get."""
        name = self.descriptor.name
        return self._die(
            ActorDiedError(f"actor {name} is dead: {reason}", actor_id=self.actor_id.hex(), class_name=name)
        )

    def _die(self, error: ActorDiedError) -> StoredError:
        if self.death is None:
            self.death = failed(error, self.descriptor.name)
            self._instance = None
            if self.loop_thread is not None:
                self.loop_thread.stop()
        return self.death

    # calls

    def bind(self, method: MethodInfo, packed: PackedCall) -> Callable[[], Any]:
        """Return the call of a method as a function without arguments."""

        def call() -> Any:
            args, kwargs = packed.unpack()
            if method.name == "__ray_ready__":
                return True
            if method.name == "__ray_terminate__":
                raise ActorExitRequest
            if method.name == "__ray_call__":
                return args[0](self._instance, *args[1:], **kwargs)
            return getattr(self._instance, method.name)(*args, **kwargs)

        return call

    def retries(self, method: MethodInfo) -> Retries:
        """Return how errors of a method are retried."""
        own = method.options.max_task_retries
        count = self.options.max_task_retries if own is None else own
        return Retries(count, method.options.retry_exceptions, method.options.retry_on)

    def run(self, context: TaskContext, call: Callable[[], Any], retries: Retries, num_returns: int) -> list[Outcome]:
        """Run a call of an actor that is no asyncio actor, in this thread."""
        with self._turn:
            if self.death is not None:
                return [self.death] * max(1, num_returns)
            try:
                return attempt(self._objects, context, call, retries, num_returns)
            except ActorExitRequest:
                return [self.end("exit_actor() was called")] * max(1, num_returns)

    async def run_in_loop(
        self,
        context: TaskContext,
        call: Callable[[], Any],
        packed: PackedCall,
        num_returns: int,
    ) -> list[Outcome]:
        """Run a call of an asyncio actor, in its event loop."""
        assert self._slots is not None
        try:
            for ref in packed.references:
                await _settled(self._objects, ref.id)
            broken = packed.failure()
            if broken is not None:
                return [broken] * max(1, num_returns)
            async with self._slots:
                with running(self._objects, context):
                    value = call()
                    if inspect.isawaitable(value):
                        value = await value
                return split(self._objects, value, num_returns, context.function_name)
        except ActorExitRequest:
            return [self.end("exit_actor() was called")] * max(1, num_returns)
        except asyncio.CancelledError:
            cancelled = self.death or failed(TaskCancelledError(context.task_id.hex()), context.function_name)
            return [cancelled] * max(1, num_returns)
        except BaseException as error:  # noqa: BLE001 - user code raises what it likes
            return [failed(error, context.function_name)] * max(1, num_returns)


class ActorRegistry:
    """The actors of a session, dead ones too.

    Args:
        namespace: of actors that do not say otherwise.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.by_id: dict[bytes, InlineActor] = {}

    def add(self, actor: InlineActor) -> None:
        """Register an actor."""
        self.by_id[actor.actor_id] = actor

    def of(self, token: ActorToken) -> InlineActor:
        """Return the actor that a handle means.

        Raises:
            ActorHandleNotFoundError: the handle is of another session.
        """
        actor = self.by_id.get(token.actor_id)
        if actor is None:
            raise ActorHandleNotFoundError(f"actor {token.class_name} ({token.actor_id.hex()}) is not of this session")
        return actor

    def named(self, name: str, namespace: str) -> InlineActor | None:
        """Return the living actor of a name."""
        for actor in self.by_id.values():
            if actor.death is None and self._name(actor) == (namespace, name):
                return actor
        return None

    def names(self, all_namespaces: bool) -> list[tuple[str, str]]:
        """Return (namespace, name) of the living named actors."""
        named = [self._name(actor) for actor in self.by_id.values() if actor.options.name and actor.death is None]
        return [(namespace, name) for namespace, name in named if all_namespaces or namespace == self._namespace]

    def _name(self, actor: InlineActor) -> tuple[str, str]:
        return actor.options.namespace or self._namespace, actor.options.name


async def _settled(objects: ObjectTable, identifier: bytes) -> None:
    """Wait for an object in a coroutine."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(outcome: Outcome) -> None:
        loop.call_soon_threadsafe(done.set)

    objects.when_settled(identifier, wake)
    await done.wait()
