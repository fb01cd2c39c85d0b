"""What the status page is drawn from: everything as it is now, and the points since the page last asked."""

from __future__ import annotations

import msgspec


class LivePoint(msgspec.Struct, array_like=True):
    """About a second of a deployment, or of an application's clients."""

    #: seconds since the epoch
    time: float
    #: a second
    requests: float
    #: a second: exceptions and answers of 5xx
    errors: float
    #: milliseconds; None if nothing was answered
    p50: float | None
    p99: float | None
    #: requests being worked on, and in line
    ongoing: int
    queued: int


class LiveReplica(msgspec.Struct):
    """A replica, or one that has ended lately."""

    id: str
    #: Ray's words; ``ENDED`` for one that is gone
    state: str
    #: None until it has started
    pid: int | None = None
    ongoing: int = 0
    #: whether it has written a log
    log: bool = False
    models: tuple[str, ...] = ()


class LiveFailure(msgspec.Struct):
    """What a request ended with."""

    time: float
    replica: str
    request_id: str
    route: str
    text: str


class LiveDeployment(msgspec.Struct):
    """A deployment of one revision."""

    name: str
    status: str
    message: str
    wanted: int
    #: of a second revision; None for that which runs
    revision: int | None
    #: names of the deployments it calls
    uses: tuple[str, ...]
    replicas: list[LiveReplica]
    points: list[LivePoint]
    failures: list[LiveFailure]


class LiveSplit(msgspec.Struct):
    """One of two revisions that share an application's requests."""

    revision: int
    weight: float
    header: str = ""
    shadow: bool = False


class LiveApplication(msgspec.Struct):
    """An application."""

    name: str
    status: str
    message: str
    route: str | None
    revision: int
    ingress: str
    #: revisions that are remembered, newest first: number and when it was deployed (seconds since the epoch)
    revisions: list[tuple[int, float]]
    splits: list[LiveSplit]
    deployments: list[LiveDeployment]
    #: of its clients' requests
    points: list[LivePoint]


class LiveProxy(msgspec.Struct):
    """A process that clients connect to."""

    name: str
    state: str
    log: bool = False


class Live(msgspec.Struct):
    """Everything."""

    #: seconds since the epoch
    time: float
    #: tells a controller from one that was started before; the page forgets what it knew
    controller: str
    applications: list[LiveApplication]
    proxies: list[LiveProxy]
