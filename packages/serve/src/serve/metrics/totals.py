"""Sums up what processes report, those that are gone included. Pure: the caller brings the reports and the time.

Counters must not go backwards when a process ends, and there must not be more and more series, for every replica there
ever was. So a number without the tag ``replica`` is added for good to what ended processes had counted; one with it
stays for `KEPT_S` seconds, so that every scraper sees its last value, and then goes. Gauges end with their process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from serve.metrics.report import Distribution, Family, Labels, Report

#: seconds that the numbers of an ended replica are still shown
KEPT_S = 600.0

_Shape = tuple[str, tuple[float, ...]]


@dataclass
class _Ended:
    families: list[Family]
    until: float


@dataclass
class Totals:
    """See the module's docstring."""

    _running: dict[str, Report] = field(default_factory=dict)
    _ended: list[_Ended] = field(default_factory=list)
    #: numbers without a replica of processes that have ended, by name
    _settled: dict[str, Family] = field(default_factory=dict)

    def report(self, source: str, report: Report, now: float) -> None:
        """Take over what a process says of itself; it replaces what it said before.

        Args:
            source: name of the process.
            report: all it has counted since its start.
            now: seconds of any clock.
        """
        before = self._running.get(source)
        if before is not None and before.process != report.process:
            self.end(source, now)
        self._running[source] = report

    def end(self, source: str, now: float) -> None:
        """Note that a process is gone; its last report counts on."""
        report = self._running.pop(source, None)
        if report is None:
            return
        counted = [family for family in report.families if family.kind != "gauge"]
        kept = [_only(family, _has_replica) for family in counted]
        if any(family.values or family.distributions for family in kept):
            self._ended.append(_Ended(kept, now + KEPT_S))
        _merge(self._settled, (_only(family, lambda labels: not _has_replica(labels)) for family in counted))

    def families(self, now: float) -> list[Family]:
        """Return the sums over all processes, sorted by name."""
        self._ended = [ended for ended in self._ended if ended.until > now]
        merged: dict[str, Family] = {}
        # the newest come first: where two processes disagree about what a metric is, theirs is it
        for report in reversed(self._running.values()):
            _merge(merged, report.families)
        for ended in reversed(self._ended):
            _merge(merged, ended.families)
        _merge(merged, self._settled.values())
        return [merged[name] for name in sorted(merged)]

    @property
    def settled(self) -> list[Family]:
        """What has to outlive a controller that is restarted."""
        return list(self._settled.values())

    def restore(self, settled: Iterable[Family]) -> None:
        """Take over what an earlier controller had settled."""
        _merge(self._settled, settled)


def _has_replica(labels: Labels) -> bool:
    return any(name == "replica" for name, _ in labels)


def _shape(family: Family) -> _Shape:
    return family.kind, tuple(family.boundaries)


def _only(family: Family, wanted: Callable[[Labels], bool]) -> Family:
    return Family(
        family.kind,
        family.name,
        family.description,
        family.boundaries,
        {labels: value for labels, value in family.values.items() if wanted(labels)},
        {labels: value for labels, value in family.distributions.items() if wanted(labels)},
    )


def _merge(into: dict[str, Family], families: Iterable[Family]) -> None:
    for family in families:
        known = into.get(family.name)
        if known is None:
            known = into[family.name] = Family(family.kind, family.name, family.description, family.boundaries, {}, {})
        elif _shape(known) != _shape(family):
            continue
        for labels, value in family.values.items():
            known.values[labels] = known.values.get(labels, 0.0) + value
        for labels, distribution in family.distributions.items():
            sofar = known.distributions.get(labels)
            if sofar is None:
                known.distributions[labels] = Distribution(list(distribution.counts), distribution.total)
            else:
                sofar.counts = [a + b for a, b in zip(sofar.counts, distribution.counts, strict=True)]
                sofar.total += distribution.total
