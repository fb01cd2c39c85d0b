"""The inline engine: tasks and actor calls run at ``.remote()``, in the calling thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from core import ids, refs
from core.descriptors import ClassDescriptor, FunctionDescriptor, InitConfig, PlacementGroupState, RuntimeFacts
from core.engine.inline.actors import ActorRegistry, InlineActor
from core.engine.inline.calls import (
    ActorExitRequest,
    PackedCall,
    Retries,
    TaskContext,
    attempt,
    current_task,
    failed,
    local_copy,
)
from core.engine.inline.generators import InlineStream, wait_with_generators
from core.engine.inline.groups import Accounts, PlacementGroups
from core.engine.inline.key_values import InlineKeyValues
from core.engine.inline.objects import ObjectTable, Outcome, StoredError, resolve, value_of
from core.engine.inline.session import InlineSession
from core.exceptions import (
    ActorAlreadyExistsError,
    ActorHandleNotFoundError,
    ActorPlacementGroupRemoved,
    ActorUnschedulableError,
    PendingCallsLimitExceeded,
    RayError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
)
from core.options import DYNAMIC, STREAMING, ActorOptions, TaskOptions
from core.refs import ActorHandle, ActorToken, MethodInfo, ObjectRef, ObjectRefGenerator
from core.runtime.packing import unpicklable_error
from core.scheduling import LabelConstraint
from core.specs import LeaseSpec


class InlineEngine:
    """See :mod:`core.engine.inline` and the protocol :class:`core.engine.base.Engine`."""

    name = "inline"

    def __init__(self, config: InitConfig) -> None:
        self._session = InlineSession(config)
        self._objects = ObjectTable()
        self._accounts = Accounts(self._session.total_resources())
        self._groups = PlacementGroups(self._objects, self._accounts)
        self._actors = ActorRegistry(self._session.namespace)
        self.key_values = InlineKeyValues()
        self._streams: dict[bytes, InlineStream] = {}

    # tasks and objects ------------------------------------------------------------------------------------------------

    def submit_task(
        self, function: FunctionDescriptor, args: tuple[Any, ...], kwargs: dict[str, Any], options: TaskOptions
    ) -> Any:
        self._tidy()
        run = local_copy(function, function.function, f"function {function.name}", self._session.address)
        packed = PackedCall(self._objects, f"{function.name}()", args, kwargs)
        name = options.name or function.function.__name__
        context = self._session.context(name, function.function.__qualname__, options.lease)
        retries = Retries(options.max_retries, options.retry_exceptions, options.retry_on)
        refused = self._refusal(options.lease, options.labels)

        def call() -> Any:
            args, kwargs = packed.unpack()
            return run(*args, **kwargs)

        if options.num_returns == STREAMING:
            return self._stream(context, call, packed, refused)
        count = 1 if options.num_returns == DYNAMIC else options.num_returns
        returns = [self._objects.create(ids.object_id(context.task_id, index)) for index in range(count)]
        broken = refused or packed.failure()
        if broken is not None:
            outcomes: list[Outcome] = [broken] * count
        else:
            body = self._dynamic(call) if options.num_returns == DYNAMIC else call
            outcomes = self._session.timed(context.name, lambda: attempt(self._objects, context, body, retries, count))
        return self._settled(returns, outcomes, options.num_returns)

    def put(self, value: Any) -> ObjectRef[Any]:
        self._tidy()
        try:
            stored = self._objects.serialize(value)
        except RayError:
            raise
        except Exception as error:
            raise unpicklable_error("value given to put()", value, error) from error
        ref = self._objects.create(self._session.next_put())
        self._objects.settle(ref.id, stored)
        return ref

    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any:
        self._tidy()
        self._finish_streams([ref])
        return value_of(self._objects.outcome(ref.id, timeout))

    def get_many(self, refs: list[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        self._tidy()
        self._finish_streams(refs)
        deadline = None if timeout is None else time.monotonic() + timeout
        table = self._objects

        def decided() -> bool:
            return all(table.settled(ref.id) for ref in refs) or any(table.failed(ref.id) for ref in refs)

        table.wait_until(decided, timeout)
        for ref in refs:
            if table.failed(ref.id):
                value_of(table.outcome(ref.id))
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return [value_of(table.outcome(ref.id, left)) for ref in refs]

    def wait(
        self, refs: list[Any], num_returns: int, timeout: float | None, fetch_local: bool
    ) -> tuple[list[Any], list[Any]]:
        self._tidy()
        if any(type(ref) is not ObjectRef for ref in refs):
            return wait_with_generators(refs, num_returns, timeout)
        self._finish_streams(refs)
        table = self._objects
        table.wait_until(lambda: sum(table.settled(ref.id) for ref in refs) >= num_returns, timeout)
        ready = [ref for ref in refs if table.settled(ref.id)][:num_returns]
        chosen = {ref.id for ref in ready}
        return ready, [ref for ref in refs if ref.id not in chosen]

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        self._tidy()
        from_actor, cancel = self._objects.canceller(ref.id)
        if from_actor and force:
            raise ValueError("force=True is not possible for actor methods: use kill() to end the actor")
        if cancel is not None:
            cancel()

    def cancel_generator(self, generator: ObjectRefGenerator[Any], force: bool, recursive: bool) -> None:
        stream = self._streams.get(generator.task)
        if stream is not None:
            stream.cancel(failed(TaskCancelledError(generator.task.hex()), "generator"))

    def future(self, ref: ObjectRef[Any]) -> concurrent.futures.Future[Any]:
        self._tidy()
        self._finish_streams([ref])
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def settle(outcome: Outcome, _kept: ObjectRef[Any] = ref) -> None:
            # Who awaits a temporary reference drops it at once; the object must stay until the future has it.
            resolve(future, outcome)

        self._objects.when_settled(ref.id, settle)
        return future

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        import numpy  # noqa: PLC0415 - an optional and heavy dependency

        kind = numpy.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"empty() makes arrays of plain numbers in shared memory; {kind} holds Python objects")
        return numpy.empty(shape, kind)

    # generators -------------------------------------------------------------------------------------------------------

    def next_item(self, task: bytes, index: int, timeout: float | None) -> ObjectRef[Any] | None:
        self._tidy()
        return self._streams[task].take(index)

    def next_item_future(self, task: bytes, index: int) -> concurrent.futures.Future[ObjectRef[Any] | None]:
        self._tidy()
        return self._streams[task].take_future(index)

    def item_ready(self, task: bytes, index: int) -> bool:
        return True

    # references -------------------------------------------------------------------------------------------------------

    def note_serialized(self, ref: ObjectRef[Any]) -> None:
        self._objects.note_serialized(ref)

    def adopt_ref(self, identifier: bytes) -> ObjectRef[Any]:
        return self._objects.adopt(identifier)

    # actors -----------------------------------------------------------------------------------------------------------

    def create_actor(
        self, cls: ClassDescriptor, args: tuple[Any, ...], kwargs: dict[str, Any], options: ActorOptions
    ) -> ActorHandle[Any]:
        self._tidy()
        namespace = options.namespace or self._session.namespace
        if options.name:
            living = self._actors.named(options.name, namespace)
            if living is not None:
                if options.get_if_exists:
                    return self._handle(living, None)
                raise ActorAlreadyExistsError(
                    f"there is an actor named {options.name!r} in namespace {namespace!r} already: choose another "
                    "name, or pass get_if_exists=True"
                )
        run = local_copy(cls, cls.cls, f"class {cls.name}", self._session.address)
        packed = PackedCall(self._objects, f"{cls.name}.__init__()", args, kwargs)
        task = self._session.next_task()
        actor = InlineActor(self._objects, ids.actor_id(task), cls, run, options, packed)
        self._actors.add(actor)
        ref = self._objects.create(ids.creation_object(actor.actor_id, self._session.job_id))
        self._objects.settle(ref.id, self._objects.serialize(None))
        self._accounts.take(options.held)
        refused = self._refusal(options.placement, options.labels, ActorUnschedulableError, ActorPlacementGroupRemoved)
        if refused is None:
            actor.start(self._actor_context(actor, f"{cls.name}.__init__"))
        else:
            actor.death = refused
        self._after_death(actor)
        # A detached actor outlives its handles: the reference that counts them is not given out.
        return self._handle(actor, None if options.detached else ref)

    def call_actor(self, token: ActorToken, method: MethodInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._tidy()
        actor = self._actors.of(token)
        packed = PackedCall(self._objects, f"{token.class_name}.{method.name}()", args, kwargs)
        context = self._actor_context(actor, f"{token.class_name}.{method.name}", method.options.name)
        call = actor.bind(method, packed)
        returned = method.options.num_returns
        if 0 <= token.max_pending_calls <= actor.pending and actor.loop_thread is not None:
            raise PendingCallsLimitExceeded(
                f"actor {token.class_name} has {actor.pending} unfinished calls and max_pending_calls="
                f"{token.max_pending_calls}; wait for some of them"
            )
        if returned == STREAMING:
            return self._stream(context, call, packed, actor.death, actor)
        count = 1 if returned == DYNAMIC else returned
        returns = [
            self._objects.create(ids.object_id(context.task_id, index), from_actor=True) for index in range(count)
        ]
        body = self._dynamic(call) if returned == DYNAMIC else call
        if actor.death is not None:
            return self._settled(returns, [actor.death] * count, returned)
        if actor.loop_thread is None:
            broken = packed.failure()
            retries = actor.retries(method)
            outcomes: list[Outcome] = (
                [broken] * count
                if broken is not None
                else self._session.timed(context.name, lambda: actor.run(context, body, retries, count))
            )
            self._after_death(actor)
            return self._settled(returns, outcomes, returned)
        self._call_in_loop(actor, context, body, packed, returns)
        return self._settled(returns, [], returned)

    def kill_actor(self, token: ActorToken, no_restart: bool) -> None:
        self._tidy()
        actor = self._actors.of(token)
        if actor.death is not None:
            return
        if not no_restart and actor.restart(self._actor_context(actor, f"{token.class_name}.__init__")):
            return
        self._end_actor(actor, "it was killed with kill()")

    def get_named_actor(self, name: str, namespace: str | None) -> ActorHandle[Any]:
        self._tidy()
        actor = self._actors.named(name, namespace or self._session.namespace)
        if actor is None:
            raise ValueError(
                f"there is no actor named {name!r} in namespace "
                f"{namespace or self._session.namespace!r}: it was not created "
                "yet, or it is dead, or it is in another namespace"
            )
        return self._handle(actor, None)

    def list_named_actors(self, all_namespaces: bool) -> list[tuple[str, str]]:
        self._tidy()
        return self._actors.names(all_namespaces)

    def exit_actor(self) -> None:
        raise ActorExitRequest

    def current_actor(self) -> ActorHandle[Any] | None:
        context = current_task.get()
        return self._handle(self._actors.by_id[context.actor_id], None) if context and context.actor_id else None

    def reduce_handle(self, token: ActorToken) -> tuple[Any, ...]:
        if token.ref is not None:
            self._objects.note_serialized(token.ref)
        return (token.actor_id, token.ref is not None)

    def restore_token(self, *state: Any) -> ActorToken:
        actor_id, counted = state
        actor = self._actors.by_id.get(actor_id)
        if actor is None:
            raise ActorHandleNotFoundError(f"actor {actor_id.hex()} is not of this session")
        ref = self._objects.adopt(ids.creation_object(actor_id, self._session.job_id)) if counted else None
        return actor.token(self._session.namespace, ref)

    # placement groups -------------------------------------------------------------------------------------------------

    def create_placement_group(
        self, bundles: list[dict[str, float]], strategy: str, name: str, detached: bool
    ) -> PlacementGroupState:
        self._tidy()
        return self._groups.create(bundles, strategy, name, self._session.next_put())

    def remove_placement_group(self, placement_group_id: bytes) -> None:
        self._groups.remove(placement_group_id)
        for actor in list(self._actors.by_id.values()):
            if actor.options.placement.strategy.placement_group == placement_group_id:
                self._end_actor(actor, "its placement group was removed")

    def get_placement_group(self, placement_group_id: bytes, name: str) -> PlacementGroupState | None:
        return self._groups.find(placement_group_id, name)

    # state ------------------------------------------------------------------------------------------------------------

    def query(self, what: str) -> list[dict[str, Any]]:
        self._tidy()
        if what == "cluster_resources":
            return [self._accounts.total()]
        if what == "available_resources":
            return [self._accounts.available()]
        if what == "nodes":
            return [self._session.node(self._accounts.total())]
        if what == "session":
            return [self._session.describe()]
        if what == "actors":
            return [actor.describe(self._session.namespace) for actor in self._actors.by_id.values()]
        if what == "placement_groups":
            return [{"placement_group_id": identifier} for identifier in self._groups.identifiers()]
        return []

    def facts(self) -> RuntimeFacts:
        context = current_task.get()
        actor = self._actors.by_id.get(context.actor_id) if context is not None else None
        return self._session.facts(actor.options.name if actor else None, actor.restarts if actor else 0)

    def timeline(self) -> list[dict[str, Any]]:
        return self._session.events()

    def shutdown(self) -> None:
        for actor in list(self._actors.by_id.values()):
            self._end_actor(actor, "the session was shut down")
        self.key_values.close()
        self._session.close()

    # what the methods above share -------------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Free what nobody refers to any more. User code may run: destructors and the ends of generators."""
        for identifier in self._objects.drain():
            actor = self._actors.by_id.get(_actor_of(identifier))
            if actor is not None and not actor.options.detached:
                self._out_of_scope(actor)
        for _ in range(len(refs.dropped_generators)):
            task = refs.dropped_generators.popleft()
            stream = self._streams.get(task)
            if stream is not None and self._objects.exists(stream.completed_id):
                refs.dropped_generators.append(task)  # somebody may still wait for its end
            elif stream is not None:
                del self._streams[task]
                stream.close()

    def _refusal(
        self,
        lease: LeaseSpec,
        labels: tuple[LabelConstraint, ...],
        unschedulable: type[RayError] = TaskUnschedulableError,
        group_removed: type[RayError] = TaskPlacementGroupRemoved,
    ) -> StoredError | None:
        """Return why the node can never run something, if so."""
        strategy = lease.strategy
        problem: RayError | None = None
        if strategy.kind == "node" and not strategy.soft and strategy.node_id != self._session.node_id:
            problem = unschedulable(f"there is no node {strategy.node_id.hex()} (and soft=False)")
        elif strategy.placement_group and self._groups.removed(strategy.placement_group):
            problem = group_removed()
        elif not all(constraint.allows(self._session.labels()) for constraint in labels):
            problem = unschedulable(f"no node has the labels asked for: {labels}")
        return None if problem is None else failed(problem, "scheduling")

    def _settled(self, returns: list[ObjectRef[Any]], outcomes: list[Outcome], num_returns: int) -> Any:
        for ref, outcome in zip(returns, outcomes, strict=bool(outcomes)):
            self._objects.settle(ref.id, outcome)
        if num_returns == 0:
            return None
        return returns[0] if num_returns in (1, DYNAMIC) else returns

    def _dynamic(self, call: Callable[[], Any]) -> Callable[[], list[ObjectRef[Any]]]:
        """Return a call whose value is the list of references to what the generator yields."""
        return lambda: [self.put(item) for item in call()]

    def _stream(
        self,
        context: TaskContext,
        call: Callable[[], Any],
        packed: PackedCall,
        refused: StoredError | None,
        actor: InlineActor | None = None,
    ) -> ObjectRefGenerator[Any]:
        def start() -> Any:
            broken = refused or packed.failure()
            if broken is not None:
                raise broken.to_raise()
            return call()

        loop = actor.loop_thread.loop if actor is not None and actor.loop_thread is not None else None
        if actor is not None:
            actor.pending += 1
        on_end = None if actor is None else partial(self._call_ended, actor)
        stream = InlineStream(self._objects, context, start, loop, on_end)
        self._streams[context.task_id] = stream
        return stream.reference()

    def _finish_streams(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """Run those generators to their ends whose ``completed()`` references are asked for."""
        if self._streams:
            for ref in refs:
                stream = self._streams.get(ids.task_of(ref.id))
                if stream is not None and stream.completed_id == ref.id:
                    stream.finish()

    def _call_in_loop(
        self,
        actor: InlineActor,
        context: TaskContext,
        call: Callable[[], Any],
        packed: PackedCall,
        returns: list[ObjectRef[Any]],
    ) -> None:
        assert actor.loop_thread is not None
        identifiers = [ref.id for ref in returns]
        actor.pending += 1
        coroutine = actor.run_in_loop(context, call, packed, len(identifiers))
        running = asyncio.run_coroutine_threadsafe(coroutine, actor.loop_thread.loop)

        def finished(done: concurrent.futures.Future[list[Outcome]]) -> None:
            if done.cancelled():
                error = actor.death or failed(TaskCancelledError(context.task_id.hex()), context.function_name)
                outcomes: list[Outcome] = [error] * len(identifiers)
            else:
                outcomes = done.result()
            for identifier, outcome in zip(identifiers, outcomes, strict=True):
                self._objects.settle(identifier, outcome)
            self._call_ended(actor)

        for identifier in identifiers:
            self._objects.on_cancel(identifier, lambda: _cancel_running(running, context))
        running.add_done_callback(finished)

    # actors' lives ----------------------------------------------------------------------------------------------------

    def _actor_context(self, actor: InlineActor, function_name: str, name: str = "") -> TaskContext:
        options = actor.options
        return self._session.context(
            name or function_name, function_name, options.placement, options.held, actor.actor_id
        )

    def _handle(self, actor: InlineActor, ref: ObjectRef[Any] | None) -> ActorHandle[Any]:
        return ActorHandle(actor.token(self._session.namespace, ref))

    def _out_of_scope(self, actor: InlineActor) -> None:
        actor.out_of_scope = True
        if not actor.pending:
            self._end_actor(actor, "all handles to it are gone")

    def _call_ended(self, actor: InlineActor) -> None:
        actor.pending -= 1
        if actor.out_of_scope and not actor.pending:
            self._end_actor(actor, "all handles to it are gone")
        self._after_death(actor)

    def _end_actor(self, actor: InlineActor, reason: str) -> None:
        actor.end(reason)
        self._after_death(actor)

    def _after_death(self, actor: InlineActor) -> None:
        if actor.death is not None and not actor.buried:
            actor.buried = True
            self._accounts.give_back(actor.options.held)


def _cancel_running(running: concurrent.futures.Future[Any], context: TaskContext) -> None:
    context.cancelled = True
    running.cancel()


def _actor_of(creation_object: bytes) -> bytes:
    """Return the id of the actor whose handles an object would count."""
    return ids.actor_id(ids.task_of(creation_object))
