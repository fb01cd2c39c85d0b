"""This process as a source of numbers: what Serve counts here, and what the user's code counts with core's metrics."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from typing import Final

from core.util.metrics import REGISTRY
from serve.metrics.report import Distribution, Failure, Family, Report
from serve.metrics.user import RESERVED, replica_tags

#: tells this process from others, also where a process id comes again
PROCESS: Final = f"{os.getpid()}-{secrets.token_hex(4)}"


def report(
    *,
    ongoing: int,
    queued: dict[str, int],
    families: Iterable[Family],
    log: str = "",
    failures: Iterable[Failure] = (),
) -> Report:
    """Return what this process tells the collector.

    Args:
        ongoing: requests that are being worked on.
        queued: requests in line, by deployment.
        families: what Serve counted.
        log: path of its log.
        failures: what requests ended with since the last report.
    """
    return Report(_process(), ongoing, queued, [*families, *_of_users()], log, list(failures))


def _process() -> str:
    # a forked process inherits the constant, and has another id
    return PROCESS if PROCESS.startswith(f"{os.getpid()}-") else f"{os.getpid()}-{PROCESS}"


def _of_users() -> list[Family]:
    tags = replica_tags()
    families = []
    for series in REGISTRY.collect():
        family = Family(series.kind, series.name, series.description, series.boundaries, {}, {})
        for labels, value in series.values.items():
            family.values[_tagged(labels, tags)] = value
        for labels, buckets in series.buckets.items():
            family.distributions[_tagged(labels, tags)] = Distribution(buckets.counts, buckets.total)
        families.append(family)
    return families


def _tagged(labels: tuple[tuple[str, str], ...], tags: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Say whose number it is, where a metric of core does not, so that those of several replicas stay apart."""
    if any(name in RESERVED for name, _ in labels):
        return labels
    return tuple(sorted((*tags, *labels)))
