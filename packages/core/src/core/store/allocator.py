"""A set of byte ranges to allocate from: sorted, coalescing, best fit.

Used twice: by every process for the extents it was lent, by the node for the whole arena. Pages of the arena cost
ten times as much to touch for the first time as to write again, so ranges are reused as soon and as densely as
possible: best fit, the lowest address among equals, cut from the low end. A range that was just given back is
therefore preferred to fresh memory unless it does not fit.

All operations are O(log n) comparisons plus one ``list.insert``, a ``memmove`` of a few kilobytes in practice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

#: Objects start at multiples of this, so that numpy and Arrow can use them in place (a cache line, AVX-512's width).
ALIGNMENT = 64


def aligned(nbytes: int) -> int:
    """Return the room an object of ``nbytes`` takes: a positive multiple of :data:`ALIGNMENT`."""
    return max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)


class RangeAllocator:
    """Disjoint ranges ``(offset, size)``; touching ones are merged. Not thread-safe."""

    __slots__ = ("_by_size", "_sizes", "_starts", "total")

    def __init__(self) -> None:
        #: sum of all sizes
        self.total = 0
        #: offsets of the ranges, ascending
        self._starts: list[int] = []
        #: size by offset; the same keys as ``_starts``
        self._sizes: dict[int, int] = {}
        #: (size, offset) of the same ranges, ascending
        self._by_size: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def largest(self) -> int:
        """Size of the largest range, 0 if there is none."""
        return self._by_size[-1][0] if self._by_size else 0

    @property
    def largest_range(self) -> tuple[int, int]:
        """Offset and size of the largest range.

        Raises:
            IndexError: there is none.
        """
        size, offset = self._by_size[-1]
        return offset, size

    def ranges(self) -> list[tuple[int, int]]:
        """Return all ranges (offset, size), ascending."""
        sizes = self._sizes
        return [(start, sizes[start]) for start in self._starts]

    def add(self, offset: int, size: int) -> None:
        """Put a range in.

        Raises:
            ValueError: the range is empty, negative, or overlaps one that is in.
        """
        if size <= 0 or offset < 0:
            raise ValueError(f"not a range: offset {offset}, size {size}")
        starts, sizes = self._starts, self._sizes
        index = bisect_left(starts, offset)
        end = offset + size
        after = starts[index] if index < len(starts) else None
        before = starts[index - 1] if index else None
        if (after is not None and after < end) or (before is not None and before + sizes[before] > offset):
            raise ValueError(f"range at {offset} of {size} bytes overlaps one that is free already")
        self.total += size
        if after == end:
            size += self._forget(index)
        if before is not None and before + sizes[before] == offset:
            offset = before
            size += self._forget(index - 1)
        self._insert(offset, size)

    def allocate(self, size: int) -> int | None:
        """Take ``size`` bytes out of the best fitting range; return their offset, or None if none is large enough."""
        position = bisect_left(self._by_size, (size, -1))
        if position == len(self._by_size):
            return None
        length, offset = self._by_size.pop(position)
        self.total -= size
        if length == size:
            del self._sizes[offset]
            del self._starts[bisect_left(self._starts, offset)]
            return offset
        # What remains takes the place of the whole, so the order of the offsets stays as it is.
        del self._sizes[offset]
        rest = offset + size
        self._sizes[rest] = length - size
        self._starts[bisect_left(self._starts, offset)] = rest
        entry = (length - size, rest)
        self._by_size.insert(bisect_left(self._by_size, entry), entry)
        return offset

    def contains(self, offset: int, size: int) -> bool:
        """Tell whether all of a range lies in one of ours."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0 or size <= 0:
            return False
        start = self._starts[index]
        return offset + size <= start + self._sizes[start]

    def overlap(self, offset: int, size: int) -> list[tuple[int, int]]:
        """Return what of this range is in, as ranges (offset, size), ascending."""
        end = offset + size
        found = []
        for start in self._starts[max(0, bisect_right(self._starts, offset) - 1) :]:
            if start >= end:
                break
            low, high = max(start, offset), min(start + self._sizes[start], end)
            if low < high:
                found.append((low, high - low))
        return found

    def take(self, offset: int, size: int) -> None:
        """Take exactly this range out.

        Raises:
            ValueError: not all of it is in.
        """
        if not self.contains(offset, size):
            raise ValueError(f"range at {offset} of {size} bytes is not all here")
        self.discard(offset, size)

    def discard(self, offset: int, size: int) -> None:
        """Take out whatever of this range is in."""
        for low, length in self.overlap(offset, size):
            start = self._starts[bisect_right(self._starts, low) - 1]
            stop = start + self._forget(bisect_left(self._starts, start))
            if start < low:
                self._insert(start, low - start)
            if low + length < stop:
                self._insert(low + length, stop - low - length)
            self.total -= length

    def clear(self) -> list[tuple[int, int]]:
        """Take everything out; return what it was."""
        ranges = self.ranges()
        self._starts.clear()
        self._sizes.clear()
        self._by_size.clear()
        self.total = 0
        return ranges

    def _insert(self, offset: int, size: int) -> None:
        self._starts.insert(bisect_left(self._starts, offset), offset)
        self._sizes[offset] = size
        entry = (size, offset)
        self._by_size.insert(bisect_left(self._by_size, entry), entry)

    def _forget(self, index: int) -> int:
        offset = self._starts.pop(index)
        size = self._sizes.pop(offset)
        del self._by_size[bisect_left(self._by_size, (size, offset))]
        return size
