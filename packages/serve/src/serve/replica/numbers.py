"""What a replica counts of itself, and tells the collector."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from serve.handle import local_router
from serve.logs.setup import Log
from serve.metrics import requests
from serve.metrics.observer import Observer
from serve.metrics.process import report
from serve.metrics.report import AUTOSCALING_STATS, Family, Labels
from serve.replica.gate import Gate
from serve.replica.user_parts import batch_families, model_families
from serve.specs import DeploymentID, RequestMeta


class Numbers:
    """The numbers of one replica.

    Args:
        deployment: it belongs to.
        replica_id: of the replica.
        gate: counts who is in and in line.
    """

    def __init__(self, deployment: DeploymentID, replica_id: str, gate: Gate) -> None:
        self._deployment = deployment
        self._gate = gate
        self._tags: Labels = (
            ("application", deployment.app),
            ("deployment", deployment.name),
            ("replica", replica_id),
        )
        #: of requests that come through proxies, which log them
        self.relayed = Observer()
        #: of requests that come from clients themselves
        self.direct = Observer()
        self._log: Log | None = None

    def log_to(self, log: Log) -> None:
        """Name the log of this replica; requests that come from clients themselves are logged too, if it says so."""
        self._log = log
        self.direct.log = log if log.accesses else None

    def called(self, meta: RequestMeta, began: float, error: Exception | None) -> None:
        """Count a call through a handle.

        Args:
            meta: what came with it.
            began: reading of `time.perf_counter`.
            error: what the user's code raised.
        """
        counted = self.relayed.requests
        exception = "" if error is None else type(error).__name__
        counted.ended((meta.app, meta.route, "", 0, exception), time.perf_counter() - began)
        if error is not None:
            counted.failed(meta.request_id, meta.route, error)

    def report(self, stats: Mapping[str, float] | None = None) -> bytes:
        """Return a `Report`, as msgpack.

        Args:
            stats: numbers of the user's for his autoscaling policy.
        """
        gate = self._gate
        queued = local_router.router().queued()
        own = str(self._deployment)
        queued[own] = queued.get(own, 0) + gate.queued
        processing = Family("gauge", "serve_replica_processing_queries", "Requests that a replica is working on.")
        processing.values[self._tags] = gate.ongoing
        families = [
            processing,
            *requests.of_replica(self._tags, self.relayed.requests, self.direct.requests),
            *batch_families(self._tags),
            *model_families(self._tags),
            *requests.of_clients(self.direct.requests, self.direct.refusals),
        ]
        if stats:
            described = Family("gauge", AUTOSCALING_STATS, "What record_autoscaling_stats() of a replica returns.")
            described.values = {(("metric", name), *self._tags): value for name, value in stats.items()}
            families.append(described)
        failures = [*self.relayed.requests.take_failures(), *self.direct.requests.take_failures()]
        log = "" if self._log is None else str(self._log.path)
        last = report(ongoing=gate.ongoing, queued=queued, families=families, log=log, failures=failures)
        last.handled = gate.total
        return msgspec.msgpack.encode(last)
