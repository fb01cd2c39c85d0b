"""The controller's books: everything it knows of a sweep. Plain data: it pickles into a snapshot."""

from __future__ import annotations

import enum
from collections import deque

import msgspec

from tune.controller.instructions import Origin
from tune.controller.outcome import EndReason
from tune.controller.records import Rules
from tune.controller.virtual_order import VirtualOrder
from tune.messages import Reported, TrialFailed, TrialPaused, TrialReturned
from tune.schedulers.base import Exploit, Pause, Resize
from tune.trial import CheckpointRecord, EndCause, Trial, TrialFailure


class Phase(enum.Enum):
    """What an unfinished trial waits for."""

    #: a place; it never ran
    PENDING = "pending"
    #: a place, to go on as soon as there is one: after a failure, a resize, or the death of a driver
    RETURNING = "returning"
    #: an attempt is under way
    ACTIVE = "active"
    #: the scheduler, to take it up again
    PAUSED = "paused"


class Delivery(msgspec.Struct):
    """One thing that came of a trial, with what was saved just before it."""

    now: float
    #: a result, or the end of the attempt
    thing: Reported | TrialReturned | TrialPaused | TrialFailed
    saved: list[CheckpointRecord] = []


class Run(msgspec.Struct, eq=False):
    """What the controller knows of an unfinished trial beyond what all may see."""

    trial: Trial
    phase: Phase = Phase.PENDING
    #: ``training_iteration`` of the last result that this attempt delivered; it counts on from its origin's
    delivered: int = 0
    #: the highest that any attempt delivered: what comes again is not counted again
    arrived: int = 0
    #: the iteration whose result the trial waits at for a verdict; 0: none
    waiting: int = 0
    #: told to end, and on whose account
    ending: EndCause | None = None
    #: ended by the controller because of this
    imposed: TrialFailure | None = None
    #: told to pause, and why
    parking: Pause | Exploit | Resize | None = None
    #: what the next attempt goes on from; the checkpoint is not deleted
    origin: Origin | None = None
    #: with an exploit that waits for the trial to pause: what it goes on from then; not deleted either
    donor: Origin | None = None
    #: the iteration at which it was told to save and has not done so yet; 0: none
    saving: int = 0
    #: failures that counted
    failed: int = 0
    #: when this attempt was started
    started: float = 0.0
    #: saved since the last thing was delivered
    saved: list[CheckpointRecord] = msgspec.field(default_factory=list)
    #: the searcher does not know this configuration by the trial's id, or was told of the trial's end before
    estranged: bool = False


class State(msgspec.Struct, eq=False):
    """The books."""

    rules: Rules
    #: all trials, in order of creation
    trials: list[Trial] = msgspec.field(default_factory=list)
    by_id: dict[str, Trial] = msgspec.field(default_factory=dict)
    #: the unfinished ones, in order of creation
    runs: dict[str, Run] = msgspec.field(default_factory=dict)
    live: dict[str, Trial] = msgspec.field(default_factory=dict)
    #: trials that the end of an earlier run of the sweep ended before their time
    shelved: dict[str, Run] = msgspec.field(default_factory=dict)
    #: trial ids, first come first served
    pending: deque[str] = msgspec.field(default_factory=deque)
    returning: deque[str] = msgspec.field(default_factory=deque)
    order: VirtualOrder[Delivery] = msgspec.field(default_factory=VirtualOrder)
    #: the searcher has no more, or as many as wanted were created
    exhausted: bool = False
    #: how many configurations are wanted; None for no end
    wanted: int | None = None
    #: this driver's start
    began: float = 0.0
    #: set once the sweep is to end
    ending: EndReason | None = None
    #: when trials that were told to end are killed
    kill_at: float = 0.0
    killed: bool = False
    #: with ``fail_fast``: the failure that ended the sweep
    culprit: TrialFailure | None = None
    finished: bool = False
