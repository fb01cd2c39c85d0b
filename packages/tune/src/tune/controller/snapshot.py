"""Snapshots: the books and the advisers' states at one position of the journal, so that replays are short.

A snapshot replaces the one before atomically. It may be missing, or unreadable because a class of the user's has
changed: then the journal is replayed from its beginning, which is slower and says the same.
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec

from tune.controller.journal import Position
from tune.controller.state import State
from tune.search.base import Searcher

logger = logging.getLogger("tune")

_NAME = "snapshot.pkl"
#: what pickling and unpickling code of users may raise
_FAILURES = (
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.PickleError,
    EOFError,
)


class Advisers(msgspec.Struct):
    """Those who decide, and the callbacks' states."""

    searcher: Searcher | None
    #: what `Searcher.save` wrote, for searchers that have their own way
    searcher_state: bytes | None
    scheduler: Any
    stopper: Any
    callbacks: list[Any]


class Snapshot(msgspec.Struct):
    """What is written."""

    position: Position
    #: pickled `State`
    state: bytes
    #: pickled `Advisers`; None if they cannot be pickled
    advisers: bytes | None


def pack_advisers(searcher: Searcher, scheduler: object, stopper: object, callbacks: list[Any]) -> bytes | None:
    """Return the advisers pickled, None (and one warning) if they cannot be."""
    try:
        own_way = type(searcher).save is not Searcher.save
        advisers = Advisers(
            None if own_way else searcher,
            _saved(searcher) if own_way else None,
            scheduler,
            stopper,
            callbacks,
        )
        data: bytes = cloudpickle.dumps(advisers)
    except _FAILURES as error:
        logger.warning(
            "the state of the searcher, scheduler, stopper or a callback cannot be saved (%s: %s); resuming will "
            "repeat the whole journal instead",
            type(error).__name__,
            error,
        )
        return None
    return data


def _saved(searcher: Searcher) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "searcher")
        searcher.save(str(path))
        return path.read_bytes()


def restore_searcher(advisers: Advisers, fresh: Searcher) -> Searcher:
    """Return the searcher of a snapshot.

    Args:
        advisers: of the snapshot.
        fresh: a new one, for searchers that have their own way to restore.
    """
    if advisers.searcher_state is None:
        return advisers.searcher or fresh
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "searcher")
        path.write_bytes(advisers.searcher_state)
        fresh.restore(str(path))
    return fresh


def write(directory: Path, position: Position, state: State, advisers: bytes | None) -> None:
    """Replace the snapshot."""
    data = msgspec.msgpack.encode(Snapshot(position, pickle.dumps(state, pickle.HIGHEST_PROTOCOL), advisers))
    replace_file(directory / _NAME, data, durable=True)


def read(directory: Path) -> Snapshot | None:
    """Return the snapshot, None if there is none that can be read."""
    try:
        return msgspec.msgpack.decode((directory / _NAME).read_bytes(), type=Snapshot)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        logger.warning("%s cannot be read (%s); the journal is read instead", directory / _NAME, error)
        return None


def unpickle(data: bytes, what: str) -> Any:
    """Return what was pickled, None (and a warning) if it cannot be had any more."""
    try:
        return pickle.loads(data)
    except _FAILURES as error:
        logger.warning(
            "the saved state of %s cannot be read (%s: %s); the journal is read instead",
            what,
            type(error).__name__,
            error,
        )
        return None


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file whole or not at all.

    Args:
        path: of the file.
        data: its new contents.
        durable: whether it must be on the disk before the old one is gone, should the machine itself crash.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
