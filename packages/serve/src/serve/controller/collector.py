"""Asks replicas and proxies what they have counted, once a second, and sums it up.

Autoscaling, ``/metrics`` and the status page read what it knows; nobody waits for a process that does not answer: its
last report stands until it answers again or is gone.
"""

from __future__ import annotations

import asyncio
import functools
import glob
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from core.exceptions import RayError
from core.util import kv
from serve.handle import local_router
from serve.logs.setup import logs_directory
from serve.metrics.history import Counted, History, Point
from serve.metrics.process import report as own_report
from serve.metrics.report import AUTOSCALING_STATS, Failure, Family, Labels, Report
from serve.metrics.requests import LATENCIES_MS
from serve.metrics.totals import Totals
from serve.specs import DeploymentID

logger = logging.getLogger("serve")

#: seconds between two looks
PERIOD_S = 1.0
#: in the control store: what ended processes have counted
METRICS_KEY = "serve/metrics"
#: exceptions of requests that are remembered for each deployment
FAILURES = 20
#: ended replicas of each deployment whose logs can still be read
ENDED = 5


@dataclass(frozen=True)
class Source:
    """A process that is asked."""

    #: id of a replica, name of a proxy
    name: str
    #: of a replica; None for a proxy
    deployment: DeploymentID | None
    #: has a method ``report``
    actor: Any


@dataclass(frozen=True)
class Load:
    """How much a deployment has to do."""

    #: requests that replicas are working on
    ongoing: int
    #: requests that wait in line, in proxies, handles and replicas
    queued: int
    #: requests being worked on, by replica
    replicas: dict[str, int]
    #: requests that the replicas there are were given since they started
    handled: int = 0

    @property
    def total(self) -> int:
        """All requests there are."""
        return self.ongoing + self.queued


class Collector:
    """See the module's docstring. All methods run on the controller's event loop.

    Args:
        sources: returns the processes there are now.
        deployments: returns the deployments there are now.
        state: returns what the controller itself has to show, as families.
    """

    def __init__(
        self,
        sources: Callable[[], Iterable[Source]],
        deployments: Callable[[], Iterable[DeploymentID]],
        state: Callable[[], Iterable[Family]],
    ) -> None:
        self._sources = sources
        self._deployments = deployments
        self._state = state
        self._totals = Totals()
        self._history = History(LATENCIES_MS)
        self._reports: dict[str, Report] = {}
        self._known: dict[str, Source] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, deque[tuple[str, Failure]]] = {}
        #: replicas that have ended, by deployment, the last one last
        self._ended: dict[str, deque[str]] = {}
        #: path of each process's log, by name, those of `_ended` included
        self.logs: dict[str, Path] = {}
        self._counted: dict[tuple[str, Labels], float] = {}
        self._restore()
        self._ticked = time.monotonic()
        self._running = asyncio.get_running_loop().create_task(self._run())

    # -- what others read ---------------------------------------------------------------------------------------------

    def load(self, deployment: DeploymentID) -> Load:
        """Return how much a deployment has to do, as of about a second ago."""
        key = str(deployment)
        reports = {
            name: report
            for name, report in self._reports.items()
            if name in self._known and self._known[name].deployment == deployment
        }
        replicas = {name: report.ongoing for name, report in reports.items()}
        queued = local_router.router().queued().get(key, 0)
        queued += sum(report.queued.get(key, 0) for report in self._reports.values())
        return Load(sum(replicas.values()), queued, replicas, sum(report.handled for report in reports.values()))

    def stats(self, deployment: DeploymentID) -> dict[str, dict[str, float]]:
        """Return the user's own numbers of a deployment, by name and replica: for an autoscaling policy."""
        found: dict[str, dict[str, float]] = {}
        for name, source in self._known.items():
            report = self._reports.get(name)
            if report is None or source.deployment != deployment:
                continue
            for family in report.families:
                if family.name == AUTOSCALING_STATS:
                    for labels, value in family.values.items():
                        found.setdefault(dict(labels)["metric"], {})[name] = value
                elif family.kind != "histogram" and not family.name.startswith("serve_"):
                    found.setdefault(family.name, {})[name] = sum(family.values.values())
        return found

    def families(self) -> list[Family]:
        """Return all numbers of all processes."""
        now = time.monotonic()
        self._totals.report("controller", own_report(ongoing=0, queued={}, families=self._own()), now)
        return self._totals.families(now)

    def points(self, thing: str) -> list[Point]:
        """Return the last minutes of a deployment (``app#name``) or of all clients' requests (``app``)."""
        return list(self._history.points.get(thing, ()))

    def failures(self, deployment: DeploymentID) -> list[tuple[str, Failure]]:
        """Return what requests of a deployment last ended with, and in which replica, oldest first."""
        return list(self._failures.get(str(deployment), ()))

    def ended(self, deployment: DeploymentID) -> list[str]:
        """Return the ids of a deployment's replicas that ended lately, the last one last."""
        return list(self._ended.get(str(deployment), ()))

    # -- what the controller tells ------------------------------------------------------------------------------------

    def count(self, name: str, deployment: DeploymentID) -> None:
        """Count an event of a deployment, such as the start of a replica."""
        labels: Labels = (("application", deployment.app), ("deployment", deployment.name))
        self._counted[name, labels] = self._counted.get((name, labels), 0) + 1
        self._save()

    def parted(self, source: Source, report: bytes | None) -> None:
        """Take over the last report of a process that stops, even if it was there too shortly to be asked.

        Its counts are settled at once, for a controller that is killed the next moment.
        """
        self._known[source.name] = source
        self.took(source.name, report)
        self._forget(self._known.pop(source.name))

    def took(self, source: str, report: bytes | None) -> None:
        """Take over a report."""
        if report is None or source not in self._known:
            return
        decoded = msgspec.msgpack.decode(report, type=Report)
        self._reports[source] = decoded
        self._totals.report(source, decoded, time.monotonic())
        if decoded.log:
            self.logs[source] = Path(decoded.log)
        deployment = self._known[source].deployment
        self._history.saw(source, _counted(decoded))
        if deployment is not None and decoded.failures:
            kept = self._failures.setdefault(str(deployment), deque(maxlen=FAILURES))
            kept.extend((source, failure) for failure in decoded.failures)

    def close(self) -> None:
        """Stop asking."""
        self._running.cancel()
        for task in self._asking.values():
            task.cancel()

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            await self.look()
            await asyncio.sleep(max(PERIOD_S / 10, PERIOD_S - (time.monotonic() - began)))

    async def look(self) -> None:
        """Ask everybody, and note what has happened since the last look."""
        await self.ask()
        self._tick()

    async def ask(self) -> None:
        """Ask everybody who owes no answer yet, and wait a moment for the answers."""
        before, self._known = self._known, {source.name: source for source in self._sources()}
        for gone in before.keys() - self._known.keys():
            self._forget(before[gone])
        for source in self._known.values():
            if source.name not in self._asking:
                task = asyncio.get_running_loop().create_task(self._ask(source))
                self._asking[source.name] = task
                task.add_done_callback(functools.partial(self._asked, source.name))
        if self._asking:
            await asyncio.wait(list(self._asking.values()), timeout=PERIOD_S * 0.8)

    def _forget(self, source: Source) -> None:
        """A process is gone."""
        self._reports.pop(source.name, None)
        self._totals.end(source.name, time.monotonic())
        self._save()
        self._history.forget(source.name)
        if source.deployment is None:
            self.logs.pop(source.name, None)
            return
        ended = self._ended.setdefault(str(source.deployment), deque())
        ended.append(source.name)
        if len(ended) > ENDED:
            self._drop_log(ended.popleft())

    def _drop_log(self, name: str) -> None:
        """Delete the log of a replica that ended long ago, so that they do not fill the disk; not in users' places."""
        path = self.logs.pop(name, None)
        if path is not None and path.parent == logs_directory():
            for each in path.parent.glob(f"{glob.escape(path.name)}*"):
                each.unlink(missing_ok=True)

    async def _ask(self, source: Source) -> None:
        try:
            self.took(source.name, await source.actor.report.remote())
        except RayError as error:  # it is about to be gone
            logger.debug("%s does not report: %s", source.name, error)
        except msgspec.MsgspecError:
            logger.exception("%s reports what cannot be read", source.name)

    def _asked(self, name: str, _task: asyncio.Task[None]) -> None:
        self._asking.pop(name, None)

    def _tick(self) -> None:
        now = time.monotonic()
        seconds, self._ticked = max(1e-3, now - self._ticked), now
        things: dict[str, tuple[int, int]] = {}
        for deployment in self._deployments():
            load = self.load(deployment)
            things[str(deployment)] = (load.ongoing, load.queued)
            things.setdefault(deployment.app, (0, 0))
        self._history.tick(time.time(), seconds, things)
        for gone in self._failures.keys() - things.keys():
            del self._failures[gone]
        for gone in self._ended.keys() - things.keys():
            for name in self._ended.pop(gone):
                self._drop_log(name)

    # -- what a restarted controller has to know -----------------------------------------------------------------------

    def _save(self) -> None:
        """Keep what no process that runs will report again."""
        try:
            kv.put(METRICS_KEY, msgspec.msgpack.encode([*self._totals.settled, *self._events()]))
        except ValueError:  # the store is full
            logger.warning("the counts of ended replicas cannot be kept for a restarted controller", exc_info=True)

    def _restore(self) -> None:
        kept = kv.get(METRICS_KEY)
        families = [] if kept is None else msgspec.msgpack.decode(kept.value, type=list[Family])
        self._totals.restore(family for family in families if family.name not in DESCRIPTIONS)
        for family in families:
            if family.name in DESCRIPTIONS:
                self._counted.update({(family.name, labels): value for labels, value in family.values.items()})

    def _events(self) -> Iterable[Family]:
        families: dict[str, Family] = {}
        for (name, labels), value in self._counted.items():
            families.setdefault(name, Family("counter", name, DESCRIPTIONS[name])).values[labels] = value
        return families.values()

    def _own(self) -> list[Family]:
        """Return what the controller's own process has to show."""
        queued = Family("gauge", "serve_deployment_queued_queries", "Requests that wait in line for a replica.")
        for deployment in self._deployments():
            labels = (("application", deployment.app), ("deployment", deployment.name))
            queued.values[labels] = self.load(deployment).queued
        return [*self._state(), *self._events(), queued]


#: of the events that the controller counts
STARTS = "serve_deployment_replica_starts"
DEATHS = "serve_deployment_replica_deaths"
START_FAILURES = "serve_deployment_replica_start_failures"
HEALTH_CHECK_FAILURES = "serve_health_check_failures_total"
DESCRIPTIONS = {
    STARTS: "Replicas that have started.",
    DEATHS: "Replicas whose process ended without being told to.",
    START_FAILURES: "Replicas that could not be started.",
    HEALTH_CHECK_FAILURES: "Health checks that failed.",
}


def _counted(report: Report) -> dict[str, Counted]:
    """Return what a process has counted in all: by deployment, and by application for those who serve clients."""
    counted: dict[str, Counted] = {}
    for family in report.families:
        match family.name:
            case "serve_deployment_processing_latency_ms" | "serve_http_request_latency_ms":
                for labels, distribution in family.distributions.items():
                    thing = counted.setdefault(_thing(dict(labels)), Counted())
                    total = Counted(distribution.count, 0.0, tuple(distribution.counts))
                    counted[_thing(dict(labels))] = thing.plus(total)
            case "serve_deployment_error_counter" | "serve_num_http_error_requests":
                for labels, value in family.values.items():
                    if int(dict(labels).get("status_code", 500)) >= 500:
                        thing = counted.setdefault(_thing(dict(labels)), Counted())
                        counted[_thing(dict(labels))] = thing.plus(Counted(0.0, value))
    return counted


def _thing(labels: dict[str, str]) -> str:
    deployment = labels.get("deployment")
    return labels["application"] if deployment is None else f"{labels['application']}#{deployment}"
