"""What the object directory is told (events), what it wants done (instructions), and what it remembers (records)."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from core.store.allocator import RangeAllocator, aligned


class ProcessJoined(Struct, frozen=True):
    """A driver or worker is connected."""

    address: bytes


class ProcessGone(Struct, frozen=True):
    """A process is dead: it looks at nothing and owns nothing any more."""

    address: bytes


class ExtentWanted(Struct, frozen=True):
    """A process needs ``nbytes`` contiguous bytes, and would like ``preferred``; ``hasty``: it can do without."""

    address: bytes
    request: int
    nbytes: int
    preferred: int = 0
    hasty: bool = False


class RangesReturned(Struct, frozen=True):
    """A process gives ranges (offset, size) of its extents back; also the answer to ``AskTrim``."""

    address: bytes
    ranges: list[tuple[int, int]]


class ObjectsSealed(Struct, frozen=True):
    """A process wrote objects (id, offset, size) into its extents."""

    address: bytes
    objects: list[tuple[bytes, int, int]]


class FileSealed(Struct, frozen=True):
    """A process wrote an object into a file that the skin gave it."""

    address: bytes
    object_id: bytes
    path: str
    size: int


class ObjectsFreed(Struct, frozen=True):
    """The owner says that these objects are out of scope."""

    address: bytes
    objects: list[bytes]


class PinWanted(Struct, frozen=True):
    """A process wants to know an object's place, and that it stays there."""

    address: bytes
    request: int
    object_id: bytes


class ObjectsUnpinned(Struct, frozen=True):
    """A process does not look at these objects any more."""

    address: bytes
    objects: list[bytes]


class EvictAnswered(Struct, frozen=True):
    """The answer to ``AskEvict``: what the process has forgotten the place of."""

    address: bytes
    request: int
    idle: list[bytes]


class Spilled(Struct, frozen=True):
    """An object's bytes are in the file at ``path`` now."""

    object_id: bytes
    path: str


class SpillFailed(Struct, frozen=True):
    """An object could not be written to the disk; ``reason`` in a few words, such as "No space left on device"."""

    object_id: bytes
    reason: str


class FileLost(Struct, frozen=True):
    """An object's file is missing or cut short."""

    object_id: bytes


class Tick(Struct, frozen=True):
    """Time has passed."""


Event = (
    ProcessJoined
    | ProcessGone
    | ExtentWanted
    | RangesReturned
    | ObjectsSealed
    | FileSealed
    | ObjectsFreed
    | PinWanted
    | ObjectsUnpinned
    | EvictAnswered
    | Spilled
    | SpillFailed
    | FileLost
    | Tick
)


class LendExtent(Struct, frozen=True):
    """Answer an ``ExtentWanted``: the range is the process's now."""

    address: bytes
    request: int
    offset: int
    size: int


class RefuseExtent(Struct, frozen=True):
    """Answer an ``ExtentWanted``: ``error`` is "full" or "disk"."""

    address: bytes
    request: int
    error: str
    reason: str


class AnswerPin(Struct, frozen=True):
    """Answer a ``PinWanted``: ``state`` is "arena", "file" or "lost"."""

    address: bytes
    request: int
    object_id: bytes
    state: str
    offset: int = 0
    size: int = 0
    path: str = ""


class AskEvict(Struct, frozen=True):
    """Ask a process which of these objects nothing in it looks at."""

    address: bytes
    request: int
    objects: list[bytes]


class AskTrim(Struct, frozen=True):
    """Ask a process to announce its objects and to return unused ranges."""

    address: bytes


class GiveBack(Struct, frozen=True):
    """Tell a process that ranges of its extents are free again."""

    address: bytes
    ranges: list[tuple[int, int]]


class AskOwner(Struct, frozen=True):
    """Tell an owner that the process which made these objects of its died; it may never have heard of them."""

    address: bytes
    objects: list[bytes]


class Spill(Struct, frozen=True):
    """Copy this range of the arena into a file, then say ``Spilled`` or ``SpillFailed``."""

    object_id: bytes
    offset: int
    size: int


class RemoveFile(Struct, frozen=True):
    """Delete a spilled object's file."""

    path: str


class Complain(Struct, frozen=True):
    """A process said something that cannot be true; it was ignored."""

    address: bytes
    text: str


Instruction = (
    LendExtent | RefuseExtent | AnswerPin | AskEvict | AskTrim | AskOwner | GiveBack | Spill | RemoveFile | Complain
)

#: Phases of an object in the arena: nothing happens; holders were asked to let go; its bytes are being written.
RESTING, ASKED, SPILLING = "resting", "asked", "spilling"


@dataclass(eq=False, slots=True)
class StoredObject:
    """One object the directory knows."""

    id: bytes
    size: int
    #: who wrote it; empty once that process is gone
    creator: bytes
    offset: int = 0
    #: its file; empty while it is in the arena
    path: str = ""
    #: the creator still knows the place, without having asked for it
    creator_caches: bool = True
    #: processes that asked for the place and have not let go
    pins: set[bytes] = field(default_factory=set)
    #: out of scope; its room is free once nobody pins it
    freed: bool = False
    phase: str = RESTING
    #: numbers of the ``AskEvict`` that are unanswered, while ASKED
    asked: set[int] = field(default_factory=set)
    #: a holder refused, while ASKED
    refused: bool = False
    #: not worth asking again before this time
    busy_until: float = 0.0
    #: (process, request) of pins wanted while SPILLING
    waiting: list[tuple[bytes, int]] = field(default_factory=list)
    #: its record was dropped
    gone: bool = False

    @property
    def room(self) -> int:
        """Bytes it takes in the arena."""
        return aligned(self.size)

    def holders(self) -> set[bytes]:
        """Return the processes that may look at it."""
        return self.pins | {self.creator} if self.creator_caches else self.pins


@dataclass(eq=False, slots=True)
class Eviction:
    """One ``AskEvict`` without an answer."""

    address: bytes
    request: int
    objects: list[StoredObject]
    #: when the process counts as busy; None once it does
    deadline: float | None
    #: objects the process pinned after it was asked: what it answers about these is out of date
    repinned: set[bytes] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Process:
    """What the directory knows of a driver or worker."""

    address: bytes
    #: its extents, less the objects announced in them
    lent: RangeAllocator = field(default_factory=RangeAllocator)
    pins: set[bytes] = field(default_factory=set)
    evictions: dict[int, Eviction] = field(default_factory=dict)
    #: it was given ranges since it was last asked to trim
    trimmable: bool = False
    #: asked to trim and has not answered; counts as busy from this time on
    trim_until: float = 0.0
    #: when to ask it again in any case
    trim_again_at: float = 0.0

    def silent(self) -> bool:
        """Tell whether it let a deadline pass and has not answered since."""
        return any(eviction.deadline is None for eviction in self.evictions.values())


@dataclass(eq=False, slots=True)
class Waiter:
    """An ``ExtentWanted`` that cannot be served yet."""

    address: bytes
    request: int
    nbytes: int
    preferred: int
    hasty: bool
    #: when it became the first of the queue and could not be served
    since: float | None = None


@dataclass(eq=False, slots=True)
class PinWait:
    """A ``PinWanted`` for an object not known yet."""

    address: bytes
    request: int
    deadline: float
