"""One process's part in a session: what drivers and workers have in common.

The runtime owns the process's sockets (through its reactor), its ownership table, its submitters of tasks and actor
calls, and its client of the object store. Everything here runs under ``reactor.lock`` unless it says otherwise;
``get``, ``put`` and ``wait`` pickle and unpickle outside of it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import logging
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any


from core import exceptions, ids, refs, remote_errors
from core.protocol import framing, from_node, peer, to_node
from core.protocol.framing import ProtocolError
from core.protocol.records import ActorSpec, DeathCause
from core.refs import ObjectRef
from core.runtime import causes
from core.runtime.actors import ActorClient, Actors
from core.runtime.borrowing import Borrowing
from core.runtime.connection import Connection
from core.runtime.objects import FAILED, INLINE, PENDING, STORED, Entry, ObjectTable
from core.runtime.packing import Packer, unpicklable_error
from core.runtime.reactor import Reactor
from core.runtime.streams import Streams
from core.runtime.tasks import Tasks
from core.runtime.waiting import EventWaiter, GetWaiter, ReplyWaiter, WaitWaiter
from core.scheduling import LabelConstraint
from core.serialization import Parts, loads
from core.specs import RuntimeEnv
from core.state.leases import Task
from core.store.arena import copy_into
from core.store.client import HEADROOM, StoreClient
from core.protocol import VERSION

logger = logging.getLogger(__name__)
monotonic = time.monotonic

_FIRST = ids.FIRST_INDEX
#: Seconds after which a waiting ``get`` asks the node whether it knows why.
STALL = 4.0
#: Finished tasks remembered for the timeline.
EVENTS = 20_000
#: Seconds within which the node should have told why a peer's connection ended.
SUSPICION = 2.0
NODE_SOCKET = "node.sock"
_LOST = "its owner does not know it any more, because every counted reference to it was gone"


class Inbox:
    """What a worker does with the messages only workers get. A driver has none."""

    def received(self, connection: Connection, message: Any) -> None:
        """Handle one message of a peer or of the node."""
        raise ProtocolError(f"a driver takes no {type(message).__name__}")

    def current(self) -> tuple[bytes, int]:
        """Return the running task's id and the depth of the tasks it submits."""
        return b"", 1

    def idle(self) -> bool:
        """Tell whether nothing waits to run here."""
        return True

    def blocking(self) -> bool:
        """A thread is about to wait; return whether the node was told (then :meth:`resumed` follows)."""
        return False

    def resumed(self) -> None:
        """The wait is over."""

    def process_died(self, address: bytes) -> None:
        """Another process is gone."""

    def captured_group(self) -> bytes:
        """Return the placement group that tasks submitted by this thread run in unless they say otherwise."""
        return b""

    def exit_actor(self) -> None:
        """End the actor that the calling thread runs in.

        Raises:
            TypeError: this is no actor.
        """
        raise TypeError("exit_actor() can only be called inside of an actor")

    def actor_spec(self) -> ActorSpec | None:
        """Return the spec of the actor that lives here, if one does."""
        return None

    def facts(self) -> dict[str, Any]:
        """Return what ``get_runtime_context()`` tells of the running task."""
        return {}


class Runtime:
    """See the module's docstring.

    Args:
        session_dir: directory with the session's sockets.
        kind: "driver" or "worker".
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
        self.failure: bytes | None = None
        self.reactor = Reactor(self)
        self.lock = self.reactor.lock
        self.packer = Packer()
        self.table = ObjectTable(self.address, self._freed, self._forgotten)
        self.borrowing = Borrowing(self._send_to, self._unknown_objects)
        self._peers: dict[bytes, Connection] = {}
        #: processes known to be dead, newest last
        self._dead: dict[bytes, DeathCause] = {}
        #: peers whose connection ended for a reason not told yet: when to give up waiting for it
        self._suspects: dict[bytes, float] = {}
        self._waits: list[WaitWaiter] = []
        self._requests: dict[int, ReplyWaiter] = {}
        #: messages to the node from threads that do not hold the lock
        self._soon: deque[Any] = deque()
        self._request_number = 0
        self._counter = 0
        #: executor: pins on references in results, until the caller has them
        self._handed: dict[bytes, tuple[bytes, tuple[bytes, ...]]] = {}
        #: groups not placed yet: the object that tells of readiness, and what to call on a change
        self.placement_groups: dict[bytes, tuple[bytes, Callable[[Any], None]]] = {}
        #: the last finished tasks, for the timeline: (name, pid, end in monotonic seconds, micros)
        self.events: deque[tuple[str, int, float, int]] = deque(maxlen=EVENTS)
        #: environment of tasks and actors that ask for none
        self.default_env = RuntimeEnv()
        self._listener = self._listen()
        self._node = self._join(hello)
        self.tasks = Tasks(self)
        self.actors = Actors(self)
        self.streams = Streams(self)
        self._peer_handlers: dict[type, Callable[[Connection, Any], None]] = self._handlers()
        self.reactor.add(self._node)
        self.reactor.listen(self._listener.fileno())

    # -- joining ----------------------------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = self._path_of(self.address)
        old = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(old)
        listener.listen(512)
        listener.setblocking(False)
        return listener

    def _path_of(self, address: bytes) -> str:
        return str(self.session_dir / f"{address.hex()}.sock")

    def _join(self, hello: to_node.Hello) -> Connection:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.session_dir / NODE_SOCKET))
        sock.sendall(framing.encode([hello]))
        decoder: framing.Decoder[Any] = framing.Decoder(from_node.FromNode)
        descriptors: list[int] = []
        messages: list[Any] = []
        while not messages:
            data, fds, _, _ = socket.recv_fds(sock, 65536, 4)
            descriptors += fds
            if not data:
                raise exceptions.RaySystemError("the node daemon closed the connection during the handshake")
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
        self.store = StoreClient(descriptors[0], welcome.arena_bytes, self.request, self._to_node_soon)
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

    # -- sending ----------------------------------------------------------------------------------------------------

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

    def _to_node_soon(self, message: Any) -> None:
        """Queue a message to the node from anywhere, with any lock held (the store's, say)."""
        self._soon.append(message)
        self.reactor.queued()

    def _take_soon(self) -> None:
        while self._soon:
            self._node.out.append(self._soon.popleft())

    def send(self, connection: Connection, message: Any) -> None:
        """Queue a message to a peer and send it at once (under the lock)."""
        connection.out.append(message)
        self.reactor.flush(connection, monotonic())

    def _send_to(self, address: bytes, message: Any) -> bool:
        connection = self.connect(address)
        if connection is None:
            return False
        connection.out.append(message)
        self.reactor.dirty.add(connection)
        self.reactor.queued()
        return True

    def connect(self, address: bytes) -> Connection | None:
        """Return the connection to a process, dialling if need be; None if it is dead (under the lock)."""
        connection = self._peers.get(address)
        if connection is not None:
            return connection
        if address in self._dead or self.closed:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._path_of(address))
        except OSError:
            sock.close()
            self._suspect(address)
            return None
        connection = Connection(sock, peer.FromPeer)
        connection.address = address
        self._peers[address] = connection
        self.reactor.add(connection)
        connection.out.append(peer.PeerHello(VERSION, self.address, os.getpid()))
        self.reactor.dirty.add(connection)
        return connection

    def request(self, make: Callable[[int], Any]) -> Any:
        """Send ``make(number)`` to the node and wait for the reply with that number (without the lock).

        Raises:
            LocalRayletDiedError: the node is gone.
        """
        waiter = ReplyWaiter()
        with self.lock:
            if self.failure is not None:
                raise remote_errors.unpack_error(self.failure)
            self._request_number += 1
            number = self._request_number
            self._requests[number] = waiter
            self._take_soon()
            self._node.out.append(make(number))
            self.flush_node()
        try:
            self.reactor.wait(waiter, None)
        finally:
            with self.lock:
                self._requests.pop(number, None)
        if waiter.reply is None:
            raise remote_errors.unpack_error(self.failure or causes.pack(exceptions.RaySystemError("shut down")))
        return waiter.reply

    # -- receiving --------------------------------------------------------------------------------------------------

    def _handlers(self) -> dict[type, Callable[[Connection, Any], None]]:
        inbox = self.inbox.received
        return {
            peer.PeerHello: self._on_hello,
            peer.Results: self._on_results,
            peer.Item: lambda connection, message: self.streams.item(connection, message),
            peer.Returned: lambda connection, message: self.tasks.returned(connection, message),
            peer.Resumed: lambda connection, message: self.tasks.resumed(connection),
            peer.Cancel: self._on_cancel,
            peer.Fetch: self._on_fetch,
            peer.Fetched: self._on_fetched,
            peer.Borrow: self._on_borrow,
            peer.Borrowed: lambda connection, message: self.borrowing.answered(message),
            peer.Release: self._on_release,
            peer.ContainedTaken: self._on_contained_taken,
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
        now = monotonic()
        for message in messages:
            if type(message) is peer.Result:
                self._on_result(connection, message, now)
            else:
                if not connection.address and type(message) is not peer.PeerHello:
                    raise ProtocolError("the first message must be PeerHello")
                handlers[type(message)](connection, message)
        pool = connection.pool
        if pool is not None and pool.queue:
            self.tasks.fill(pool, now)
        if refs.dropped:
            self.drain()

    def _on_result(self, connection: Connection, message: peer.Result, now: float) -> None:
        """The hot path: a small value came back."""
        task_id = message.task
        task: Task | None = connection.inflight.get(task_id)
        if task is None:
            return
        lease = connection.lease
        if lease is not None:
            task.cost.observe(message.micros * 1e-6)
            connection.pool.finished(lease, task, now)
            self.events.append((task.function.name, lease.pid, now, message.micros))
        else:
            del connection.inflight[task_id]
            task.lease = None
            client: ActorClient = task.pool
            client.unfinished -= 1
            if client.out_of_scope:
                client.unfinished += 1
                self.actors.finished(client)
        object_id = task_id + _FIRST
        entry = self.table.entries.get(object_id)
        if entry is not None:
            entry.state = INLINE
            entry.data = message.data
            entry.task = None
            if entry.waiters is not None:
                ObjectTable.settle(object_id, entry)
        if self._waits:
            for waiter in self._waits:
                waiter.settled(object_id)
        if task.dependencies or task.nested or task.args_stored:
            self.tasks.retire(task)

    def _on_results(self, connection: Connection, message: peer.Results) -> None:
        task = connection.inflight.get(message.task)
        if task is None:
            return
        if connection.lease is not None:
            self.tasks.results(connection, message, monotonic())
            return
        del connection.inflight[message.task]
        task.lease = None
        self.finish(connection, task, message)

    def finish(self, connection: Connection, task: Task, message: peer.Results) -> None:
        """Take the outcome of a task or call into the table, or try again."""
        is_call = type(task.function) is str
        if message.failed:
            if task.cancelled:
                self.finish_failed(task, message.values[0].data)
            elif self.tasks.may_retry(task, message):
                if is_call:
                    task.pool.queue.append(task)
                    self.actors.resend(task.pool)
                else:
                    self.tasks.retry(task)
            else:
                self.finish_failed(task, message.values[0].data)
            return
        if message.items >= 0:
            self.streams.ended(task, None)
        for index, value in enumerate(message.values):
            object_id = ids.object_id(task.id, index)
            entry = self.table.entries.get(object_id)
            if entry is None:
                self.discard(object_id, value)
            else:
                self.fulfil(connection, object_id, entry, value)
                if entry.state == STORED and not is_call:
                    task.stored += 1
                    entry.task = task
        if any(value.contained for value in message.values):
            task_id = task.id
            self.borrowing.when_settled(lambda: self._send_to_open(connection, peer.ContainedTaken(task_id)))
        if is_call:
            self.actors.finished(task.pool)
        if not task.stored:
            self.tasks.retire(task)

    def _send_to_open(self, connection: Connection, message: Any) -> None:
        if not connection.closed:
            self.send(connection, message)

    def finish_failed(self, task: Task, error: bytes) -> None:
        """All of a task's objects become ``error``."""
        if task.returns < 0:
            self.streams.ended(task, error)
        else:
            for index in range(task.returns):
                object_id = ids.object_id(task.id, index)
                entry = self.table.entries.get(object_id)
                if entry is not None and entry.state == PENDING:
                    self.fail_entry(object_id, entry, error)
        if type(task.function) is str:
            self.actors.finished(task.pool)
        self.tasks.retire(task)

    def fulfil(self, connection: Connection | None, object_id: bytes, entry: Entry, value: peer.Value) -> None:
        """An object's value (or place, or error) is known."""
        if value.kind == "i":
            entry.state, entry.data = INLINE, value.data
        elif value.kind == "s":
            entry.state, entry.size = STORED, value.size
        else:
            entry.state, entry.data = FAILED, value.data
        entry.task = None
        if value.contained:
            self._contain(entry, value.contained)
        self._settled(object_id, entry)

    def _settled(self, object_id: bytes, entry: Entry) -> None:
        if entry.waiters is not None:
            ObjectTable.settle(object_id, entry)
        for waiter in self._waits:
            waiter.settled(object_id)

    def _contain(self, outer: Entry, contained: tuple[bytes, ...]) -> None:
        entries = self.table.entries
        for inner in contained:
            entry = entries.get(inner)
            if entry is None:
                if self.table.owned(inner):
                    continue
                entry = entries[inner] = Entry()
                self.borrowing.borrow(inner)
            entry.pins += 1
        outer.contained = contained

    def fail_entry(self, object_id: bytes, entry: Entry, error: bytes) -> None:
        """An object becomes an error."""
        entry.state, entry.data, entry.task = FAILED, error, None
        self._settled(object_id, entry)

    def give(self, object_id: bytes, entry: Entry, value: Any) -> None:
        """An object gets a value made here."""
        data, contained = self.packer.value(value)
        assert type(data) is bytes
        self.fulfil(None, object_id, entry, peer.Value("i", data, contained=contained))

    def discard(self, object_id: bytes, value: peer.Value) -> None:
        """A value came that nobody waits for any more."""
        if value.kind == "s":
            self.store.free(object_id)

    def _on_hello(self, connection: Connection, message: peer.PeerHello) -> None:
        if message.version != VERSION:
            raise ProtocolError(f"peer runs version {message.version}, this is {VERSION}")
        connection.address = message.address
        connection.pid = message.pid
        self._peers.setdefault(message.address, connection)

    def _on_cancel(self, connection: Connection, message: peer.Cancel) -> None:
        if ids.owner_of(message.task) == self.address:
            entry = self.table.entries.get(message.task + _FIRST)
            if entry is not None and entry.task is not None and entry.state == PENDING:
                self.cancel_task(entry.task, force=False, recursive=message.recursive)
        else:
            self.inbox.received(connection, message)

    def _on_fetch(self, connection: Connection, message: peer.Fetch) -> None:
        object_id = message.object_id
        entry = self.table.entries.get(object_id)
        if entry is None:
            error = causes.pack(exceptions.ObjectLostError(object_id.hex(), _LOST))
            self.send(connection, peer.Fetched(object_id, peer.Value("e", error)))
            return
        if message.lost and entry.state == STORED:
            self._recover(object_id, entry)
        if entry.state == PENDING:
            waiters = entry.waiters if entry.waiters is not None else []
            waiters.append(lambda _, known: self._answer_fetch(connection, object_id, known))
            entry.waiters = waiters
        else:
            self._answer_fetch(connection, object_id, entry)

    def _answer_fetch(self, connection: Connection, object_id: bytes, entry: Entry) -> None:
        if not connection.closed:
            connection.out.append(peer.Fetched(object_id, self.value_of(object_id, entry)))
            self.reactor.flush(connection, monotonic())

    def value_of(self, object_id: bytes, entry: Entry) -> peer.Value:
        """Return the message form of a settled entry."""
        if entry.state == INLINE:
            return peer.Value("i", entry.data, contained=entry.contained)
        if entry.state == STORED:
            self.announce()
            return peer.Value("s", b"", entry.size, entry.contained)
        return peer.Value("e", entry.data)

    def announce(self) -> None:
        """Let the node know of all objects written here, before others hear of them (under the lock)."""
        self.store.announce()
        if self._soon:
            self.flush_node()

    def _on_fetched(self, connection: Connection, message: peer.Fetched) -> None:
        entry = self.table.entries.get(message.object_id)
        if entry is not None and entry.fetching:
            entry.fetching = False
            if entry.state == PENDING:
                self.fulfil(connection, message.object_id, entry, message.value)

    def _on_borrow(self, connection: Connection, message: peer.Borrow) -> None:
        unknown = [key for key in message.objects if not self.table.borrow(key, connection.address)]
        self.send(connection, peer.Borrowed(message.number, unknown))

    def _on_release(self, connection: Connection, message: peer.Release) -> None:
        for object_id in message.objects:
            self.table.unborrow(object_id, connection.address)

    # -- results with references inside (executor) ------------------------------------------------------------------

    def hand_over(self, caller: bytes, task: bytes, contained: tuple[bytes, ...]) -> None:
        """Keep references inside a result alive until the caller is registered for them (under the lock)."""
        for object_id in contained:
            self.table.pin(object_id)
        self._handed[task] = (caller, contained)

    def _on_contained_taken(self, connection: Connection, message: peer.ContainedTaken) -> None:
        handed = self._handed.pop(message.task, None)
        if handed is not None:
            for object_id in handed[1]:
                self.table.unpin(object_id)

    # -- the node ---------------------------------------------------------------------------------------------------

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
                self._process_died(message.address, message.cause)
            case from_node.ActorUpdate():
                self.actors.updated(message.info)
            case from_node.Evict() | from_node.Reclaimed() | from_node.Trim():
                self.store.handle(message)
            case from_node.PlacementGroupUpdate():
                self._placement_group(message.info)
            case from_node.Log() | from_node.Notice():
                if self.on_log is not None:
                    self.on_log(message)
            case from_node.ActorReply() | from_node.Welcome():
                pass
            case _:
                self.inbox.received(self._node, message)

    def _placement_group(self, info: Any) -> None:
        waiting = self.placement_groups.get(info.placement_group_id)
        if waiting is not None:
            waiting[1](info)

    def _process_died(self, address: bytes, cause: DeathCause) -> None:
        if address in self._dead:
            return
        self._dead[address] = cause
        if len(self._dead) > 1000:
            del self._dead[next(iter(self._dead))]
        self._suspects.pop(address, None)
        connection = self._peers.pop(address, None)
        if connection is not None:
            self.reactor.drain_connection(connection)
        self.tasks.worker_gone(address, cause)
        if connection is not None:
            if connection.client is not None:
                self.actors.disconnected(connection.client, connection)
            self.reactor.remove(connection)
        self.borrowing.process_gone(address)
        self.table.borrower_gone(address)
        for task, (caller, contained) in list(self._handed.items()):
            if caller == address:
                del self._handed[task]
                for object_id in contained:
                    self.table.unpin(object_id)
        self._owner_died(address, cause)
        self.inbox.process_died(address)

    def _owner_died(self, address: bytes, cause: DeathCause) -> None:
        error = b""
        for object_id, entry in self.table.of_owner(address):
            if not error:
                error = causes.pack(
                    exceptions.OwnerDiedError(
                        object_id.hex(),
                        f"its owner (process {address.hex()}) is dead: {causes.describe(cause)}. Values live as long "
                        "as the process that made them with put() or called the task",
                    )
                )
            was_pending = entry.state == PENDING
            if entry.state == STORED:
                self.store.forget(object_id)
            entry.state, entry.data, entry.fetching = FAILED, error, False
            if was_pending:
                self._settled(object_id, entry)

    def disconnected(self, connection: Connection, error: Exception | None) -> None:
        """A connection ended (``Handler.disconnected``)."""
        if connection is self._node:
            self._node_gone()
            return
        if isinstance(error, ProtocolError):
            logger.warning("connection from %s closed: %s", connection.address.hex() or "a stranger", error)
        address = connection.address
        if address and self._peers.get(address) is connection:
            del self._peers[address]
            if connection.client is not None:
                self.actors.disconnected(connection.client, connection)
            self._suspect(address)

    def _suspect(self, address: bytes) -> None:
        if address not in self._dead and not self.closed:
            due = monotonic() + SUSPICION
            self._suspects.setdefault(address, due)
            self.reactor.schedule(due)

    def _node_gone(self) -> None:
        if self.closed or self.failure is not None:
            return
        error = causes.pack(
            exceptions.LocalRayletDiedError(
                "the node daemon of this session is gone, and with it every worker and all that was pending. "
                "Call core.shutdown() and core.init() to start a new session."
            )
        )
        self.failure = error
        self.actors.node_gone(error)
        self.tasks.node_gone(error)
        for object_id, entry in list(self.table.entries.items()):
            if entry.state == PENDING:
                self.fail_entry(object_id, entry, error)
        for waiter in list(self._requests.values()):
            self.reactor.complete(waiter)
        self.inbox.process_died(b"node")

    def accepted(self) -> None:
        """Somebody dials (``Handler.accepted``)."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, OSError):
                return
            if not _same_user(sock):
                sock.close()
                continue
            self.reactor.add(Connection(sock, peer.FromPeer))

    def tick(self, now: float) -> float | None:
        """Do what is due (``Handler.tick``)."""
        due = self.tasks.tick(now)
        if self.table.entries or self.store.needs_patrol:
            self.store.patrol(now)
            due = now + 0.5 if due is None else min(due, now + 0.5)
        for address, deadline in list(self._suspects.items()):
            if now >= deadline:
                del self._suspects[address]
                self._process_died(address, DeathCause("disconnected", detail="its connection broke"))
            else:
                due = deadline if due is None else min(due, deadline)
        return due

    # -- references -------------------------------------------------------------------------------------------------

    def may_drain(self) -> bool:
        """``Handler.may_drain``."""
        return bool(self.table.entries) or self.store.may_release

    def must_drain(self) -> bool:
        """``Handler.must_drain``."""
        return bool(refs.dropped or self._soon or self.streams.dropped or self.store.has_released)

    def drain(self) -> None:
        """``Handler.drain``."""
        self.table.drain()
        self.streams.drain()
        self.store.drain_released()
        self.borrowing.flush()
        if self._soon:
            self.flush_node()

    def owns_anything(self) -> bool:
        """Tell whether objects live here that somebody may still need (under the lock)."""
        return any(self.table.owned(object_id) for object_id in self.table.entries)

    def _freed(self, object_id: bytes, entry: Entry) -> None:
        if entry.state == STORED:
            self.store.free(object_id)
            task: Task | None = entry.task
            if task is not None:
                task.stored -= 1
                if task.stored <= 0:
                    self.tasks.retire(task)
        entry.task = None
        for inner in entry.contained:
            self.table.unpin(inner)
        if entry.state == INLINE:
            self.actors.handles_gone(object_id)

    def _forgotten(self, object_id: bytes, entry: Entry) -> None:
        if entry.state == STORED:
            self.store.forget(object_id)
        for inner in entry.contained:
            self.table.unpin(inner)
        if self.actors.busy(object_id):
            # Calls through the last handle are unfinished: stay registered with the creator until they are.
            self.table.entries[object_id] = entry
            self.actors.forget_later(object_id)
            return
        if entry.state != FAILED or ids.owner_of(object_id) not in self._dead:
            self.borrowing.release(object_id)

    def _unknown_objects(self, objects: list[bytes]) -> None:
        for object_id in objects:
            entry = self.table.entries.get(object_id)
            if entry is not None and entry.state == PENDING:
                error = causes.pack(exceptions.OwnerDiedError(object_id.hex(), _LOST))
                self.fail_entry(object_id, entry, error)

    def adopt_ref(self, object_id: bytes) -> ObjectRef[Any]:
        """Return a counted reference for an id that came out of a pickle."""
        with self.lock:
            entry = self.table.entries.get(object_id)
            if entry is None:
                entry = self.table.entries[object_id] = Entry()
                if self.table.owned(object_id):
                    entry.state = FAILED
                    entry.data = causes.pack(exceptions.ObjectLostError(object_id.hex(), _LOST))
                else:
                    self.borrowing.borrow(object_id)
            entry.local += 1
        return ObjectRef(object_id)

    def note_serialized(self, ref: ObjectRef[Any]) -> None:
        """A reference is being pickled in this thread."""
        found = self.packer.collecting()
        if found is not None:
            found.append(ref.id)
        else:
            # Pickled out of band (by the user): nobody can know when the bytes are gone, so it stays.
            with self.lock:
                self.table.pin(ref.id)

    def need(self, object_id: bytes, entry: Entry, waiter: Callable[[bytes, Entry], None]) -> None:
        """Call ``waiter`` once the pending object is there; ask its owner for it if that is not us."""
        if entry.waiters is None:
            entry.waiters = [waiter]
        else:
            entry.waiters.append(waiter)
        if not entry.fetching and not object_id.startswith(self.address):
            entry.fetching = True
            if not self._send_to(ids.owner_of(object_id), peer.Fetch(object_id)):
                entry.fetching = False
                owner = ids.owner_of(object_id)
                if owner in self._dead:
                    self._owner_died(owner, self._dead[owner])

    def resolve(self, dependencies: tuple[tuple[bytes, int, str], ...]) -> tuple[peer.Dependency, ...]:
        """Return the dependencies of a task with their values (all are there)."""
        entries = self.table.entries
        return tuple(
            peer.Dependency(object_id, self.value_of(object_id, entries[object_id]), index, name)
            for object_id, index, name in dependencies
        )

    # -- objects ----------------------------------------------------------------------------------------------------

    def next_task_id(self) -> bytes:
        """Return a fresh task id."""
        with self.lock:
            self._counter += 1
            return self._prefix + self._counter.to_bytes(8, "big") + self._suffix

    def current_task(self) -> tuple[bytes, int]:
        """Return the id of the task this thread runs (b"" in a driver) and the depth of what it submits."""
        return self.inbox.current()

    def submitted_many(self, now: float) -> None:
        """A thread submits in a loop: send what is queued and handle what came, without waiting."""
        self.reactor.poll_now()

    def misfit(self, labels: tuple[LabelConstraint, ...]) -> str:
        """Say which label constraint no node satisfies; "" if all are satisfied."""
        of_node: dict[str, str] = self.welcome.config.get("labels", {})
        for constraint in labels:
            if not constraint.allows(of_node):
                return f"no node satisfies the label constraint {constraint}; this node's labels are {of_node}"
        return ""

    def digest(self, blob: bytes) -> bytes:
        """Return the digest that names exported code."""
        return hashlib.blake2b(blob, digest_size=16).digest()

    def stale(self, what: str) -> exceptions.RayError:
        """Return the error for things from an earlier session."""
        return exceptions.RaySystemError(f"{what} belongs to a session that is over; make it again in this one")

    def store_value(self, object_id: bytes, parts: Parts) -> None:
        """Lay a large value out in shared memory (without the lock).

        Raises:
            ObjectStoreFullError, OutOfDiskError: there is no room.
        """
        target = self.store.create(object_id, parts.nbytes)
        try:
            parts.write(target, copy_into)
        except BaseException:
            self.store.abort(object_id)
            raise
        self.store.seal(object_id)

    def store_arguments(self, task: Task, parts: Parts) -> None:
        """Put arguments too large for a message into the store."""
        self.store_value(task.id + ids.ARGUMENTS_INDEX, parts)
        task.args_stored = True

    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value owned by this process (``Engine.put``)."""
        if refs.dropped:
            with self.lock:
                self.drain()
        try:
            data, contained = self.packer.value(value)
        except exceptions.RayError:
            raise
        except Exception as error:  # user code: reducers raise what they like
            raise unpicklable_error(f"value of type {type(value).__name__}", value, error) from error
        entry = Entry(local=1)
        with self.lock:
            self._counter += 1
            object_id = self._prefix + self._counter.to_bytes(8, "big") + self._suffix + _FIRST
            if contained:
                self._contain(entry, contained)
            if type(data) is bytes:
                entry.state, entry.data = INLINE, data
                self.table.entries[object_id] = entry
                return ObjectRef(object_id)
        assert type(data) is Parts
        if not self._adopt_block(object_id, data):
            self.store_value(object_id, data)
        entry.state, entry.size = STORED, data.nbytes
        with self.lock:
            self.table.entries[object_id] = entry
        return ObjectRef(object_id)

    def _adopt_block(self, object_id: bytes, parts: Parts) -> bool:
        sole = parts.sole_buffer()
        if sole is None:
            return False
        buffer, offset = sole
        block = self.store.find_block(buffer)
        if block is None or offset > HEADROOM:
            return False
        self.store.adopt_block(object_id, block, parts.head, offset)
        return True

    def get_one(self, ref: ObjectRef[Any], timeout: float | None) -> Any:
        """``Engine.get_one``."""
        entry = self.table.entries.get(ref.id)
        if entry is not None and entry.state == INLINE:
            return self._load(entry.data, ref.id)
        return self.get_many([ref], timeout)[0]

    def get_many(self, refs: list[ObjectRef[Any]], timeout: float | None) -> list[Any]:
        """``Engine.get_many``."""
        deadline = None if timeout is None or timeout < 0 else monotonic() + timeout
        self._await(refs, deadline, timeout)
        entries = self.table.entries
        out = []
        for ref in refs:
            entry = entries[ref.id]
            if entry.state == INLINE:
                out.append(self._load(entry.data, ref.id))
            else:
                out.append(self._materialize(ref, entry, deadline))
        return out

    def _await(self, refs: list[ObjectRef[Any]], deadline: float | None, timeout: float | None) -> None:
        """Wait until all are there or one has failed; raise that one's error, or GetTimeoutError."""
        entries = self.table.entries
        pending: list[tuple[bytes, Entry]] = []
        failed: Entry | None = None
        with self.lock:
            for ref in refs:
                entry = entries.get(ref.id)
                if entry is None:
                    raise self._unknown(ref)
                if entry.state == PENDING:
                    pending.append((ref.id, entry))
                elif entry.state == FAILED:
                    failed = entry
                    break
            if failed is None and pending:
                waiter = GetWaiter(self.reactor, len(pending))
                for object_id, entry in pending:
                    self.need(object_id, entry, waiter)
        if failed is not None:
            raise remote_errors.unpack_error(failed.data)
        if not pending:
            return
        if not waiter.done:
            done = self.block(waiter, deadline, f"object {pending[0][0].hex()}", pending[0])
            if not done or waiter.remaining > 0:
                self._forget_waiter(waiter, pending)
            if not done:
                raise exceptions.GetTimeoutError(
                    f"get() timed out after {timeout} s: {waiter.remaining} of {len(refs)} objects are not there yet"
                )
        for _, entry in pending:
            if entry.state == FAILED:
                raise remote_errors.unpack_error(entry.data)

    def _forget_waiter(self, waiter: Any, pending: list[tuple[bytes, Entry]]) -> None:
        with self.lock:
            for _, entry in pending:
                if entry.waiters is not None and waiter in entry.waiters:
                    entry.waiters = [other for other in entry.waiters if other is not waiter]

    def _unknown(self, ref: ObjectRef[Any]) -> ValueError:
        return ValueError(
            f"{ref!r}: its owner is unknown. The reference belongs to a session that is over, or was made by hand."
        )

    def _materialize(self, ref: ObjectRef[Any], entry: Entry, deadline: float | None) -> Any:
        object_id = ref.id
        while True:
            if entry.state == FAILED:
                raise remote_errors.unpack_error(entry.data)
            if entry.state == INLINE:
                return self._load(entry.data, object_id)
            view = self.store.read(object_id)
            if view is not None:
                return self._load(view, object_id)
            with self.lock:
                if entry.state == STORED:
                    if self.table.owned(object_id):
                        self._recover(object_id, entry)
                    else:
                        entry.state, entry.fetching = PENDING, True
                        self._send_to(ids.owner_of(object_id), peer.Fetch(object_id, True))
                    self.reactor.flush_dirty()
            self._await([ref], deadline, None)

    def get_lost(self, object_id: bytes) -> Any:
        """Return the value of a stored argument whose bytes are gone: its owner makes it again."""
        ref = self.adopt_ref(object_id)
        entry = self.table.entries[object_id]
        with self.lock:
            if entry.state == PENDING:
                entry.fetching = True
                self._send_to(ids.owner_of(object_id), peer.Fetch(object_id, True))
                self.reactor.flush_dirty()
        self._await([ref], None, None)
        return self._materialize(ref, entry, None)

    def _recover(self, object_id: bytes, entry: Entry) -> None:
        """The stored value of an owned object is lost: run its task again, or fail (under the lock)."""
        if not self.tasks.reconstruct(object_id, entry):
            error = causes.pack(
                exceptions.ObjectReconstructionFailedError(
                    object_id.hex(),
                    "its bytes are lost and cannot be made again: it came from put(), from an actor, or its task has "
                    "no retries left",
                )
            )
            self.fail_entry(object_id, entry, error)

    def _load(self, data: bytes | memoryview, object_id: bytes) -> Any:
        try:
            return loads(data)
        except exceptions.RayError:
            raise
        except Exception as error:  # user code: __setstate__ and module imports raise what they like
            raise exceptions.RaySystemError(
                f"the value of object {object_id.hex()} could not be unpickled: {type(error).__name__}: {error}"
            ) from error

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """``Engine.wait``."""
        deadline = None if timeout is None else monotonic() + timeout
        if timeout == 0:
            self.reactor.poll_now()
        entries = self.table.entries
        waiter: WaitWaiter | None = None
        with self.lock:
            positions = self._ready_positions(refs, num_returns)
            if len(positions) < num_returns and timeout != 0:
                pending = set()
                for ref in refs:
                    entry = entries[ref.id]
                    if entry.state == PENDING:
                        pending.add(ref.id)
                        if not entry.fetching and not ref.id.startswith(self.address):
                            self.need(ref.id, entry, _ignore)
                waiter = WaitWaiter(self.reactor, pending, num_returns - len(positions))
                self._waits.append(waiter)
        if waiter is not None:
            try:
                self.block(waiter, deadline, f"{num_returns} of {len(refs)} objects in wait()")
            finally:
                with self.lock:
                    self._waits.remove(waiter)
                    positions = self._ready_positions(refs, num_returns)
        ready = [refs[position] for position in positions]
        if len(positions) == 1:
            position = positions[0]
            return ready, refs[:position] + refs[position + 1 :]
        chosen = set(positions)
        return ready, [ref for position, ref in enumerate(refs) if position not in chosen]

    def _ready_positions(self, refs: list[ObjectRef[Any]], limit: int) -> list[int]:
        entries = self.table.entries
        found: list[int] = []
        for position, ref in enumerate(refs):
            entry = entries.get(ref.id)
            if entry is None:
                raise self._unknown(ref)
            if entry.state != PENDING:
                found.append(position)
                if len(found) == limit:
                    break
        return found

    def block(
        self, waiter: EventWaiter, deadline: float | None, what: str, first: tuple[bytes, Entry] | None = None
    ) -> bool:
        """Wait for a waiter; tell the node if a worker's task waits, and ask why if it takes long."""
        reactor = self.reactor
        if self.kind == "worker" and not waiter.done:
            # Most waits are short; telling the node costs more than they last.
            soon = monotonic() + (0.0 if first is not None and self._unassigned(first[1]) else 0.001)
            if reactor.wait(waiter, soon if deadline is None else min(soon, deadline)):
                return True
            if self.inbox.blocking():
                try:
                    return self._block(waiter, deadline, what, first)
                finally:
                    self.inbox.resumed()
        return self._block(waiter, deadline, what, first)

    def _block(
        self, waiter: EventWaiter, deadline: float | None, what: str, first: tuple[bytes, Entry] | None
    ) -> bool:
        patience = monotonic() + STALL
        if deadline is not None and deadline <= patience:
            return self.reactor.wait(waiter, deadline)
        if self.reactor.wait(waiter, patience):
            return True
        on = b""
        task = first[1].task if first is not None else None
        if task is not None and isinstance(task.lease, Connection):
            on = task.lease.address
        self._to_node_soon(to_node.Stall(what, on))
        return self.reactor.wait(waiter, deadline)

    def _unassigned(self, entry: Entry) -> bool:
        task = entry.task
        return task is not None and type(task.function) is not str and task.lease is None

    def future(self, ref: ObjectRef[Any]) -> concurrent.futures.Future[Any]:
        """``Engine.future``."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def deliver() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = self.get_many([ref], None)[0]
            except BaseException as error:  # it belongs to whoever asks the future
                future.set_exception(error)
            else:
                future.set_result(value)

        with self.lock:
            entry = self.table.entries.get(ref.id)
            if entry is None:
                raise self._unknown(ref)
            if entry.state == PENDING:
                self.need(ref.id, entry, lambda *_: self.reactor.after.append(deliver))
                self.reactor.flush_dirty()
                return future
        deliver()
        return future

    # -- cancelling -------------------------------------------------------------------------------------------------

    def cancel(self, object_id: bytes, *, force: bool, recursive: bool) -> None:
        """Cancel the task that makes an object (``Engine.cancel``)."""
        with self.lock:
            entry = self.table.entries.get(object_id)
            if entry is None or entry.state != PENDING and entry.task is None:
                return
            if not self.table.owned(object_id):
                self._send_to(ids.owner_of(object_id), peer.Cancel(ids.task_of(object_id), recursive))
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
        for connection in [self._node, *self._peers.values()]:
            connection.sock.close()
        self._listener.close()

    # -- end --------------------------------------------------------------------------------------------------------

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
            for entry in self.table.entries.values():
                if entry.state == PENDING:
                    entry.state, entry.data = FAILED, self.failure
                    waiters, entry.waiters = entry.waiters, None
                    for waiter in waiters or ():
                        waiter(b"", entry)
            for waiter in [*self._requests.values(), *self._waits]:
                self.reactor.complete(waiter)
        self.reactor.close()
        self._listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path_of(self.address))
        self.table.entries.clear()
        self.store.close()


def _ignore(object_id: bytes, entry: Entry) -> None:
    """A waiter for its side effect: the value is fetched."""


def _same_user(sock: socket.socket) -> bool:
    """Tell whether the process at the other end belongs to this user (or root)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the directory's mode keeps others out
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.getuid())


