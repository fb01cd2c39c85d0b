"""The first actors of a session get large arguments, whatever else the driver has told the node."""

from __future__ import annotations

import pytest

import core


@pytest.mark.usefixtures("session")
def test_the_first_actors_get_large_arguments() -> None:
    @core.remote
    class Holder:
        def __init__(self, data: bytes) -> None:
            self.size = len(data)

        def get(self) -> int:
            return self.size

    for name in (None, "holder", None):
        holder = Holder.options(name=name).remote(b"x" * 300_000)
        assert core.get(holder.get.remote()) == 300_000
