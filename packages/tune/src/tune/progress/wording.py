"""Numbers, durations and one-line statements as people read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tune.progress.summary import Summary


def duration(seconds: float) -> str:
    """Return ``0:05``, ``12:30``, ``3:07:00``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def cell(value: Any, width: int | None = None) -> str:
    """Return a value as one line of text, cut in the middle to `width` characters."""
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif value is None:
        text = ""
    else:
        text = " ".join(str(value).split())
    if width is None or len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def rate(per_second: float) -> str:
    """Return ``12/s``, ``3.5/min``, ``2/h``."""
    for unit, factor in (("s", 1), ("min", 60), ("h", 3600)):
        if per_second * factor >= 1 or unit == "h":
            return f"{per_second * factor:.3g} trials/{unit}"
    raise AssertionError


def counts(summary: Summary) -> str:
    """Return ``2 running, 30 terminated, 1 error``."""
    return ", ".join(f"{count} {status.value.lower().replace('_', ' ')}" for status, count in summary.counts.items())


def resources(used: Mapping[str, float], cluster: Mapping[str, float]) -> str:
    """Return ``2/4 CPU, 0/1 GPU``; what nobody has or uses is left out."""
    names = [name for name in ("CPU", "GPU") if cluster.get(name) or used.get(name)]
    names += sorted(name for name in used if name not in ("CPU", "GPU", "memory") and used[name])
    return ", ".join(
        f"{used.get(name, 0):g}/{cluster[name]:g} {name}" if name in cluster else f"{used[name]:g} {name}"
        for name in names
    )


def best(summary: Summary, metric: str, width: int | None = None) -> str:
    """Return ``loss=0.031 (trial_00012: lr=0.01, depth=3)``; empty if no trial is best."""
    if summary.best is None:
        return ""
    params = ", ".join(f"{name}={cell(value, width)}" for name, value in summary.best.evaluated_params.items())
    return f"{metric}={cell(summary.best_value)} ({summary.best}{': ' if params else ''}{params})"


def one_line(summary: Summary, metric: str | None) -> str:
    """Return everything in one line, for logs."""
    total = "" if summary.total is None else f"/{summary.total}"
    parts = [f"{duration(summary.elapsed_s)}  {summary.finished}{total} trials ({counts(summary)})"]
    if metric is not None and summary.best is not None:
        parts.append(f"best {best(summary, metric, 20)}")
    if summary.ended:
        parts.append(rate(summary.rate))
    if summary.eta_s:
        parts.append(f"about {duration(summary.eta_s)} left")
    return " | ".join(parts)
