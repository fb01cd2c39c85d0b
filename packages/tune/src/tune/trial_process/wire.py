"""A trial process's events as bytes and back.

Results with nothing but plain values, the usual case, go as MessagePack, three times faster than a pickle; others are
pickled. A value that the driver cannot unpickle fails the trial it came from, and nothing else.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import msgspec

from tune.messages import (
    Reported,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialReturned,
    TrialSaved,
    TrialStarted,
)
from tune.trial_process.metrics import reveal

if TYPE_CHECKING:
    from tune.trial_process.outbox import Taken


class TrialUnwinding(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The trial was told to end and its code is on its way out; it has a while for that."""

    trial_id: str
    attempt: int


class ProcessSpoiled(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A trial left something behind that the next one must not meet: the process is to be replaced."""

    reason: str


class TrialUnreadable(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The trial reported something that cannot be unpickled here. Made by `decode`; the process knows nothing of it."""

    trial_id: str
    attempt: int
    message: str


#: What a trial's process tells its backend: the controller's events and two for the backend itself.
SlotEvent = (
    TrialStarted
    | TrialReported
    | TrialSaved
    | TrialReturned
    | TrialPaused
    | TrialFailed
    | TrialUnwinding
    | ProcessSpoiled
    | TrialUnreadable
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[SlotEvent])
_PICKLED, _PLAIN = b"p", b"m"


def encode(taken: Taken) -> bytes:
    """Return what a poll took as bytes."""
    if taken.plain:
        try:
            return _PLAIN + _encoder.encode(taken.events)
        except (OverflowError, UnicodeEncodeError):  # integers beyond 64 bits, surrogates: pickle has them
            pass
    return _PICKLED + pickle.dumps(taken.events, protocol=5)


def decode(data: bytes) -> list[SlotEvent]:
    """Return the events of `encode`, with values unpickled."""
    if data[:1] == _PLAIN:
        return _decoder.decode(memoryview(data)[1:])
    events: list[SlotEvent] = []
    for event in pickle.loads(memoryview(data)[1:]):
        events += _revealed(event) if isinstance(event, TrialReported) else [event]
    return events


def _revealed(event: TrialReported) -> list[SlotEvent]:
    """Return a `TrialReported` with its values unpickled, up to the first that cannot be."""
    reports: list[Reported] = []
    for report in event.reports:
        try:
            reports.append(Reported(reveal(report.result), report.checkpoint))
        except Exception as error:  # noqa: BLE001 - unpickling runs the code of whatever was reported
            message = f"a reported value cannot be unpickled in the driver: {type(error).__name__}: {error}"
            before: list[SlotEvent] = [TrialReported(event.trial_id, event.attempt, reports)] if reports else []
            return [*before, TrialUnreadable(event.trial_id, event.attempt, message)]
    return [TrialReported(event.trial_id, event.attempt, reports, event.waiting)]
