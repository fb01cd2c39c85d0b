"""Waits of three kinds that never end, and one that is ordinary queueing. It ends when its standard input does.

The argument names a file whose appearance lets the ordinary tasks go on.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import core


@core.remote
def queue_for_a_cpu(gate: str) -> None:
    while not os.path.exists(gate):
        time.sleep(0.02)


@core.remote(resources={"unobtainium": 1})
def impossible() -> None: ...


@core.remote(resources={"slot": 1}, num_cpus=0)
def wants_the_slot() -> None: ...


@core.remote(resources={"slot": 1}, num_cpus=0)
class Holder:
    def hold(self) -> None: ...


@core.remote(num_cpus=0)
class Waiter:
    def wait_for(self, other: list[Any], back: list[Any]) -> None:
        """Wait for the other; if that is the first of the two, it waits for us."""
        if back:
            core.get(other[0].wait_for.remote(back, []))
        else:
            core.get(other[0].ping.remote())

    def ping(self) -> None: ...


def main(gate: str) -> None:
    core.init(num_cpus=2, resources={"slot": 1})
    holder = Holder.remote()
    core.get(holder.hold.remote())
    ordinary = [queue_for_a_cpu.remote(gate) for _ in range(6)]
    done = threading.Event()

    def wait_for_all() -> None:
        core.get(ordinary)
        print("ordinary: done", flush=True)
        done.set()

    threading.Thread(target=wait_for_all).start()
    first, second = Waiter.remote(), Waiter.remote()
    # Each asks the node why it waits after some seconds: those who come last do so last.
    for ref in (impossible.remote(), wants_the_slot.remote(), first.wait_for.remote([second], [first])):
        threading.Thread(target=core.get, args=[ref], daemon=True).start()
    done.wait()


if __name__ == "__main__":
    main(sys.argv[1])
