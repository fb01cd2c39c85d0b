"""A driver that uses a little of everything, says so, and then ends or (argument "wait") waits to be ended."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np

import core

MIB = 1 << 20


@core.remote
def double(value: np.ndarray) -> np.ndarray:
    return 2 * value


@core.remote(max_retries=0)
def dies() -> None:
    os._exit(3)


@core.remote
def forever() -> None:
    signal.pause()


@core.remote
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


@core.remote
class Caller:
    async def call(self, counter: core.ActorHandle[Counter]) -> int:
        return await counter.add.remote()


def main() -> None:
    core.init(num_cpus=2, object_store_memory=24 * MIB)
    assert core.get([double.remote(number) for number in range(100)]) == [2 * number for number in range(100)]
    counter, caller = Counter.remote(), Caller.remote()
    assert core.get([counter.add.remote(), caller.call.remote(counter), caller.call.remote(counter)]) == [1, 2, 3]
    large = [core.put(np.full(MIB, number)) for number in range(5)]  # 40 MiB: some go to disk
    assert [int(array[-1]) for array in core.get([double.remote(ref) for ref in large])] == [0, 2, 4, 6, 8]
    try:
        core.get(dies.remote())
    except core.exceptions.WorkerCrashedError:
        pass
    waiting = forever.remote()
    assert core.wait([waiting], timeout=0.05) == ([], [waiting])
    core.cancel(waiting)
    try:
        core.get(waiting)
    except core.exceptions.TaskCancelledError:
        pass
    if sys.argv[1] == "wait":
        child = os.fork()  # keeps the driver's sockets open
        print(f"ready {child or os.getpid()}", flush=True)
        signal.pause()
    print("ready", flush=True)


if __name__ == "__main__":
    main()
