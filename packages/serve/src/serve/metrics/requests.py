"""Counts the requests of one process: the part that runs for each of them.

A request costs one look-up in a dictionary, one bisection and two additions, without a lock: all requests of a process
end on one event loop. What people want to see is worked out when somebody asks.
"""

from __future__ import annotations

import time
import traceback
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from serve.metrics.report import Distribution, Failure, Family, Labels

#: upper ends of the buckets for latencies, milliseconds. Ray's
LATENCIES_MS: Final = (
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0, 1000.0, 2000.0, 5000.0),
    *(10000.0, 60000.0, 120000.0, 300000.0, 600000.0),
)
#: tracebacks kept until they are asked for
_FAILURES = 20


class Kind(NamedTuple):
    """What tells requests apart."""

    application: str
    route: str
    #: of HTTP; empty for calls through handles
    method: str
    #: of HTTP; 0 for calls through handles
    status: int
    #: name of the exception that the user's code raised; empty if it raised none
    exception: str


class Cell:
    """The requests of one kind."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCIES_MS) + 1)
        self.total = 0.0


class Requests:
    """The requests of this process, by kind."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, str, int, str], Cell] = {}
        self._failures: deque[Failure] = deque(maxlen=_FAILURES)

    def ended(self, kind: tuple[str, str, str, int, str], seconds: float) -> None:
        """Count a request.

        Args:
            kind: the fields of `Kind`, in order; a bare tuple is made faster.
            seconds: it took.
        """
        cell = self._cells.get(kind)
        if cell is None:
            cell = self._cells[kind] = Cell()
        milliseconds = seconds * 1000.0
        cell.counts[bisect_left(LATENCIES_MS, milliseconds)] += 1
        cell.total += milliseconds

    def failed(self, request_id: str, route: str, error: BaseException) -> None:
        """Remember what the user's code raised."""
        text = "".join(traceback.format_exception(error, limit=-30))
        self._failures.append(Failure(time.time(), request_id, route, text))

    def take_failures(self) -> list[Failure]:
        """Return the failures since the last call, oldest first."""
        failures = list(self._failures)
        self._failures.clear()
        return failures

    def cells(self) -> Iterator[tuple[Kind, Cell]]:
        """Yield what was counted."""
        for kind, cell in self._cells.items():
            yield Kind(*kind), cell


def of_clients(*counted: Requests) -> list[Family]:
    """Return what an entrance for clients shows: Ray's ``serve_num_http_requests`` and its kin."""
    requests = Family("counter", "serve_num_http_requests", "HTTP requests that were answered.")
    errors = Family("counter", "serve_num_http_error_requests", "HTTP requests that were answered with 4xx or 5xx.")
    latency = Family(
        "histogram", "serve_http_request_latency_ms", "Milliseconds from a request to its answer.", LATENCIES_MS
    )
    for kind, cell in _all(counted):
        if not kind.method:
            continue
        labels = _labels(
            application=kind.application, method=kind.method, route=kind.route, status_code=str(kind.status)
        )
        _add_counts(latency.distributions, labels, cell)
        count = sum(cell.counts)
        _add(requests.values, labels, count)
        if kind.status >= 400:
            _add(errors.values, _sorted((*labels, ("error_code", str(kind.status)))), count)
    return [requests, errors, latency]


def of_replica(tags: Labels, *counted: Requests) -> list[Family]:
    """Return what a replica shows: Ray's ``serve_deployment_request_counter`` and its kin.

    Args:
        tags: application, deployment and replica.
        *counted: the requests that reached user code.
    """
    requests = Family("counter", "serve_deployment_request_counter", "Requests that user code has processed.")
    errors = Family("counter", "serve_deployment_error_counter", "Requests whose user code raised or answered 5xx.")
    latency = Family(
        "histogram", "serve_deployment_processing_latency_ms", "Milliseconds that user code took.", LATENCIES_MS
    )
    for kind, cell in _all(counted):
        labels = _sorted((*tags, ("route", kind.route)))
        _add_counts(latency.distributions, labels, cell)
        count = sum(cell.counts)
        _add(requests.values, labels, count)
        if kind.exception or kind.status >= 500:
            exception = kind.exception or str(kind.status)
            _add(errors.values, _sorted((*labels, ("exception_type", exception))), count)
    return [requests, errors, latency]


def _all(counted: Iterable[Requests]) -> Iterator[tuple[Kind, Cell]]:
    for each in counted:
        yield from each.cells()


def _labels(**labels: str) -> Labels:
    return tuple(labels.items())  # the callers name them in order


def _sorted(labels: Labels) -> Labels:
    return tuple(sorted(labels))


def _add(values: dict[Labels, float], labels: Labels, count: float) -> None:
    values[labels] = values.get(labels, 0.0) + count


def _add_counts(distributions: dict[Labels, Distribution], labels: Labels, cell: Cell) -> None:
    known = distributions.get(labels)
    if known is None:
        distributions[labels] = Distribution(list(cell.counts), cell.total)
    else:
        known.counts = [a + b for a, b in zip(known.counts, cell.counts, strict=True)]
        known.total += cell.total
