"""What a process tells the collector of itself, as plain records. They travel as msgpack."""

from __future__ import annotations

import msgspec

#: names and values of a sample's tags, sorted by name
Labels = tuple[tuple[str, str], ...]


#: the family of what a class says of itself for its autoscaling policy
AUTOSCALING_STATS = "serve_autoscaling_stats"


class Distribution(msgspec.Struct, array_like=True):
    """A histogram's numbers for one combination of tags."""

    #: observations per bucket, the last one for all above the last boundary
    counts: list[int]
    #: sum of all that was observed
    total: float

    @property
    def count(self) -> int:
        """The number of observations."""
        return sum(self.counts)


class Family(msgspec.Struct, array_like=True):
    """All numbers of one metric in one process."""

    #: ``counter``, ``gauge`` or ``histogram``
    kind: str
    name: str
    description: str
    boundaries: tuple[float, ...] = ()
    values: dict[Labels, float] = msgspec.field(default_factory=dict)
    distributions: dict[Labels, Distribution] = msgspec.field(default_factory=dict)


class Failure(msgspec.Struct, array_like=True):
    """An exception that a request ended with."""

    #: seconds since the epoch
    time: float
    request_id: str
    route: str
    #: the user's traceback
    text: str


class Report(msgspec.Struct, array_like=True):
    """What a process has done since it started, and what it is doing."""

    #: another one for each process, so that a new process under an old name is told apart
    process: str
    #: requests that are being worked on
    ongoing: int
    #: requests in line, by ``str(DeploymentID)``: of a replica its own, of a router those it has not sent yet
    queued: dict[str, int]
    families: list[Family]
    #: path of its log
    log: str = ""
    #: since the last report
    failures: list[Failure] = msgspec.field(default_factory=list)
    #: requests that a replica was given since it started
    handled: int = 0
