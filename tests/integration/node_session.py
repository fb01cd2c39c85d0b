"""A real daemon and hand-made drivers: what the daemon's tests speak with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from core import ids
from core.node import launcher
from core.node.config import NodeConfig
from core.protocol import VERSION, from_node, to_node
from core.protocol.records import ActorSpec
from core.specs import RESOURCE_UNIT, LeaseSpec, RuntimeEnv, Strategy
from tests.integration.protocol_worker import Peer

ROOT = Path(__file__).resolve().parents[2]
WORKER = "tests.integration.protocol_worker"
STORE_BYTES = 64 * 1024 * 1024
#: Generous: only a failing test waits so long.
PATIENCE = 20.0
#: Defaults of :func:`spec`.
ANYWHERE = Strategy()
PLAIN = RuntimeEnv()


def spec(strategy: Strategy = ANYWHERE, env: RuntimeEnv = PLAIN, **amounts: float) -> LeaseSpec:
    wanted = amounts or {"CPU": 1}
    return LeaseSpec(
        tuple(sorted((name, int(amount * RESOURCE_UNIT)) for name, amount in wanted.items())), env, strategy
    )


def start(cpus: float = 2, **fields: Any) -> launcher.NodeProcess:
    """Start a daemon whose workers speak the protocol only; wait until it listens."""
    python_path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), python_path)))
    try:
        config = NodeConfig("", {"CPU": int(cpus * RESOURCE_UNIT)}, STORE_BYTES, worker_entry=WORKER, **fields)
        node = launcher.start(config)
    finally:
        os.environ["PYTHONPATH"] = python_path
    node.wait_ready()
    return node


class Driver(Peer):
    """One hand-made driver."""

    def __init__(self, node: launcher.NodeProcess, **hello: Any) -> None:
        self.address = ids.new_address()
        fields = {"sys_path": sys.path, "cwd": os.getcwd(), **hello}
        super().__init__(node.socket_path, to_node.Hello(VERSION, self.address, "driver", os.getpid(), **fields))
        self.sock.settimeout(PATIENCE)
        self.welcome = self.expect(from_node.Welcome)
        self._tasks = 0
        self._requests = 0

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        self.sock.close()

    def expect(self, kind: type, **fields: Any) -> Any:
        """Skip messages until one of ``kind`` with these fields comes; fails at the end of the connection."""
        seen = []
        while True:
            message = self.receive()
            seen.append(message)
            assert message is not None, f"the daemon closed the connection; before that: {seen}"
            if isinstance(message, kind) and all(getattr(message, name) == value for name, value in fields.items()):
                return message

    def demand(self, backlog: int, cls: int = 0, of: LeaseSpec | None = None, name: str = "f") -> None:
        self.send(to_node.LeaseDemand(cls, backlog, 0, of if of is not None else spec(), name))

    def lease(self, cls: int = 0, of: LeaseSpec | None = None) -> from_node.LeaseGrant:
        self.demand(1, cls, of)
        grant: from_node.LeaseGrant = self.expect(from_node.LeaseGrant, cls=cls)
        return grant

    def actor_spec(self, class_name: str, **fields: Any) -> ActorSpec:
        self._tasks += 1
        task = ids.task_id(self.address, self._tasks, self.welcome.job_id)
        fields = {"placement": spec(), **fields}
        identifier = ids.actor_id(task)
        return ActorSpec(identifier, ids.object_id(task, 0), self.address, class_name, b"", b"", **fields)

    def create(self, class_name: str, **fields: Any) -> ActorSpec:
        """Create an actor and watch it."""
        actor = self.actor_spec(class_name, **fields)
        self._requests += 1
        self.send(to_node.CreateActor(self._requests, actor), to_node.WatchActor(actor.actor_id))
        return actor

    def state(self, actor: ActorSpec, state: str, **fields: Any) -> Any:
        """Wait until a watched actor is told to be in ``state``."""
        while True:
            info = self.expect(from_node.ActorUpdate).info
            wanted = {"actor_id": actor.actor_id, "state": state, **fields}
            if all(getattr(info, name) == value for name, value in wanted.items()):
                return info

    def line(self, starts: str) -> str:
        """Wait for a printed line that starts so."""
        while True:
            for line in self.expect(from_node.Log).lines:
                if line.text.startswith(starts):
                    text: str = line.text
                    return text

    def query(self, what: str) -> list[dict[str, Any]]:
        self._requests += 1
        self.send(to_node.Query(self._requests, what))
        rows: list[dict[str, Any]] = self.expect(from_node.QueryReply, request=self._requests).result
        return rows
