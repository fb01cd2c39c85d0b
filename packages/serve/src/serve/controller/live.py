"""Puts together what the status page shows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from serve.controller.collector import Collector
from serve.controller.replicas import RunningReplica
from serve.metrics.history import Point
from serve.metrics.process import PROCESS
from serve.schema.live import (
    Live,
    LiveApplication,
    LiveDeployment,
    LiveFailure,
    LivePoint,
    LiveProxy,
    LiveReplica,
    LiveSplit,
)
from serve.specs import ApplicationSpec
from serve.state.application import Application
from serve.state.deployment import Deployment


class LiveView:
    """See the module's docstring.

    Args:
        apps: by name.
        replicas: those that run, by id.
        collector: knows the numbers.
    """

    def __init__(
        self, apps: Mapping[str, Application], replicas: Mapping[str, RunningReplica], collector: Collector
    ) -> None:
        self._apps = apps
        self._replicas = replicas
        self._collector = collector

    def live(
        self, since: float, revisions: Mapping[str, Sequence[ApplicationSpec]], proxies: Mapping[str, str]
    ) -> Live:
        """Return everything.

        Args:
            since: points up to this time are left out.
            revisions: those that are remembered, by application.
            proxies: states by name.
        """
        apps = [self._application(app, since, revisions.get(name, ())) for name, app in self._apps.items()]
        logs = self._collector.logs
        return Live(
            time.time(), PROCESS, apps, [LiveProxy(name, state, name in logs) for name, state in proxies.items()]
        )

    def _application(self, app: Application, since: float, revisions: Sequence[ApplicationSpec]) -> LiveApplication:
        splits = [
            LiveSplit(each.revision, each.weight, ": ".join(each.header or ()), each.shadow) for each in app.splits
        ]
        beside = app.candidate.deployments.values() if app.candidate is not None else ()
        revision = app.candidate.spec.revision if app.candidate is not None else None
        return LiveApplication(
            app.spec.name,
            str(app.status),
            app.message,
            app.spec.route_prefix,
            app.spec.revision,
            app.spec.ingress,
            [(spec.revision, spec.deployed_at) for spec in revisions],
            splits,
            [
                *(self._deployment(each, since, None) for each in app.deployments.values()),
                *(self._deployment(each, since, revision) for each in beside),
            ],
            self._points(app.spec.name, since),
        )

    def _deployment(self, machine: Deployment, since: float, revision: int | None) -> LiveDeployment:
        collector = self._collector
        replicas = [self._replica(machine, name) for name in machine.replicas]
        # replicas of a second revision and of the first one have one history
        ended = [] if revision is not None else collector.ended(machine.id)
        replicas += (LiveReplica(name, "ENDED", log=True) for name in ended if name not in machine.replicas)
        return LiveDeployment(
            machine.id.name,
            str(machine.status),
            machine.message,
            machine.wanted,
            revision,
            machine.spec.uses if machine.spec is not None else (),
            replicas,
            self._points(str(machine.id), since),
            [
                LiveFailure(failure.time, replica, failure.request_id, failure.route, failure.text)
                for replica, failure in collector.failures(machine.id)
            ],
        )

    def _replica(self, machine: Deployment, name: str) -> LiveReplica:
        running = self._replicas.get(name)
        info = running.info if running is not None else None
        return LiveReplica(
            name,
            str(machine.replicas[name].state),
            None if info is None else info.pid,
            self._collector.load(machine.id).replicas.get(name, 0),
            name in self._collector.logs,
            () if info is None else info.model_ids,
        )

    def _points(self, thing: str, since: float) -> list[LivePoint]:
        points = (_point(point) for point in self._collector.points(thing))
        return [point for point in points if point.time > since]  # as the page knows their times


def _point(point: Point) -> LivePoint:
    return LivePoint(
        round(point.time, 3),
        round(point.requests, 3),
        round(point.errors, 3),
        None if point.p50 is None else round(point.p50, 3),
        None if point.p99 is None else round(point.p99, 3),
        point.ongoing,
        point.queued,
    )
