"""Families as text that Prometheus reads: its own text format or OpenMetrics, whichever the scraper asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from serve.metrics.report import Distribution, Family


class _Registry:
    """What prometheus_client encodes: its registries are asked to `collect`."""

    def __init__(self, families: Iterable[Family], prefix: str) -> None:
        self._families = families
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield _metric(family, self._prefix + family.name)


def expose(families: Iterable[Family], accept: str = "", prefix: str = "") -> tuple[bytes, str]:
    """Return the text and its content type.

    Args:
        families: what to show.
        accept: the scraper's ``Accept`` field.
        prefix: put before every name; with ``ray_`` they are what dashboards made for Ray Serve look for.
    """
    encoder, content_type = choose_encoder(accept)
    registry: Any = _Registry(families, prefix)
    return encoder(registry), content_type


def _metric(family: Family, name: str) -> Metric:
    if family.kind == "counter":
        name = name.removesuffix("_total")
    metric = Metric(name, family.description, family.kind)
    shown = f"{name}_total" if family.kind == "counter" else name
    for labels, value in family.values.items():
        metric.add_sample(shown, dict(labels), value)
    for labels, distribution in family.distributions.items():
        _add_buckets(metric, dict(labels), family.boundaries, distribution)
    return metric


def _add_buckets(
    metric: Metric, labels: dict[str, str], boundaries: Iterable[float], distribution: Distribution
) -> None:
    below = 0
    for boundary, count in zip((*boundaries, float("inf")), distribution.counts, strict=True):
        below += count
        le = "+Inf" if boundary == float("inf") else repr(float(boundary))
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": le}, below)
    metric.add_sample(f"{metric.name}_count", labels, below)
    metric.add_sample(f"{metric.name}_sum", labels, distribution.total)
