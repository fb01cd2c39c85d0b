from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.store.allocator import ALIGNMENT, RangeAllocator, aligned

SPACE = 400


class AllocatorMachine(RuleBasedStateMachine):
    """Against the simplest model there is: the set of free bytes."""

    @initialize()
    def start(self) -> None:
        self.allocator = RangeAllocator()
        self.free: set[int] = set()

    def model_ranges(self) -> list[tuple[int, int]]:
        out: list[tuple[int, int]] = []
        for byte in sorted(self.free):
            if out and sum(out[-1]) == byte:
                out[-1] = (out[-1][0], out[-1][1] + 1)
            else:
                out.append((byte, 1))
        return out

    @rule(offset=st.integers(-5, SPACE), size=st.integers(-2, 60))
    def add(self, offset: int, size: int) -> None:
        wanted = set(range(offset, offset + size))
        if size <= 0 or offset < 0 or wanted & self.free:
            with pytest.raises(ValueError):
                self.allocator.add(offset, size)
        else:
            self.allocator.add(offset, size)
            self.free |= wanted

    @rule(size=st.integers(1, 80))
    def allocate(self, size: int) -> None:
        fitting = [(length, offset) for offset, length in self.model_ranges() if length >= size]
        offset = self.allocator.allocate(size)
        # the smallest that fits, the lowest of those, cut from its low end
        assert offset == (min(fitting)[1] if fitting else None)
        if offset is not None:
            self.free -= set(range(offset, offset + size))

    @rule(offset=st.integers(-5, SPACE), size=st.integers(-2, 60))
    def take(self, offset: int, size: int) -> None:
        wanted = set(range(offset, offset + size))
        inside = bool(wanted) and wanted <= self.free
        assert self.allocator.contains(offset, size) == inside
        if inside:
            self.allocator.take(offset, size)
            self.free -= wanted
        else:
            with pytest.raises(ValueError):
                self.allocator.take(offset, size)

    @rule(offset=st.integers(0, SPACE), size=st.integers(0, 200))
    def discard(self, offset: int, size: int) -> None:
        wanted = set(range(offset, offset + size))
        found = self.allocator.overlap(offset, size)
        assert [byte for start, length in found for byte in range(start, start + length)] == sorted(wanted & self.free)
        self.allocator.discard(offset, size)
        self.free -= wanted

    @precondition(lambda self: len(self.free) > SPACE // 2)
    @rule()
    def clear(self) -> None:
        assert self.allocator.clear() == self.model_ranges()
        self.free = set()

    @invariant()
    def agrees(self) -> None:
        ranges = self.model_ranges()
        assert self.allocator.ranges() == ranges
        assert self.allocator.total == len(self.free)
        assert len(self.allocator) == len(ranges)
        assert self.allocator.largest == max((size for _, size in ranges), default=0)
        if ranges:
            assert self.allocator.largest_range in ranges
            assert self.allocator.largest_range[1] == self.allocator.largest


TestAllocator = AllocatorMachine.TestCase


def test_a_range_given_back_is_used_before_fresh_memory() -> None:
    allocator = RangeAllocator()
    allocator.add(0, 1000)
    first = allocator.allocate(100)
    second = allocator.allocate(100)
    assert (first, second) == (0, 100)
    allocator.add(0, 100)
    assert allocator.allocate(100) == 0
    assert allocator.allocate(100) == 200


def test_rooms_are_aligned_and_never_empty() -> None:
    assert [aligned(n) for n in (0, 1, 64, 65)] == [ALIGNMENT, ALIGNMENT, 64, 128]
