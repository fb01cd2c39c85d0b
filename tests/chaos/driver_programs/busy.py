"""A driver in the middle of everything; it ends as its argument says once it has printed ``ready``.

Tasks run and wait, an actor lives, objects lie in shared memory and on disk, and a task has started a process itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np

import core


@core.remote(num_cpus=0)
def long() -> None:
    time.sleep(600)


@core.remote(num_cpus=0)
def parent() -> None:
    core.get(long.remote())


@core.remote(num_cpus=0)
def start_a_process() -> int:
    return subprocess.Popen(["sleep", "600"]).pid


@core.remote(num_cpus=0)
class Actor:
    def pid(self) -> int:
        return os.getpid()


def main(ending: str) -> None:
    core.init(num_cpus=2, object_store_memory=64 << 20)
    actor = Actor.remote()
    waiting = [long.remote(), parent.remote(), *(long.options(num_cpus=1).remote() for _ in range(100))]
    core.get([actor.pid.remote(), start_a_process.remote()])
    objects = [core.put(np.full(4 << 20, number, np.uint8)) for number in range(24)]
    print("ready", os.getpid(), flush=True)
    if ending == "wait":
        threading.Event().wait()
    elif ending == "get":
        core.get(waiting)
    elif ending == "exception":
        raise RuntimeError("as planned")
    elif ending == "os._exit":
        os._exit(7)
    elif ending == "sys.exit":
        sys.exit(7)
    assert len(objects) == 24


if __name__ == "__main__":
    main(sys.argv[1])
