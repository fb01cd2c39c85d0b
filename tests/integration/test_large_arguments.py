"""Large arguments are there when they are asked for, whatever else the driver has told the node."""

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


@pytest.mark.usefixtures("session")
@pytest.mark.timeout(20)
def test_calls_with_large_arguments_do_not_wait_for_the_next_round_of_announcements() -> None:
    @core.remote
    def size(data: bytes) -> int:
        return len(data)

    @core.remote
    class Sizes:
        def size(self, data: bytes) -> int:
            return len(data)

    sizes = Sizes.remote()
    for _ in range(15):
        for ref in (size.remote(b"x" * 300_000), sizes.size.remote(b"x" * 300_000)):
            assert core.get(ref) == 300_000  # a round takes a second
