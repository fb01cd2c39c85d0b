"""What the sweep's metrics say about a result: as schedulers and searchers may see it, or why it cannot be judged."""

from __future__ import annotations

import math

from tune.result import lookup
from tune.trial import FailureKind, Result, TrialFailure


class Judge:
    """Looks at the metrics of results.

    Args:
        metrics: names; none if the sweep has no metric.
        modes: ``"min"`` or ``"max"`` for each.
        strict: a metric that is missing or NaN is the trial's failure; else NaN counts as the worst value there is, and
            a result without the metric is nothing to learn from.
    """

    def __init__(self, metrics: tuple[str, ...], modes: tuple[str, ...], strict: bool) -> None:
        self._metrics = metrics
        self._worst = {
            name: math.inf if mode == "min" else -math.inf for name, mode in zip(metrics, modes, strict=True)
        }
        self._strict = strict

    def judge(self, result: Result) -> Result | TrialFailure | None:
        """Return the result as others may see it, a failure, or None if there is nothing to learn from it."""
        seen = result
        for name in self._metrics:
            value = result.get(name)
            if type(value) is float and value == value:  # noqa: PLR0124 - the quick way to ask for NaN; the usual case
                continue
            if value is None and "/" in name:
                value = lookup(result, name)
                if value is not None:
                    seen = {**seen, name: value}  # a nested metric, where everybody looks for it
            problem = _problem(name, value, result)
            if problem is None:
                continue
            if self._strict:
                return TrialFailure(FailureKind.BAD_METRIC, "BadMetric", problem)
            if value is None:
                return None
            seen = {**seen, name: self._worst[name]}
        return seen

    def silence(self) -> TrialFailure | None:
        """Return what is wrong with a trial that ended without any result, None if nothing is."""
        if not (self._metrics and self._strict):
            return None
        return TrialFailure(
            FailureKind.NEVER_REPORTED,
            "NeverReported",
            f"the trial ended without reporting anything; the sweep needs {_listed(self._metrics)}: call "
            "tune.report({...}) or return a dict",
        )


def _problem(name: str, value: object, result: Result) -> str | None:
    if value is None:
        return (
            f"a result has no {name!r}, which the sweep needs; it has {_listed(tuple(result))}. Report it with every "
            "result, or set TUNE_DISABLE_STRICT_METRIC_CHECKING=1"
        )
    try:
        bad = math.isnan(value)  # type: ignore[arg-type]  # whatever was reported
    except (TypeError, OverflowError):
        return f"{name!r} is a {type(value).__name__}; the sweep needs a number"
    return f"{name!r} is NaN" if bad else None


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names)
