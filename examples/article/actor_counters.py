"""Tasks with state: four counters, each an actor (article, section 3, second example)."""

from __future__ import annotations

import core as ray


@ray.remote
class Counter(object):  # noqa: UP004 - as the article has it
    def __init__(self):
        self.n = 0

    def increment(self):
        self.n += 1

    def read(self):
        return self.n


counters = [Counter.remote() for i in range(4)]

# Each round of increments counts on.
[c.increment.remote() for c in counters]
futures = [c.read.remote() for c in counters]
first = ray.get(futures)
print(first)

for _ in range(10):
    [c.increment.remote() for c in counters]
later = ray.get([c.read.remote() for c in counters])
print(later)

assert first == [1, 1, 1, 1]
assert later == [11, 11, 11, 11]
