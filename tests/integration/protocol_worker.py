"""A worker that speaks the node's protocol and nothing more: the daemon's tests fork it in place of the runtime.

It obeys the class name of the actor it becomes, so that tests can make it misbehave.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from core.protocol import NODE_SOCKET, VERSION, framing, from_node, to_node
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
    peer = Peer(str(Path(start.session_dir, NODE_SOCKET)), hello)
    while True:
        message = peer.receive()
        if message is None or isinstance(message, from_node.Refused):
            os._exit(1)
        if isinstance(message, from_node.Notice):
            print(message.text, flush=True)
        elif isinstance(message, from_node.StartActor):
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
    """Become the actor; the name of its class says how."""
    spec = message.spec
    misbehave = BEHAVIOURS.get(spec.class_name)
    if spec.class_name == "FailsInInit":
        peer.send(to_node.ActorInitFailed(spec.actor_id, b"pickled"))
        return
    if spec.class_name == "Exits":
        print("about to exit", file=sys.stderr)
        os._exit(7)
    peer.send(to_node.ActorReady(spec.actor_id))
    if misbehave is not None:
        misbehave(peer, message)


def prints(peer: Peer, message: from_node.StartActor) -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr, flush=True)


def dies_once(peer: Peer, message: from_node.StartActor) -> None:
    if message.restarts == 0:
        os.kill(os.getpid(), signal.SIGSEGV)


def tells_its_environment(peer: Peer, message: from_node.StartActor) -> None:
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    print(
        json.dumps(
            {
                "cwd": os.getcwd(),
                "variable": os.environ.get("SKATE_TEST_VARIABLE"),
                "path": sys.path[0],
                "threads": os.environ.get("OMP_NUM_THREADS"),
                # the listing itself needs one
                "descriptors": [fd for fd in descriptors if fd not in (peer.sock.fileno(), *peer.fds)][:-1],
                "stdin": sys.stdin.read(),
                "sigint": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
                "numpy": "numpy" in sys.modules,
            }
        ),
        flush=True,
    )


def floods(peer: Peer, message: from_node.StartActor) -> None:
    piece = b"x" * 65536
    for _ in range(800):
        os.write(1, piece)
    for _ in range(200):
        os.write(1, b"line\n" * 10_000)
    print("\nflood is over", flush=True)


def grows(peer: Peer, message: from_node.StartActor) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1024)) * (16 * 1024))
        time.sleep(0.01)  # leaves the sampler time to see it; nothing waits for this


def closes_everything(peer: Peer, message: from_node.StartActor) -> None:
    os.closerange(0, 256)
    signal.pause()


def leaves_a_child(peer: Peer, message: from_node.StartActor) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    print(f"child {child.pid}", flush=True)


def stalls(peer: Peer, message: from_node.StartActor) -> None:
    """Wait for the process whose address is in the actor's method table, and pass on what the daemon says of it."""
    peer.send(to_node.Stall("a call", message.spec.methods or b"nobody------"))


BEHAVIOURS = {
    "Prints": prints,
    "DiesOnce": dies_once,
    "TellsItsEnvironment": tells_its_environment,
    "Floods": floods,
    "Grows": grows,
    "ClosesEverything": closes_everything,
    "LeavesAChild": leaves_a_child,
    "Stalls": stalls,
}
