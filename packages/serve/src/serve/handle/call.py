"""One call through a handle: waits in line, goes to a replica, to another one if that is full or gone, and ends.

Whoever calls never blocks. What happens next runs in the thread that learns of it: the caller's, or the one that reads
the replica's answer. A replica's slot is released when its answer comes, whether anybody asks for the result or not.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import core
from core.exceptions import RayActorError, TaskCancelledError
from serve.errors import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError, RequestCancelledError
from serve.handle import local_router
from serve.handle.router import Router, Ticket, Wish
from serve.specs import Full, ReplicaInfo, RequestMeta

#: seconds before replicas are asked again that all turned a request away
FULL_BACKOFF_S = 0.005
#: replicas that may die before they got a request, until it is given up
ATTEMPTS = 3


class Call:
    """A call whose answer is one value. `outcome` completes with it.

    Args:
        wish: where it goes.
        meta: what goes with it.
        args: for the method.
        kwargs: for the method.
    """

    def __init__(self, wish: Wish, meta: RequestMeta, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.meta = meta
        #: what core knows the call by, once a replica has it
        self.ref: Any = None
        self._router: Router = local_router.fed_router()
        self._wish = wish
        self._args = args
        self._kwargs = kwargs
        self._lock = threading.Lock()
        self._ticket: Ticket | None = None
        self._failed: frozenset[str] = frozenset()
        self.cancelled: bool = False

    # -- getting to a replica -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go to a replica, or wait in line for one.

        Raises:
            TypeError: an argument cannot be pickled.
        """
        try:
            replica = self._router.try_acquire(self._wish)
            if replica is None:
                ticket = self._router.enqueue(self._wish, self._arrived)
                with self._lock:
                    self._ticket = ticket
                    late = self.cancelled
                if late:
                    self._leave(ticket)
                return
        except (BackPressureError, DeploymentUnavailableError) as error:
            self.outcome.set_exception(error)
            return
        self._submit(replica)

    def start_with(self, resolve: Callable[[Any], Any]) -> None:
        """Start with other arguments, after the caller has gone: errors are the outcome.

        Args:
            resolve: returns what takes the place of an argument; may raise what the call then ends with.
        """
        try:
            self._args = tuple(resolve(value) for value in self._args)
            self._kwargs = {name: resolve(value) for name, value in self._kwargs.items()}
        except BaseException as error:  # noqa: BLE001 - whatever the other call ended with
            self.outcome.set_exception(error)
            return
        self._again()

    def _arrived(self, replica: ReplicaInfo | None) -> None:
        """The line moved (in the thread that freed the replica)."""
        if replica is None:
            gone = f"deployment {self._wish.deployment} was deleted, or cannot start"
            self.outcome.set_exception(DeploymentUnavailableError(gone))
            return
        try:
            self._submit(replica)
        except Exception as error:  # noqa: BLE001 - an argument that cannot be pickled: nobody else would hear of it
            self.outcome.set_exception(error)

    def _submit(self, replica: ReplicaInfo) -> None:
        actor = local_router.actor_of(replica)
        if actor is None:
            self._next_replica(replica, DeploymentUnavailableError(f"replica {replica.replica_id} is gone"))
            return
        try:
            self.ref = self._send(actor)
        except BaseException:
            self._router.release(replica)
            raise
        with self._lock:
            late = self.cancelled
        if late:
            core.cancel(self.ref)
        self._watch(replica)

    def _send(self, actor: Any) -> Any:
        return actor.handle.remote(self.meta, *self._args, **self._kwargs)

    def _watch(self, replica: ReplicaInfo) -> None:
        self.ref.future().add_done_callback(lambda done: self._answered(replica, done))

    def _next_replica(self, replica: ReplicaInfo, error: Exception) -> None:
        """A replica died before the request reached it: try another."""
        self._router.lost(replica)
        self._failed |= {replica.replica_id}
        if len(self._failed) >= ATTEMPTS:
            self.outcome.set_exception(error)
            return
        self._wish = Wish(
            self._wish.deployment, self._wish.version, self._wish.model_id, self._wish.session_id, self._failed
        )
        self.start()

    def _later(self) -> None:
        """A replica was full with requests of others: ask again soon."""
        timer = threading.Timer(FULL_BACKOFF_S, self._again)
        timer.daemon = True
        timer.start()

    def _again(self) -> None:
        """Start, without anybody who could be told of an error but by the outcome."""
        if self.cancelled:
            self.outcome.set_exception(RequestCancelledError(self.meta.request_id))
            return
        try:
            self.start()
        except Exception as error:  # noqa: BLE001 - an argument that cannot be pickled
            self.outcome.set_exception(error)

    # -- the answer ---------------------------------------------------------------------------------------------------

    def _answered(self, replica: ReplicaInfo, done: concurrent.futures.Future[Any]) -> None:
        error = done.exception()
        if error is None:
            value = done.result()
            if type(value) is Full:
                self._router.release(replica, refused=True)
                self._later()
                return
            self._router.release(replica, model_id=self._wish.model_id)
            self._args, self._kwargs = (), {}
            self.outcome.set_result(value)
        elif isinstance(error, RayActorError):
            self._lost(replica, error)
        else:
            self._router.release(replica)
            self.outcome.set_exception(self._translated(error))

    def _lost(self, replica: ReplicaInfo, error: RayActorError) -> None:
        self._router.lost(replica)
        self._router.release(replica)
        unavailable = ReplicaUnavailableError(f"the replica that had the request is gone: {error}")
        unavailable.__cause__ = error
        self.outcome.set_exception(unavailable)

    def _translated(self, error: BaseException) -> BaseException:
        if isinstance(error, TaskCancelledError):
            return RequestCancelledError(self.meta.request_id)
        return error

    def _forget(self) -> None:
        """Begin anew, after a refusal that its caller found."""
        self.outcome = concurrent.futures.Future()
        self.ref = None

    # -- cancelling ---------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel: leave the line, or interrupt the replica. Nothing happens if the answer is there."""
        with self._lock:
            if self.cancelled or self.outcome.done():
                return
            self.cancelled = True
            ticket, ref = self._ticket, self.ref
        if ref is not None:
            core.cancel(ref)
        elif ticket is not None:
            self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        if self._router.leave(ticket):
            self.outcome.set_exception(RequestCancelledError(self.meta.request_id))


class StreamCall(Call):
    """A call whose answer is a stream. `outcome` completes with core's generator of references."""

    def _send(self, actor: Any) -> Any:
        return actor.handle_stream.remote(self.meta, *self._args, **self._kwargs)

    def _watch(self, replica: ReplicaInfo) -> None:
        stream, router = self.ref, self._router
        stream.completed().future().add_done_callback(lambda _: router.release(replica))
        self.outcome.set_result(stream)

    def cancel(self) -> None:
        """Cancel: leave the line, or interrupt the replica's generator."""
        self.cancelled = True
        ticket, ref = self._ticket, self.ref
        if ref is not None:
            core.cancel(ref)
        elif ticket is not None:
            self._leave(ticket)

    def again(self) -> None:
        """The stream's only item was `Full`: ask again soon, with a new `outcome`."""
        self._forget()
        self._later()
