"""Results as text: JSON lines, and flat names to values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from tune.result import CONFIG, DATE, HOSTNAME, PID, TIMESTAMP, TRIAL_ID, format_date
from tune.trial import Config, Result, Trial


def plain(value: object) -> object:
    """Turn what JSON has no word for into what it has: numbers and lists of numpy and torch, the text of the rest."""
    to_list = getattr(value, "tolist", None)
    return to_list() if callable(to_list) else str(value)


_ENCODER = msgspec.json.Encoder(enc_hook=plain)


def json_line(values: Mapping[str, Any]) -> bytes:
    """Return values as one line of JSON, with ``NaN`` and ``Infinity`` as Python's `json` and pandas write them."""
    return json.dumps(values, default=plain, skipkeys=True).encode() + b"\n"


def json_lines(results: Sequence[Result], config: Config) -> bytes:
    """Return results as lines of JSON, each with the configuration, as Ray's ``result.json`` has it."""
    encoded = msgspec.Raw(_ENCODER.encode(config))
    lines = _ENCODER.encode_lines([{**result, CONFIG: encoded} for result in results])
    if b"null" not in lines:
        return lines
    # msgspec writes what is not finite as null; these few are worth the slower encoder that does not
    return b"".join(json_line({**result, CONFIG: config}) for result in results)


def completed(results: Sequence[Result], trial: Trial) -> list[Result]:
    """Return copies of results with what is the same for all of an attempt: whose they are, and which process's."""
    constant = {TRIAL_ID: trial.trial_id, PID: trial.pid, HOSTNAME: trial.hostname}
    return [{**result, DATE: _date(result.get(TIMESTAMP)), **constant} for result in results]


@lru_cache(maxsize=16)
def _date(timestamp: float | None) -> str:
    return "" if timestamp is None else format_date(timestamp)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with ``a/b`` for ``b`` inside of ``a``; empty ones vanish."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
