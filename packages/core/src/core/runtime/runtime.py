"""One process's part in a session: what drivers and workers have in common.

The runtime owns the process's sockets (through its reactor), its ownership table, its submitters of tasks and actor
calls, and its client of the object store. Everything here runs under ``reactor.lock`` unless it says otherwise;
``get``, ``put`` and ``wait`` pickle and unpickle outside of it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import exceptions, ids, refs, remote_errors
from core.protocol import NODE_SOCKET, framing, from_node, peer, to_node
from core.protocol.framing import ProtocolError
from core.protocol.records import TaskRow
from core.runtime import causes
from core.runtime.actors import Actors
from core.runtime.borrowing import Borrowing
from core.runtime.connection import Connection
from core.runtime.exchange import Exchange
from core.runtime.history import History
from core.runtime.inbox import Inbox
from core.runtime.lineage import Lineage
from core.runtime.objects import PENDING, ObjectTable
from core.runtime.packing import Packer
from core.runtime.patience import Patience
from core.runtime.peers import Peers, peer_of
from core.runtime.reactor import Reactor
from core.runtime.settling import Settling
from core.runtime.streams import Streams
from core.runtime.tasks import Tasks
from core.runtime.values import Values
from core.runtime.waiting import EventWaiter, ReplyWaiter, WaitWaiter
from core.scheduling import LabelConstraint
from core.specs import RuntimeEnv
from core.state.leases import Task
from core.store.client import StoreClient

logger = logging.getLogger(__name__)
monotonic = time.monotonic

_FIRST = ids.FIRST_INDEX
#: Seconds that a leaving driver waits for the last lines its workers have printed.
FAREWELL = 1.0


class Runtime:
    """See the module's docstring.

    Args:
        session_dir: directory with the session's sockets.
        hello: the first message to the node, without address.
        inbox: the worker's side.
        on_log: called with ``from_node.Log`` and ``from_node.Notice`` messages.
    """

    def __init__(
        self,
        session_dir: Path,
        hello: to_node.Hello,
        inbox: Inbox | None = None,
        on_log: Callable[[Any], None] | None = None,
    ) -> None:
        self.address = hello.address
        self.session_dir = session_dir
        self.kind = hello.kind
        self.inbox = inbox or Inbox()
        #: called with ``from_node.Log`` and ``from_node.Notice`` messages
        self.on_log = on_log
        self.closed = False
        #: this is a child that user code forked: everything here is its parent's
        self.forked = False
        #: completed when the node has closed the connection
        self._farewell = EventWaiter()
        self.failure: bytes | None = None
        self.reactor = Reactor(self)
        self.lock = self.reactor.lock
        self.packer = Packer()
        self.exchange = Exchange(self)
        self.table = ObjectTable(self.address, self.exchange.freed, self.exchange.forgotten, self.exchange.unused)
        self.peers = Peers(self)
        self.borrowing = Borrowing(self.peers.send, self.peers.unsent, self.exchange.unknown_objects)
        self.waits: list[WaitWaiter] = []
        self._requests: dict[int, ReplyWaiter] = {}
        #: messages to the node from threads that do not hold the lock
        self.soon: deque[Any] = deque()
        self._request_number = 0
        self._counter = 0
        #: groups not placed yet: the object that tells of readiness, and what to call on a change
        self.placement_groups: dict[bytes, tuple[bytes, Callable[[Any], None]]] = {}
        self.history = History(self)
        #: environment of tasks and actors that ask for none
        self.default_env = RuntimeEnv()
        self.settling = Settling(self)
        #: says how the node daemon ended, as far as its parent knows
        self.node_last_words: Callable[[], str] = str
        self.patience = Patience(self)
        self.values = Values(self)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._node = self._join(sock, hello)
        except BaseException:
            sock.close()
            self.reactor.close()
            self.peers.close()
            raise
        self.lineage = Lineage(self)
        self.tasks = Tasks(self)
        self.actors = Actors(self)
        self.streams = Streams(self)
        self._peer_handlers: dict[type, Callable[[Connection, Any], None]] = self._handlers()
        self.reactor.add(self._node)
        self.reactor.listen(self.peers.fileno())

    def _join(self, sock: socket.socket, hello: to_node.Hello) -> Connection:
        sock.connect(str(self.session_dir / NODE_SOCKET))
        sock.sendall(framing.encode([hello]))
        decoder: framing.Decoder[Any] = framing.Decoder(from_node.FromNode)
        descriptors: list[int] = []
        messages: list[Any] = []
        while not messages:
            data, fds, _, _ = socket.recv_fds(sock, 65536, 4)
            descriptors += fds
            if not data:
                raise ConnectionAbortedError("the node daemon closed the connection during the handshake")
            messages = decoder.feed(data)
        welcome = messages[0]
        if not isinstance(welcome, from_node.Welcome):
            reason = getattr(welcome, "reason", "unexpected answer")
            raise exceptions.RaySystemError(f"the node daemon refused this process: {reason}")
        self.welcome = welcome
        self.job_id = welcome.job_id
        self.node_id = welcome.node_id
        self.namespace = welcome.namespace
        self._prefix, self._suffix = self.address, welcome.job_id
        self.store = StoreClient(descriptors[0], welcome.arena_bytes, self.request, self.to_node_soon)
        for descriptor in descriptors:
            os.close(descriptor)
        connection = Connection(sock, from_node.FromNode)
        connection.address = b"node"
        self._early = messages[1:]
        return connection

    def start(self) -> None:
        """Start reading (the background thread)."""
        with self.lock:
            early, self._early = self._early, []
            if early:
                self.received(self._node, early)
        self.reactor.start()

    def to_node(self, message: Any) -> None:
        """Queue a message to the node (under the lock)."""
        self._take_soon()
        self._node.out.append(message)
        self.reactor.dirty.add(self._node)
        self.reactor.queued()

    def flush_node(self) -> None:
        """Send what is queued for the node now (under the lock)."""
        self._take_soon()
        self.reactor.flush(self._node)

    def to_node_soon(self, message: Any) -> None:
        """Queue a message to the node from anywhere, with any lock held (the store's, say)."""
        self.soon.append(message)
        self.reactor.queued()

    def _take_soon(self) -> None:
        while self.soon:
            self._node.out.append(self.soon.popleft())

    def send(self, connection: Connection, message: Any) -> None:
        """Queue a message to a peer and send it at once (under the lock)."""
        connection.out.append(message)
        self.reactor.flush(connection, monotonic())

    def request(self, make: Callable[[int], Any]) -> Any:
        """Send ``make(number)`` to the node and wait for the reply with that number (without the lock).

        Raises:
            LocalRayletDiedError: the node is gone.
        """
        number, waiter = self.open_request(make)
        try:
            self.patience.wait(waiter, None, "an answer of the node daemon")
        finally:
            self.close_request(number)
        if waiter.reply is None:
            assert self.failure is not None, "a request ends with its reply or with the session"
            raise remote_errors.unpack_error(self.failure)
        return waiter.reply

    def open_request(self, make: Callable[[int], Any], waiter: ReplyWaiter | None = None) -> tuple[int, ReplyWaiter]:
        """Send ``make(number)`` to the node; return the number and what its reply will complete.

        Raises:
            LocalRayletDiedError: the node is gone.
        """
        waiter = waiter or ReplyWaiter()
        with self.lock:
            if self.failure is not None:
                raise remote_errors.unpack_error(self.failure)
            self._request_number += 1
            number = self._request_number
            self._requests[number] = waiter
            self._take_soon()
            self._node.out.append(make(number))
            self.flush_node()
        return number, waiter

    def close_request(self, number: int) -> None:
        """A reply is not waited for any more (without the lock)."""
        with self.lock:
            self._requests.pop(number, None)

    def node_pid(self) -> int:
        """Return the process id of the node daemon; 0 where the kernel does not tell."""
        return peer_of(self._node.sock)[0]

    def notify(self, notice: from_node.Notice) -> None:
        """Show the user a notice of this process itself (without the lock); a worker has nobody to show it to."""
        with self.lock:
            if self.on_log is not None:
                self.on_log(notice)

    def _handlers(self) -> dict[type, Callable[[Connection, Any], None]]:
        inbox = self.inbox.received
        return {
            peer.PeerHello: self.peers.hello,
            peer.Results: self.settling.results,
            peer.Item: self.streams.item,
            peer.Returned: self.tasks.returned,
            peer.Resumed: lambda connection, message: self.tasks.resumed(connection),
            peer.Cancel: self._on_cancel,
            peer.Fetch: self.exchange.fetch,
            peer.Fetched: self.exchange.fetched,
            peer.Borrow: self.exchange.borrow,
            peer.Borrowed: self.exchange.borrowed,
            peer.Release: self.exchange.release,
            peer.ContainedTaken: self.settling.contained_taken,
            peer.DefineFunction: inbox,
            peer.Push: inbox,
            peer.Call: inbox,
            peer.Consumed: inbox,
            peer.Steal: inbox,
        }

    def received(self, connection: Connection, messages: list[Any]) -> None:
        """Handle messages (``Handler.received``)."""
        if connection is self._node:
            for message in messages:
                self._from_node(message)
            return
        handlers = self._peer_handlers
        on_result = self.settling.result
        now = monotonic()
        try:
            for message in messages:
                if type(message) is peer.Result:
                    on_result(connection, message, now)
                else:
                    if not connection.address and type(message) is not peer.PeerHello:
                        raise ProtocolError("the first message must be PeerHello")
                    handlers[type(message)](connection, message)
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError, OverflowError) as error:
            # True messages that contradict what went before are treated like bytes that are none: the connection ends.
            raise ProtocolError(f"cannot handle a message: {error!r}") from error
        pool = connection.pool
        if pool is not None:
            if connection.lease is not None and connection.lease.reclaim:
                self.tasks.return_reclaimed(pool, now)
            if pool.queue:
                self.tasks.fill(pool, now)
            elif pool.idle:
                self.tasks.idle(now)
        if refs.dropped:
            self.drain()

    def _on_cancel(self, connection: Connection, message: peer.Cancel) -> None:
        if ids.owner_of(message.task) == self.address:
            entry = self.table.entries.get(message.task + _FIRST)
            if entry is not None and entry.task is not None and entry.state == PENDING:
                self.cancel_task(entry.task, force=False, recursive=message.recursive)
        else:
            self.inbox.received(connection, message)

    def _from_node(self, message: Any) -> None:
        number = getattr(message, "request", 0)
        if number and type(message) is not from_node.Evict:
            waiter = self._requests.get(number)
            if waiter is not None:
                waiter.reply = message
                self.reactor.complete(waiter)
            return
        match message:
            case from_node.LeaseGrant():
                self.tasks.granted(message)
            case from_node.LeaseRefused():
                self.tasks.refused(message)
            case from_node.Reclaim():
                self.tasks.reclaim(message.leases)
            case from_node.ProcessDied():
                self.peers.died(message.address, message.cause)
            case from_node.ActorUpdate():
                self.actors.updated(message.info)
            case from_node.Evict() | from_node.Reclaimed() | from_node.Trim():
                self.store.handle(message)
            case from_node.Inquiry() | from_node.Orphans():
                self._answer(message)
            case from_node.PlacementGroupUpdate():
                self._placement_group(message.info)
            case from_node.Log() | from_node.Notice():
                if self.on_log is not None:
                    self.on_log(message)
            case from_node.ActorReply() | from_node.Welcome():
                pass
            case _:
                self.inbox.received(self._node, message)

    def _answer(self, inquiry: from_node.Inquiry | from_node.Orphans) -> None:
        """Tell the node what only this process knows."""
        if isinstance(inquiry, from_node.Orphans):
            self.exchange.orphans(inquiry.objects)
            return
        tasks: list[TaskRow] = []
        running: list[tuple[bytes, int]] = []
        if inquiry.what == "tasks":
            tasks, running = self.history.rows(), self.inbox.running_since()
        else:
            self.exchange.announce()
        self.to_node(to_node.Report(inquiry.number, tasks, running))
        self.flush_node()

    def _placement_group(self, info: Any) -> None:
        waiting = self.placement_groups.get(info.placement_group_id)
        if waiting is not None:
            waiting[1](info)

    def accepted(self) -> None:
        """Somebody dials (``Handler.accepted``)."""
        self.peers.accept()

    def disconnected(self, connection: Connection, error: Exception | None) -> None:
        """A connection ended (``Handler.disconnected``)."""
        if connection is self._node:
            self._node_gone()
            self.reactor.complete(self._farewell)
        else:
            self.peers.disconnected(connection, error)

    def _node_gone(self) -> None:
        if self.closed or self.failure is not None:
            return
        why = self.node_last_words()
        error = causes.pack(
            exceptions.LocalRayletDiedError(
                "the node daemon of this session is gone, and with it every worker and all that was pending. "
                f"Call core.shutdown() and core.init() to start a new session.{why and ' How it ended: '}{why}"
            )
        )
        self.failure = error
        self.actors.node_gone(error)
        self.tasks.node_gone(error)
        for object_id, entry in list(self.table.entries.items()):
            if entry.state == PENDING:
                self.settling.fail_entry(object_id, entry, error)
        for waiter in list(self._requests.values()):
            self.reactor.complete(waiter)
        self.inbox.process_died(b"node")

    def tick(self, now: float) -> float | None:
        """Do what is due (``Handler.tick``)."""
        due = self.tasks.tick(now)
        if self.table.entries or self.store.needs_patrol:
            self.store.patrol(now)
            due = now + 0.5 if due is None else min(due, now + 0.5)
        suspects = self.peers.tick(now)
        if suspects is not None:
            due = suspects if due is None else min(due, suspects)
        return due

    def may_drain(self) -> bool:
        """``Handler.may_drain``."""
        return bool(self.table.entries) or self.store.may_release

    def must_drain(self) -> bool:
        """``Handler.must_drain``."""
        return bool(refs.dropped or self.soon or refs.dropped_generators or self.store.has_released)

    def drain(self) -> None:
        """``Handler.drain``."""
        self.table.drain()
        self.streams.drain()
        self.store.drain_released()
        self.borrowing.flush()
        if self.soon:
            self.flush_node()

    def next_task_id(self) -> bytes:
        """Return a fresh task id."""
        with self.lock:
            self._counter += 1
            return self._prefix + self._counter.to_bytes(8, "big") + self._suffix

    def current_task(self) -> tuple[bytes, int]:
        """Return the id of the task this thread runs (b"" in a driver) and the depth of what it submits."""
        return self.inbox.current()

    def misfit(self, labels: tuple[LabelConstraint, ...]) -> str:
        """Say which label constraint no node satisfies; "" if all are satisfied."""
        of_node: dict[str, str] = self.welcome.config.get("labels", {})
        for constraint in labels:
            if not constraint.allows(of_node):
                return f"no node satisfies the label constraint {constraint}; this node's labels are {of_node}"
        return ""

    def stale(self, what: str) -> exceptions.RayError:
        """Return the error for things from an earlier session."""
        return exceptions.RaySystemError(f"{what} belongs to a session that is over; make it again in this one")

    def cancel(self, object_id: bytes, *, force: bool, recursive: bool) -> None:
        """Cancel the task that makes an object (``Engine.cancel``)."""
        with self.lock:
            entry = self.table.entries.get(object_id)
            if entry is None or (entry.state != PENDING and entry.task is None):
                return
            if not self.table.owned(object_id):
                self.peers.send(ids.owner_of(object_id), peer.Cancel(ids.task_of(object_id), recursive))
            elif entry.task is not None and entry.state == PENDING:
                self.cancel_task(entry.task, force=force, recursive=recursive)
            self.reactor.flush_dirty()

    def cancel_task(self, task: Task, *, force: bool, recursive: bool) -> None:
        """Cancel one of our unfinished tasks or calls (under the lock).

        Raises:
            ValueError: force on an actor call.
        """
        if type(task.function) is str:
            if force:
                raise ValueError("force=True is not supported for actor calls: use core.kill(actor) instead")
            self.actors.cancel(task, recursive=recursive)
        else:
            self.tasks.cancel(task, force=force, recursive=recursive)

    def abandon(self) -> None:
        """Close what a forked child inherited, without a word to anybody."""
        self.forked = True
        self.closed = True
        self.reactor.closed = True
        self._node.sock.close()
        self.peers.abandon()

    def close(self, goodbye: bool = False) -> None:
        """Leave the session."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            if goodbye and self.failure is None:
                self._node.out.append(to_node.Goodbye())
                self.flush_node()
            if self.failure is None:
                self.failure = causes.pack(exceptions.RaySystemError("core.shutdown() was called"))
            self.streams.close(self.failure)
            for object_id, entry in list(self.table.entries.items()):
                if entry.state == PENDING:
                    self.settling.fail_entry(object_id, entry, self.failure)
            for parked in [*self._requests.values(), *self.waits]:
                self.reactor.complete(parked)
        if goodbye:
            # What workers have printed comes before the end of the node's stream.
            self.reactor.wait(self._farewell, monotonic() + FAREWELL)
        self.reactor.close()
        self.peers.close()
        self.table.entries.clear()
        self.store.close()
