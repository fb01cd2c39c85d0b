"""Four one-second tasks at once (article, section 3.2)."""

from __future__ import annotations

import time

import core as ray

ray.init(num_cpus=4)  # Specify this system has 4 CPUs.
# On a cluster (article, section 2.3) a driver would connect instead: ray.init("10.8.0.3:6379"). Skate runs on one
# machine so far; docs/coming-from-ray.md says what is still to come.


@ray.remote
def do_some_work(x):
    time.sleep(1)  # Replace this is with work you need to do.
    return x


start = time.time()
results = ray.get([do_some_work.remote(x) for x in range(4)])
print("duration =", time.time() - start)
print("results = ", results)

assert results == [0, 1, 2, 3]
