"""``serve.metrics``: counters, gauges and histograms for the code of deployments.

They are core's, with the tags ``application``, ``deployment`` and ``replica`` filled in by themselves, and ``route``
where the metric asks for it. The controller collects them from all replicas, and shows them under ``/metrics``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.util import metrics
from serve.context import get_replica_context, get_request_context
from serve.errors import RayServeException

#: tags that every metric of a replica has; a metric's own may not be called so
RESERVED = ("application", "deployment", "replica")
ROUTE = "route"


class _Tagged(metrics.Metric):
    """The part that fills tags in."""

    def set_default_tags(self, default_tags: dict[str, str]) -> Any:
        """Set the tags that a record has unless it says otherwise; return the metric.

        Raises:
            ValueError: a tag is not among the metric's ``tag_keys``.
            TypeError: a value is no string.
        """
        return super().set_default_tags(default_tags)

    def _labels(self, tags: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
        if ROUTE in self._tag_keys and ROUTE not in (tags or ()) and ROUTE not in self._default_tags:
            tags = {**(tags or {}), ROUTE: get_request_context().route}
        return tuple(sorted((*replica_tags(), *super()._labels(tags))))


class Counter(_Tagged, metrics.Counter):
    """A number that only grows.

    ::

        @serve.deployment
        class Model:
            def __init__(self):
                self.odd = serve.metrics.Counter("odd_requests", description="Odd numbers.", tag_keys=("model",))

            def __call__(self, number: int) -> int:
                if number % 2:
                    self.odd.inc(tags={"model": "a"})
                return number

    Args:
        name: letters, digits, ``_`` and ``:``; ``/metrics`` shows it with ``_total`` behind it.
        description: one line for people.
        tag_keys: names of the tags that every record must have; ``route`` is filled in with the request's.

    Raises:
        ValueError: the name is empty, taken by another kind of metric, or a tag is one of those filled in.
        TypeError: ``tag_keys`` is no tuple of strings.
    """

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        _check(tag_keys)
        super().__init__(name, description, tag_keys)


class Gauge(_Tagged, metrics.Gauge):
    """A number that goes up and down.

    Args:
        name: letters, digits, ``_`` and ``:``.
        description: one line for people.
        tag_keys: names of the tags that every record must have; ``route`` is filled in with the request's.

    Raises:
        ValueError: the name is empty, taken by another kind of metric, or a tag is one of those filled in.
        TypeError: ``tag_keys`` is no tuple of strings.
    """

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        _check(tag_keys)
        super().__init__(name, description, tag_keys)


class Histogram(_Tagged, metrics.Histogram):
    """Counts of values by size.

    Args:
        name: letters, digits, ``_`` and ``:``.
        description: one line for people.
        boundaries: upper ends of the buckets, positive; required.
        tag_keys: names of the tags that every record must have; ``route`` is filled in with the request's.

    Raises:
        ValueError: the name is empty, taken by another kind of metric, a tag is one of those filled in, or
            ``boundaries`` is missing or holds a number that is not positive.
        TypeError: ``tag_keys`` is no tuple of strings.
    """

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        _check(tag_keys)
        super().__init__(name, description, boundaries, tag_keys)


def replica_tags() -> tuple[tuple[str, str], ...]:
    """Return the tags of the replica that this process is; none if it is no replica."""
    try:
        replica = get_replica_context()
    except RayServeException:
        return ()
    return (("application", replica.app_name), ("deployment", replica.deployment), ("replica", replica.replica_id))


def _check(tag_keys: Any) -> None:
    for key in tag_keys if isinstance(tag_keys, tuple) else ():
        if key in RESERVED:
            raise ValueError(f"'{key}' tag is reserved for Ray Serve metrics; it is filled in by itself")
