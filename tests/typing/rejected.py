"""Wrong programs: a type checker must find an error in every line marked ``# error`` and in no other.

Read by ``test_typing.py``, never run.
"""

from __future__ import annotations

import core
from tests.typing.accepted import RemoteCounter, count, counter, many, nothing, scale, text

text_ref = core.put("x")

text.remote("x")  # error
text.remote(text_ref)  # error
text.remote()  # error
text.remote(1, 2)  # error
text.remote(other=1)  # error
text(1)  # error
nothing.remote(1)  # error
scale.remote(1, 2)  # error
scale.remote(1, unit=2)  # error
scale.remote(1, "m", 2.0)  # error
many.remote(1, 2, 3, 4, 5, 6, 7, 8)  # error
many.remote(1, 2, 3, 4, 5, 6, text_ref, "x")  # error
count.remote("x")  # error
text.options(num_cpu=1)  # error
text.options(num_cpus="two")  # error
text.options(max_restarts=1)  # error
core.remote(num_cpu=1)  # error
core.typed(counter).add.remote("x")  # error
core.typed(counter).add.remote()  # error
core.typed(counter).name.remote(1)  # error
RemoteCounter.options(lifetime="forever")  # error
RemoteCounter(1)  # error
core.get(3)  # error
core.get([1])  # error
core.wait(text_ref)  # error
core.kill("counter")  # error
core.cancel(3)  # error
core.get_actor(3)  # error
core.map(text, ["x"])  # error
number: int = core.get(text.remote(1))  # error
