"""Metrics of programs (``ray.util.metrics``): counters, gauges and histograms with tags.

They are kept in a registry of this process; :func:`expose` writes it in the Prometheus text format. Two metrics of one
name (a class that makes its counter anew in each instance, an unpickled copy) share their numbers.
"""

from __future__ import annotations

import bisect
import math
import re
import threading
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

#: Tag values in the order of the metric's tag keys (first its own, then any others, sorted).
_Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Buckets:
    """What a histogram knows of one combination of tags."""

    #: observations per bucket, the last one for all above the last boundary
    counts: list[int]
    total: float = 0.0


@dataclass(eq=False)
class Series:
    """All numbers of one metric name."""

    kind: str
    name: str
    description: str
    boundaries: tuple[float, ...] = ()
    values: dict[_Labels, float] = field(default_factory=dict)
    buckets: dict[_Labels, _Buckets] = field(default_factory=dict)


class Registry:
    """The metrics of a process. Thread-safe."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self._lock = threading.Lock()

    def series(self, kind: str, name: str, description: str, boundaries: tuple[float, ...] = ()) -> Series:
        """Return the series of this name, a new one if there is none yet.

        Raises:
            ValueError: the name belongs to a metric of another kind or with other boundaries.
        """
        with self._lock:
            series = self._series.setdefault(name, Series(kind, name, description, boundaries))
        if (series.kind, series.boundaries) != (kind, boundaries):
            raise ValueError(f"metric {name!r} exists already as a {series.kind} {list(series.boundaries) or ''}")
        return series

    def add(self, series: Series, labels: _Labels, amount: float) -> None:
        """Add to a counter."""
        with self._lock:
            series.values[labels] = series.values.get(labels, 0.0) + amount

    def set(self, series: Series, labels: _Labels, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            series.values[labels] = value

    def observe(self, series: Series, labels: _Labels, value: float) -> None:
        """Count a value in its bucket."""
        with self._lock:
            buckets = series.buckets.get(labels)
            if buckets is None:
                buckets = series.buckets[labels] = _Buckets([0] * (len(series.boundaries) + 1))
            buckets.counts[bisect.bisect_left(series.boundaries, value)] += 1
            buckets.total += value

    def collect(self) -> list[Series]:
        """Return copies of all series, sorted by name, for whoever sends them on."""
        with self._lock:
            return [
                replace(
                    series,
                    values=dict(series.values),
                    buckets={
                        labels: _Buckets(list(each.counts), each.total) for labels, each in series.buckets.items()
                    },
                )
                for _, series in sorted(self._series.items())
            ]

    def expose(self) -> str:
        """Return all metrics in the Prometheus text format, sorted by name."""
        with self._lock:
            return "".join(line + "\n" for name in sorted(self._series) for line in _lines(self._series[name]))


#: The registry of this process; one because Prometheus scrapes processes.
REGISTRY: Final = Registry()


def expose() -> str:
    """Return the metrics of this process in the Prometheus text format (version 0.0.4)."""
    return REGISTRY.expose()


class Metric:
    """What the three kinds have in common.

    Args:
        name: letters, digits, ``_`` and ``:``, no digit first; a metric with another name warns and records nothing.
        description: one line for people.
        tag_keys: names of the tags that every record must have.

    Raises:
        ValueError: the name is empty, or taken by another kind of metric.
        TypeError: ``tag_keys`` is no tuple of strings.
    """

    _kind = ""

    def __init__(
        self,
        name: str,
        description: str = "",
        tag_keys: tuple[str, ...] | None = None,
        *,
        _boundaries: tuple[float, ...] = (),
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a metric must be a str, got {type(name).__name__}: {name!r}")
        if not name:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        if tag_keys is not None and not isinstance(tag_keys, tuple):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(tag_keys)}")
        for key in tag_keys or ():
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        self._name = name
        self._description = description
        self._tag_keys = tag_keys or ()
        self._default_tags: dict[str, str] = {}
        self._series: Series | None = None
        if _NAME.fullmatch(name):
            self._series = REGISTRY.series(self._kind, name, description, _boundaries)
        else:
            warnings.warn(
                f"Invalid metric name: {name}. Metric will be discarded. Metric names can only contain letters, "
                "numbers, _, and :, and cannot start with numbers.",
                UserWarning,
                stacklevel=3,
            )

    def set_default_tags(self, default_tags: dict[str, str]) -> Self:
        """Set the tags that a record has unless it says otherwise; return the metric.

        Raises:
            ValueError: a tag is not among the metric's ``tag_keys``.
            TypeError: a value is no string.
        """
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")
        self._default_tags = dict(default_tags)
        return self

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _labels(self, tags: dict[str, str] | None) -> _Labels:
        for value in (tags or {}).values():
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")
        merged = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in merged]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        return tuple(sorted(merged.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._arguments(), self._default_tags)

    def _arguments(self) -> tuple[Any, ...]:
        return self._name, self._description, self._tag_keys


def _is_positive(boundary: Any) -> bool:
    return not isinstance(boundary, str) and boundary > 0


def _rebuild(cls: type[Metric], arguments: tuple[Any, ...], default_tags: dict[str, str]) -> Metric:
    """Unpickle a metric: the same one in another process, with that process's numbers."""
    return cls(*arguments).set_default_tags(default_tags)


class Counter(Metric):
    """A number that only grows."""

    _kind = "counter"

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Add ``value``.

        Raises:
            ValueError: ``value`` is not positive, or a tag is missing.
            TypeError: ``value`` is no number, or a tag's value no string.
        """
        _check_number(value)
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        labels = self._labels(tags)
        if self._series is not None:
            REGISTRY.add(self._series, labels, value)


class Gauge(Metric):
    """A number that goes up and down."""

    _kind = "gauge"

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        """Set it; None is ignored.

        Raises:
            ValueError: a tag is missing.
            TypeError: ``value`` is no number, or a tag's value no string.
        """
        if value is None:
            return
        _check_number(value)
        labels = self._labels(tags)
        if self._series is not None:
            REGISTRY.set(self._series, labels, value)


class Histogram(Metric):
    """Counts of values by size.

    Args:
        name, description, tag_keys: as for :class:`Metric`.
        boundaries: upper ends of the buckets, positive; required.

    Raises:
        ValueError: ``boundaries`` is missing or holds a number that is not positive.
    """

    _kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. "
                'e.g., Histogram("name", boundaries=[1.0, 2.0])'
            )
        for index, boundary in enumerate(boundaries):
            if not _is_positive(boundary):
                raise ValueError(
                    f"Invalid `boundaries` argument at index {index}, {boundaries}. "
                    "Use positive values for the arguments."
                )
        self.boundaries: list[float] = list(boundaries)
        super().__init__(name, description, tag_keys, _boundaries=tuple(sorted(boundaries)))

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Count ``value`` in its bucket.

        Raises:
            ValueError: a tag is missing.
            TypeError: ``value`` is no number, or a tag's value no string.
        """
        _check_number(value)
        labels = self._labels(tags)
        if self._series is not None:
            REGISTRY.observe(self._series, labels, value)

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys, default tags and boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def _arguments(self) -> tuple[Any, ...]:
        return self._name, self._description, self.boundaries, self._tag_keys


def _check_number(value: float) -> None:
    if not isinstance(value, int | float):
        raise TypeError(f"value must be int or float, got {type(value)}.")


def _lines(series: Series) -> Iterable[str]:
    # Prometheus wants the names of counters to end so.
    name = f"{series.name}_total" if series.kind == "counter" and not series.name.endswith("_total") else series.name
    yield f"# HELP {name} {_escape(series.description)}"
    yield f"# TYPE {name} {series.kind}"
    for labels, value in series.values.items():
        yield f"{name}{_braces(labels)} {_number(value)}"
    for labels, buckets in series.buckets.items():
        below = 0
        for boundary, count in zip((*series.boundaries, float("inf")), buckets.counts, strict=True):
            below += count
            yield f"{name}_bucket{_braces((*labels, ('le', _number(boundary))))} {below}"
        yield f"{name}_sum{_braces(labels)} {_number(buckets.total)}"
        yield f"{name}_count{_braces(labels)} {below}"


def _braces(labels: _Labels) -> str:
    if not labels:
        return ""
    pairs = (f'{key}="{_escape(value, quotes=True)}"' for key, value in labels)
    return "{" + ",".join(pairs) + "}"


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    if value == float("-inf"):
        return "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))
