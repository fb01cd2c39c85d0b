"""Drivers with too few or very many open files; the argument says which."""

from __future__ import annotations

import os
import resource
import sys
import time

import core
from core.util.state import list_workers


@core.remote
def one() -> int:
    return 1


@core.remote(num_cpus=0)
class Actor:
    def ping(self) -> int:
        return 1


def few() -> None:
    """More actors than the daemon can have open files for: some live, the others say why they do not."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    core.init(num_cpus=1, log_to_driver=False)
    assert core.get(one.remote(), timeout=60) == 1
    actors = [Actor.remote() for _ in range(40)]
    pings = [actor.ping.remote() for actor in actors]
    # Those that are not refused at once wait, and a warning says for what.
    ready, _ = core.wait(pings, num_returns=len(pings), timeout=1)
    outcomes = []
    for ping in ready:
        try:
            outcomes.append(str(core.get(ping)))
        except core.exceptions.ActorDiedError as error:
            outcomes.append("told why" if "ulimit" in str(error) else str(error))
    print(sorted(set(outcomes)), outcomes.count("1"), flush=True)
    # Room that is given back can be used again.
    del actors, pings, ready, ping
    while len(list_workers()) > 2:
        time.sleep(0.01)
    assert core.get([one.remote() for _ in range(10)], timeout=60) == [1] * 10
    assert core.get(Actor.remote().ping.remote(), timeout=60) == 1
    core.shutdown()


def many() -> None:
    """A driver that has more files open than ``select`` can look at."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    core.init(num_cpus=1)
    assert core.get([one.remote(), Actor.remote().ping.remote()], timeout=60) == [1, 1]
    core.shutdown()
    assert len(kept) == 1100


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("done")
