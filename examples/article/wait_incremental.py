"""Process results in the order in which they arrive (article, section 3.2)."""

from __future__ import annotations

import random
import time

import core as ray

ray.init(num_cpus=4)


@ray.remote
def do_some_work(x):
    time.sleep(random.uniform(0, 4))  # Replace this is with work you need to do.
    return x


def process_incremental(sum, result):
    time.sleep(1)  # Replace this with some processing code.
    return sum + result


start = time.time()
result_ids = [do_some_work.remote(x) for x in range(4)]
sum = 0
while len(result_ids):  # noqa: PLC1802 - as the article has it
    done_id, result_ids = ray.wait(result_ids)
    sum = process_incremental(sum, ray.get(done_id[0]))
print("duration =", time.time() - start, "\nresult = ", sum)

assert sum == 6
