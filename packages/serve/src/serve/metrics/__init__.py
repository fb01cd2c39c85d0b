"""Numbers of Serve: what it counts of itself, and what the code of deployments counts (Ray Serve's names)."""

from __future__ import annotations

from serve.metrics.user import Counter, Gauge, Histogram

__all__ = ["Counter", "Gauge", "Histogram"]
