"""Put an object into the store and get it back (article, section 3.2)."""

from __future__ import annotations

import core as ray

num = ray.put(10)
value = ray.get(num)
print(num, "holds", value)

assert value == 10
