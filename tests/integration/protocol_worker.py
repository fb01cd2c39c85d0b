"""A worker that speaks the node's protocol and nothing more: the daemon's tests fork it in place of the runtime.

It obeys the class name of the actor it becomes, so that tests can make it misbehave.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, NoReturn

from core.protocol import VERSION, framing, from_node, to_node
from core.protocol.zygote import WorkerStart


class Peer:
    """One blocking connection to the daemon."""

    def __init__(self, path: str, hello: to_node.Hello) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self._decoder: framing.Decoder[Any] = framing.Decoder(from_node.FromNode)
        self._inbox: list[Any] = []
        self.fds: list[int] = []
        self.send(hello)

    def send(self, *messages: Any) -> None:
        self.sock.sendall(framing.encode(list(messages)))

    def receive(self) -> Any:
        """Return the next message; None when the daemon is gone."""
        while not self._inbox:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 65536, 4)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.fds += fds
            self._inbox = self._decoder.feed(data)
        return self._inbox.pop(0)


def run(start: WorkerStart) -> NoReturn:
    hello = to_node.Hello(VERSION, start.address, "worker", os.getpid(), start.token)
    peer = Peer(start.node_socket, hello)
    while True:
        message = peer.receive()
        if message is None or isinstance(message, from_node.Refused):
            os._exit(1)
        if isinstance(message, from_node.StartActor):
            become(peer, message)
        elif isinstance(message, from_node.EndActor):
            peer.send(to_node.Exiting(message.reason))
            sys.exit(0)
        elif isinstance(message, from_node.Exit):
            if "KEEP" in os.environ:
                peer.send(to_node.ExitDeclined())
            else:
                peer.send(to_node.Exiting(message.reason))
                sys.exit(0)


def become(peer: Peer, message: from_node.StartActor) -> None:
    spec = message.spec
    if spec.class_name == "FailsInInit":
        peer.send(to_node.ActorInitFailed(spec.actor_id, b"pickled"))
        return
    if spec.class_name == "Exits":
        print("about to exit", file=sys.stderr)
        os._exit(7)
    if spec.class_name == "Prints":
        print("to stdout")
        print("to stderr", file=sys.stderr, flush=True)
    peer.send(to_node.ActorReady(spec.actor_id))
    if spec.class_name == "DiesOnce" and message.restarts == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
