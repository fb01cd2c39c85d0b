"""What a gRPC proxy counts of its calls: by application, method and status."""

from __future__ import annotations

from serve.metrics.report import Distribution, Family, Labels
from serve.metrics.requests import LATENCIES_MS, Requests


class Numbers:
    """The calls of this process."""

    def __init__(self) -> None:
        self._calls = Requests()
        #: calls in progress
        self.ongoing = 0

    def ended(self, application: str, path: str, code: str, seconds: float) -> None:
        """Count a call.

        Args:
            application: that it went to; empty if to none.
            path: ``/package.Service/Method``.
            code: name of its status.
            seconds: it took.
        """
        self._calls.ended((application, path, "", 0, code), seconds)

    def families(self) -> list[Family]:
        """Return what the metrics show: Ray's ``serve_num_grpc_requests`` and its kin."""
        ongoing = Family("gauge", "serve_num_ongoing_grpc_requests", "gRPC calls that proxies are relaying.")
        ongoing.values[()] = self.ongoing
        calls = Family("counter", "serve_num_grpc_requests", "gRPC calls that were answered.")
        errors = Family(
            "counter", "serve_num_grpc_error_requests", "gRPC calls that ended with another status than OK."
        )
        latency = Family(
            "histogram", "serve_grpc_request_latency_ms", "Milliseconds from a gRPC call to its end.", LATENCIES_MS
        )
        for kind, cell in self._calls.cells():
            labels: Labels = (
                ("application", kind.application),
                ("method", kind.route),
                ("status_code", kind.exception),
            )
            count = sum(cell.counts)
            calls.values[labels] = count
            latency.distributions[labels] = Distribution(list(cell.counts), cell.total)
            if kind.exception != "OK":
                errors.values[labels] = count
        return [ongoing, calls, errors, latency]
