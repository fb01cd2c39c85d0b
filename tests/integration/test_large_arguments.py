"""Large arguments are there when they are asked for, whatever else the driver has told the node."""

from __future__ import annotations

import logging

import pytest

import core
from core.runtime import exports


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


@pytest.mark.usefixtures("session")
def test_the_first_words_to_a_process_may_be_long() -> None:
    @core.remote
    class Sizes:
        def size(self, data: bytes) -> int:
            return len(data)

    # All of them wait for the actor to start, and go to it together: more than a stranger may say.
    sizes = Sizes.remote()
    assert sum(core.get([sizes.size.remote(bytes(90_000)) for _ in range(20)])) == 1_800_000


@pytest.mark.usefixtures("session")
def test_functions_and_classes_may_close_over_much() -> None:
    much = bytes(2_000_000)

    @core.remote
    def length() -> int:
        return len(much)

    @core.remote
    class Holder:
        def length(self) -> int:
            return len(much)

    @core.remote
    def nested() -> list[int]:
        return core.get([length.remote(), Holder.remote().length.remote()])

    assert core.get(length.remote()) == 2_000_000
    assert core.get(nested.remote()) == [2_000_000, 2_000_000]


@pytest.mark.usefixtures("session")
def test_a_function_that_closes_over_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exports, "LARGE_CODE_BYTES", 1 << 20)
    monkeypatch.setattr(exports, "MAX_CODE_BYTES", 3 << 20)
    monkeypatch.setattr(logging.getLogger("core"), "propagate", True)
    some, too_much = bytes(2 << 20), bytes(4 << 20)
    with caplog.at_level("WARNING", "core"):
        assert core.get(core.remote(lambda: len(some)).remote()) == len(some)
    assert "is 2 MiB when pickled" in caplog.text
    with pytest.raises(ValueError, match=r"is 4 MiB when pickled.*put\(\) that.*At most 3 MiB"):
        core.remote(lambda: len(too_much)).remote()
