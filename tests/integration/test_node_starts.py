"""Workers that come up, but never say so."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.node.config import NodeConfig
from core.node.connections import listen
from core.node.service import NodeService
from core.node.workers import START_SECONDS
from core.node.zygote_client import ZygoteClient
from core.protocol import VERSION, framing, to_node
from core.protocol.zygote import Exited, Fork, Forked, Kill, ToZygote
from core.specs import RESOURCE_UNIT, LeaseSpec
from core.state import scheduler_events as ev
from core.state.worker_pool import MAX_START_FAILURES


class Zygote:
    """The other end of a service's zygote: it forks nobody, but says so."""

    def __init__(self, tmp_path: Path) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.decoder: framing.Decoder[ToZygote] = framing.Decoder(ToZygote)
        config = NodeConfig(str(tmp_path), {"CPU": RESOURCE_UNIT}, 1 << 20, prestarted_workers=0)
        self.listener = listen(str(tmp_path / "node.sock"))
        self.client = ZygoteClient(ours, 0)
        self.service = NodeService(config, self.listener, self.client)

    def orders(self) -> list[ToZygote]:
        try:
            return self.decoder.feed(self.sock.recv(1 << 20))
        except BlockingIOError:
            return []

    def tell(self, message: Forked | Exited, *descriptors: int) -> None:
        socket.send_fds(self.sock, [framing.encode([message])], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.client._read()

    def close(self) -> None:
        self.service.objects.close()
        loop = self.service.loop
        for thing in (loop._selector, loop._wake_read, loop._wake_write, self.listener, self.sock, self.client._sock):
            thing.close()
        os.close(self.service._server._spare)


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    zygote = Zygote(tmp_path)
    yield zygote
    zygote.close()


def test_who_never_registers_is_ended_and_not_tried_for_ever(zygote: Zygote) -> None:
    service = zygote.service
    job = service._add_job(to_node.Hello(VERSION, b"a driver----", "driver", os.getpid())).job_id
    service._schedule(ev.Demanded(b"a driver----", job, 0, LeaseSpec((("CPU", RESOURCE_UNIT),)), 1, 1, "f"))
    for attempt in range(1, MAX_START_FAILURES + 1):
        (fork,) = zygote.orders()
        assert isinstance(fork, Fork)
        (out, out_write), (err, err_write) = os.pipe(), os.pipe()
        zygote.tell(Forked(fork.start.token, attempt), out, err)
        service._processes.expire(time.monotonic() + START_SECONDS + 1)
        (kill,) = zygote.orders()
        assert isinstance(kill, Kill)
        os.close(out_write)
        os.close(err_write)
        zygote.tell(Exited(kill.pid, -kill.signal))
    assert not service.scheduler.queue
    assert not zygote.orders()
