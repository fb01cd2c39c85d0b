"""What the machine tells its skin to do. Carried out in order, after the journal has what led to them."""

from __future__ import annotations

from typing import Any

import msgspec

from tune.controller.outcome import EndReason
from tune.messages import Sync, Verdict
from tune.trial import Config, ResourceRequest, Trial, TrialFailure


class Origin(msgspec.Struct, frozen=True):
    """A checkpoint that a trial goes on from: its own or, after an exploit, another trial's."""

    owner_id: str
    dirname: str
    name: str
    #: the trial's own ``training_iteration`` and ``time_total_s`` there
    iteration: int
    time_total_s: float = 0.0


class Start(msgspec.Struct, frozen=True):
    """Start a trial, or go on with one: `tune.messages.Launch` without what is the same for all."""

    trial: Trial
    attempt: int
    config: Config
    resources: ResourceRequest
    origin: Origin | None
    sync: Sync


class Tell(msgspec.Struct, frozen=True):
    """Answer a trial that waits, or say something to one that runs."""

    trial_id: str
    verdict: Verdict


class Kill(msgspec.Struct, frozen=True):
    """End a trial without asking it."""

    trial_id: str


class DeleteCheckpoint(msgspec.Struct, frozen=True):
    """Delete a checkpoint that nothing needs any more."""

    dirname: str
    name: str


class Hook(msgspec.Struct, frozen=True):
    """Call this hook of the callbacks, with the trial and, for some, a result or a checkpoint."""

    name: str
    trial: Trial
    argument: Any = None


class Warn(msgspec.Struct, frozen=True):
    """Tell the user; the same text only once in a sweep."""

    text: str


class Finish(msgspec.Struct, frozen=True):
    """The sweep is over; nothing runs any more."""

    reason: EndReason
    #: with ``fail_fast``: what ended it
    failure: TrialFailure | None = None


Instruction = Start | Tell | Kill | DeleteCheckpoint | Hook | Warn | Finish
