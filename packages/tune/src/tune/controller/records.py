"""What the journal says: the inputs of the machine, each followed by the answers that it was given meanwhile.

Inputs are events of trials, the clock where it mattered, and the driver's starts. Answers are those of the searcher,
the scheduler and the stopper, where they asked for something. Everything else follows from these: the same machine,
given the same inputs and answers, gets into the same state (`tune.controller.replay`).

An input and its answers are one record of the journal: they are there together or not at all.

Each answer carries the `moment` it was given at: how many steps the machine had done for the input. It is what keeps
answers and questions together when the journal is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tune.controller import codec
from tune.messages import Event
from tune.trial import ResourceRequest

#: what this code writes, and the only one that it reads
FORMAT = 1


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a `SweepPlan` that decides what becomes of trials, as plain data."""

    name: str
    metrics: tuple[str, ...] = ()
    #: of each metric
    modes: tuple[str, ...] = ()
    num_samples: int = 1
    #: configurations in all; None if not known
    total_samples: int | None = None
    stop_bounds: dict[str, float] = {}
    max_concurrent: int | None = None
    time_budget_s: float | None = None
    num_to_keep: int | None = None
    score_attribute: str | None = None
    score_order: str = "max"
    max_failures: int = 0
    fail_fast: bool = False
    strict_metric: bool = True
    seed: int | None = None
    #: events are handled in virtual order
    ordered: bool = False
    trial_prefix: str = "trial"
    trainable_name: str = ""
    searcher: str = ""
    scheduler: str = ""
    #: parameters of the scheduler, as text: whether a resumed sweep has another one
    scheduler_parameters: str = ""


class _Input(msgspec.Struct, frozen=True, array_like=True):
    #: seconds since the epoch
    now: float


class Began(_Input, frozen=True, tag=0):
    """A driver began, or went on with, the sweep. All attempts of an earlier driver are over."""

    rules: Rules
    #: what becomes of trials of earlier drivers: trial id to RESUME, RESTART or SKIP; not named: nothing
    actions: dict[str, str] = {}
    #: finished trials that the new scheduler wants to go on with
    promoted: list[str] = []
    scheduler_changed: bool = False
    #: configurations more than the earlier driver wanted
    extra_samples: int = 0
    #: the searcher was given another space
    space_changed: bool = False
    format: int = FORMAT


class Arrived(_Input, frozen=True, tag=1):
    """An event of a trial. Reports that repeat earlier ones are left out."""

    #: the ``training_iteration`` of the first report, 0 if there is none
    first: int
    event: Event


class Ticked(_Input, frozen=True, tag=2):
    """Time went by, and that changed something."""


class Interrupted(_Input, frozen=True, tag=3):
    """Ctrl-C or SIGTERM."""


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    moment: int


class Created(_Answer, frozen=True, tag=20):
    """The scheduler chose a new trial, and the searcher had one."""

    trial_id: str
    config: Any
    evaluated_params: Any
    dirname: str
    name: str
    resources: ResourceRequest
    seed: int | None
    #: the scheduler changed the searcher's configuration
    overridden: bool = False


class Exhausted(_Answer, frozen=True, tag=21):
    """The searcher has no configuration any more."""


class Launched(_Answer, frozen=True, tag=22):
    """A trial got a place."""

    trial_id: str
    #: the scheduler was asked for a new trial, and this one was pending
    chosen: bool = False


class Resumed(_Answer, frozen=True, tag=23):
    """The scheduler chose to go on with a paused trial."""

    trial_id: str
    #: it had been told that there are no new trials now
    starved: bool = False


class Infeasible(_Answer, frozen=True, tag=24):
    """A trial needs more than the cluster has."""

    trial_id: str
    message: str


class Decided(_Answer, frozen=True, tag=25):
    """The scheduler decided something else than to go on."""

    trial_id: str
    #: ``save``, ``stop``, ``pause``, ``exploit``, ``resize``
    action: str
    donor_id: str = ""
    config: Any = None
    tags: Any = None
    resources: ResourceRequest | None = None


class Directed(_Answer, frozen=True, tag=26):
    """The scheduler decided about paused trials."""

    decisions: list[Decided]


class Stopped(_Answer, frozen=True, tag=27):
    """The stopper ended a trial."""

    trial_id: str


class StoppedAll(_Answer, frozen=True, tag=28):
    """The stopper ended the sweep."""


class Closed(_Answer, frozen=True, tag=29):
    """Nothing can come any more; paused trials that nobody took up end."""


class Cut(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """A remark for readers of results: those of the trial after this iteration do not count."""

    trial_id: str
    iteration: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """A remark: the sweep ended, and why (`EndReason`)."""

    now: float
    reason: str


Input = Began | Arrived | Ticked | Interrupted
Answer = Created | Exhausted | Launched | Resumed | Infeasible | Decided | Directed | Stopped | StoppedAll | Closed
Remark = Cut | Ended
Record = Input | Answer | Remark

INPUTS = (Began, Arrived, Ticked, Interrupted)
ANSWERS = (Created, Exhausted, Launched, Resumed, Infeasible, Decided, Directed, Stopped, StoppedAll, Closed)

Round = list[Record]

_DECODER = codec.decoder(Round)
#: first bytes of MessagePack extension values: a round that was pickled whole
_EXTENSIONS = frozenset({0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)})
_WHOLE = codec.decoder(Any)


def encode(records: Round) -> bytes:
    """Return an input with its answers as bytes. What MessagePack cannot hold at all is pickled whole."""
    try:
        return codec.ENCODER.encode(records)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return codec.ENCODER.encode(codec.pickled(records))


def decode(data: bytes | memoryview) -> Round:
    """Return the records of these bytes."""
    records: Round = (_WHOLE if data[0] in _EXTENSIONS else _DECODER).decode(data)
    return records


def rounds(records: list[tuple[int, Record]]) -> Iterator[tuple[int, Round]]:
    """Yield inputs with what belongs to each, and the index of the trial that it is all about, -1 if of several."""
    group: Round = []
    about = -1
    for index, record in records:
        if isinstance(record, INPUTS):
            if group:
                yield about, group
            group, about = [record], index
            continue
        if isinstance(record, Cut) and index != about:
            about = -1
        group.append(record)
    if group:
        yield about, group
