"""Wrong programs that pyright finds and mypy does not: mypy ignores what class decorators return, and does not know the
constructor of a class it sees as ``type[T]``. Every line marked ``# error`` must have one, and no other.

Read by ``test_typing.py``, never run.
"""

from __future__ import annotations

import core
from tests.typing.accepted import RemoteCounter


@core.remote
class Decorated:
    """An actor class as Ray programs write it."""

    def __init__(self, start: int) -> None:
        self.n = start


Decorated.remote(1)
Decorated.remote(core.put(1))
Decorated.remote("x")  # error
Decorated.remote()  # error
Decorated(1)  # error
RemoteCounter.remote("x")  # error
RemoteCounter.remote(1, nam="x")  # error
