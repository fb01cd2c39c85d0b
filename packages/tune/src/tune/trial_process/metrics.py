"""Metrics as they leave a trial: checked where they are reported, so that an error points at the line that caused it.

What travels is plain: Python's scalars, and containers of them. Scalars of numpy and torch become Python's. Anything
else is pickled here and now (`Opaque`), because it may change after the report, because only here its failure has an
author, and because the driver may lack the module to unpickle it, which must cost no more than this one trial.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import cloudpickle
import msgspec

import core
from core.util import inspect_serializability
from tune.trial import Result

#: Exact types that travel as they are.
PLAIN = frozenset({float, int, str, bool, type(None)})


class UnpicklableMetricError(TypeError):
    """A reported value cannot be sent to the driver; the message names the path to it."""


class Opaque(msgspec.Struct, frozen=True):
    """A value that is none of Python's own: pickled."""

    blob: bytes


def clean(metrics: Any) -> tuple[Result, bool]:
    """Return a copy of reported metrics, fit to travel, and whether they are all `PLAIN`.

    Raises:
        TypeError: they are no dictionary with strings as names.
        UnpicklableMetricError: a value cannot be pickled.
    """
    if type(metrics) is not dict:
        if not isinstance(metrics, Mapping):
            raise TypeError(
                f'tune.report() takes a dict of metrics, like {{"loss": 0.1}}, got {type(metrics).__name__}: '
                f"{metrics!r:.200}"
            )
        metrics = dict(metrics)
    for name, value in metrics.items():
        if type(value) not in PLAIN or type(name) is not str:
            return _clean_slowly(metrics)
    return metrics.copy(), True


def _clean_slowly(metrics: dict[Any, Any]) -> tuple[Result, bool]:
    result: Result = {}
    plain = True
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise TypeError(f"names of metrics must be strings, got {type(name).__name__}: {name!r}")
        cleaned = result[str(name)] = _clean_value(value, f"metrics[{name!r}]")
        plain = plain and type(cleaned) in PLAIN
    return result, plain


def _clean_value(value: Any, path: str) -> Any:
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is dict:
        return {key: _clean_value(item, f"{path}[{key!r}]") for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(_clean_value(item, f"{path}[{index}]") for index, item in enumerate(value))
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        # A scalar of numpy, torch or one of their kind.
        scalar = value.item()
        if type(scalar) in PLAIN:
            return scalar
    return Opaque(_pickle(value, path))


def _pickle(value: Any, path: str) -> bytes:
    if isinstance(value, core.ObjectRef):
        raise UnpicklableMetricError(f"{path} is an ObjectRef, which ends with its trial: report core.get(it)")
    try:
        blob: bytes = cloudpickle.dumps(value, protocol=5)
    except Exception as error:
        raise UnpicklableMetricError(f"{_culprit(value, path)} cannot be pickled: {error}") from error
    return blob


def _culprit(value: Any, path: str) -> str:
    """Return the path to the innermost part that cannot be pickled."""
    _, failures = inspect_serializability(value, name=path, depth=6, print_file=io.StringIO())
    steps = min((failure.path for failure in failures), key=len, default=(path,))
    return steps[0] + "".join(step if step.startswith((".", "[")) else f" -> {step}" for step in steps[1:])


def reveal(value: Any) -> Any:
    """Return a cleaned value with what is pickled in it unpickled (in the driver).

    Raises:
        Whatever unpickling raises.
    """
    if type(value) is Opaque:
        return cloudpickle.loads(value.blob)
    if type(value) is dict:
        return {key: reveal(item) for key, item in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(reveal(item) for item in value)
    return value
