"""Runs a function as a trial: what it reports, returns or yields are its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from numbers import Number
from typing import Any

from tune.checkpoint import Checkpoint
from tune.trial import Config
from tune.trial_process import session

#: Ray's name for the number that a function returns or yields instead of a dictionary.
DEFAULT_METRIC = "_metric"


def run_function(function: Callable[[Config], Any], config: Config) -> None:
    """Run it to its end.

    Raises:
        TrialStopped: the trial is to end.
        TypeError: it returned or yielded something that is no result.
        Whatever the function raises.
    """
    returned = function(config)
    if isinstance(returned, Iterator):
        try:
            for item in returned:
                _report(item, "yielded")
        finally:
            close = getattr(returned, "close", None)
            if close is not None:
                close()
    elif returned is not None:
        _report(returned, "returned")


def _report(item: Any, verb: str) -> None:
    match item:
        case Mapping():
            session.report(dict(item))
        case Number():
            session.report({DEFAULT_METRIC: item})
        case (Mapping() as metrics, Checkpoint() as checkpoint):
            session.report(dict(metrics), checkpoint=checkpoint)
        case _:
            raise TypeError(
                f"the trial's function {verb} {type(item).__name__}: {item!r:.200}; a result is a dict of metrics, a "
                "number, or a dict with a Checkpoint"
            )
