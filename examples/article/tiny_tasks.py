"""100,000 tasks of a tenth of a millisecond (article, section 3.2, on small tasks)."""

from __future__ import annotations

import sys
import time

import core as ray

# The article's number, unless the command line names another.
count = int(sys.argv[1]) if len(sys.argv) > 1 else 100000


@ray.remote
def tiny_work(x):
    time.sleep(0.0001)  # Replace this is with work you need to do.
    return x


start = time.time()
result_ids = [tiny_work.remote(x) for x in range(count)]
results = ray.get(result_ids)
print("duration =", time.time() - start)

assert results == list(range(count))
