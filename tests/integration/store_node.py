"""A node that is nothing but an object store, and processes that are nothing but its clients, over real sockets.

``StoreNode`` runs an ``ObjectService`` in a thread behind an event loop; ``StoreProcess`` is one connection with its
``StoreClient``. ``StoreNode.spawn`` runs a script in another Python process that has a ``StoreProcess`` called ``me``.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from core import ids
from core.node.objects import ObjectService
from core.protocol import from_node, to_node
from core.protocol.framing import Decoder, encode
from core.store.client import StoreClient

SCRIPT = """
import sys
from tests.integration.store_node import StoreProcess
def tell(text): print(text, flush=True)
def wait(): return sys.stdin.readline().strip()
me = StoreProcess.from_arguments(sys.argv[1:])
"""


class StoreProcess:
    """One process of the session: a socket to the node, a thread that reads it, a store client."""

    def __init__(self, sock: socket.socket, address: bytes, arena_fd: int, arena_bytes: int) -> None:
        self.address = address
        self._sock = sock
        self._lock = threading.Lock()
        self._replies: dict[int, Future[Any]] = {}
        self._number = 0
        self._objects = 0
        self._closed = False
        #: every message sent, by name, for tests that count messages
        self.sent: list[str] = []
        #: holds back what the node asks, as a process that computes would
        self.listening = threading.Event()
        self.listening.set()
        self.store = StoreClient(arena_fd, arena_bytes, self._request, self._send)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> StoreProcess:
        sock_fd, arena_fd, arena_bytes, address = arguments
        return cls(socket.socket(fileno=int(sock_fd)), bytes.fromhex(address), int(arena_fd), int(arena_bytes))

    def new_id(self, owner: bytes | None = None) -> bytes:
        self._objects += 1
        owner = owner or self.address
        return ids.object_id(owner + self.address[:8] + self._objects.to_bytes(4, "big"), 0)

    def put(self, data: bytes, object_id: bytes | None = None) -> bytes:
        object_id = object_id or self.new_id()
        view = self.store.create(object_id, len(data))
        view[:] = data
        self.store.seal(object_id)
        return object_id

    def close(self) -> None:
        self._closed = True
        self._sock.shutdown(socket.SHUT_RDWR)
        self.listening.set()
        self._reader.join()
        self._sock.close()
        self.store.close()

    def _send(self, message: Any) -> None:
        self.sent.append(type(message).__name__)
        with self._lock:
            if not self._closed:
                self._sock.sendall(encode([message]))

    def _request(self, make: Callable[[int], Any]) -> Any:
        with self._lock:
            self._number += 1
            number = self._number
            future = self._replies[number] = Future()
        self._send(make(number))
        return future.result(60)

    def _read(self) -> None:
        decoder: Decoder[Any] = Decoder(from_node.FromNode)
        while True:
            try:
                data = self._sock.recv(1 << 16)
            except OSError:
                return
            if not data:
                return
            for message in decoder.feed(data):
                if isinstance(message, from_node.Evict | from_node.Reclaimed | from_node.Trim):
                    self.listening.wait()
                    self.store.handle(message)
                elif not isinstance(message, from_node.Orphans):  # the runtime's business: it knows what is wanted
                    self._replies.pop(message.request).set_result(message)


class StoreNode:
    """The daemon's part, in a thread."""

    def __init__(self, directory: Path, capacity: int) -> None:
        self._calls: list[Callable[[], None]] = []
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._sockets: dict[bytes, socket.socket] = {}
        self._local: list[StoreProcess] = []
        self._spawned: list[subprocess.Popen[str]] = []
        self.service = ObjectService(directory, capacity, self._send, self.post)
        self._running = True
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._local:
            process.close()
        for child in self._spawned:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                stream.close()
        self.ask(self._stop)
        self._thread.join()
        self._waker.close()
        self._woken.close()
        self._selector.close()

    def _stop(self) -> None:
        self._running = False
        self.service.close()

    def post(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        self._waker.send(b"x")

    def ask(self, call: Callable[[], Any]) -> Any:
        """Run ``call`` in the loop's thread; return what it returns."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

        self.post(run)
        return future.result(30)

    def stats(self) -> dict[str, int]:
        return self.ask(self.service.stats)

    def connect(self) -> StoreProcess:
        """Return a client in this process."""
        address = ids.new_address()
        process = StoreProcess(self._pair(address), address, self.service.arena_fd, self.service.arena_bytes)
        self._local.append(process)
        return process

    def disconnect(self, process: StoreProcess) -> None:
        """End a client of this process as if it had been killed."""
        self._local.remove(process)
        process.close()

    def spawn(self, script: str) -> tuple[subprocess.Popen[str], bytes]:
        """Run ``script`` in a new process with ``me`` (a StoreProcess), ``tell(text)`` and ``wait()``."""
        address = ids.new_address()
        theirs = self._pair(address)
        fds = (theirs.fileno(), self.service.arena_fd)
        arguments = [str(fds[0]), str(fds[1]), str(self.service.arena_bytes), address.hex()]
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT + script, *arguments],
            pass_fds=fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # no signal for the tests' process group reaches it: some tests stop it
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path) + os.pathsep + "."},
        )
        theirs.close()
        self._spawned.append(child)
        return child, address

    def _pair(self, address: bytes) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.ask(lambda: self._add(address, ours))
        return theirs

    def _add(self, address: bytes, sock: socket.socket) -> None:
        self._sockets[address] = sock
        self._selector.register(sock, selectors.EVENT_READ, (address, Decoder(to_node.ToNode)))
        self.service.process_joined(address)

    def _send(self, address: bytes, message: Any) -> None:
        sock = self._sockets.get(address)
        if sock is not None:
            try:
                sock.sendall(encode([message]))
            except OSError:
                return  # its end-of-file comes next

    def _loop(self) -> None:
        while self._running:
            for key, _ in self._selector.select(0.02):
                if key.data is None:
                    self._woken.recv(1 << 16)
                    continue
                address, decoder = key.data
                try:
                    data = key.fileobj.recv(1 << 20)
                except OSError:
                    data = b""
                if not data:
                    self._selector.unregister(key.fileobj)
                    self._sockets.pop(address).close()
                    self.service.process_gone(address)
                for message in decoder.feed(data) if data else ():
                    assert self.service.handle(address, message), message
            calls, self._calls = self._calls, []
            for call in calls:
                call()
            if self._running:
                self.service.tick(time.monotonic())
                if len(self.service._directory.objects) < 100:  # it takes time in proportion
                    self.service._directory.validate()
        for sock in self._sockets.values():
            sock.close()
