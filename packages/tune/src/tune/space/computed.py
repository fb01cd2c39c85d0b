"""``sample_from``: values that functions compute from the rest of the configuration, in whatever order they need.

A function is given a view that holds only what has a value yet. Reading a value that is still to be computed ends the
call, which is tried again after the others; functions that wait for one another are an error.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tune.space.tree import Build, Deferred, has_domains


class _NotYetError(Exception):
    """A function read a value that another function has yet to compute."""


class ConfigView(dict[Any, Any]):
    """What a ``sample_from`` function sees: the configuration, with items as attributes too.

    ``view["a"]["b"]``, ``view.a.b`` and Ray's older ``view.config.a.b`` are the same.
    """

    def __init__(self, config: dict[Any, Any]) -> None:
        super().__init__((key, _seen(value)) for key, value in config.items() if type(value) is not Deferred)
        self._waiting = {key for key, value in config.items() if type(value) is Deferred}

    def __missing__(self, key: Any) -> Any:
        if key in self._waiting:
            raise _NotYetError
        if key == "config":
            return self
        raise KeyError(key)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the configuration has no {name!r}; it has {sorted(map(str, self))}") from None

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a value or the default; a value still to be computed is waited for."""
        return self[key] if key in self or key in self._waiting else default


class ListView(list[Any]):
    """A list in a `ConfigView`: reading a value that is still to be computed waits for it."""

    def __getitem__(self, index: Any) -> Any:
        value = super().__getitem__(index)
        if type(value) is Deferred or (isinstance(index, slice) and any(type(part) is Deferred for part in value)):
            raise _NotYetError
        return value

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


def compute(config: dict[Any, Any], build: Build, seed: Sequence[int] | None) -> dict[str, Any]:
    """Put all computed values in their places and return them by name.

    Args:
        config: the configuration, changed in place.
        build: its construction.
        seed: for the global generators while the functions run; None leaves them alone.

    Raises:
        ValueError: functions need one another, or return search spaces.
    """
    values: dict[str, Any] = {}
    waiting = build.deferred
    with _seeded(seed):
        while waiting:
            late = [deferred for deferred in waiting if not _try(config, deferred, values)]
            if len(late) == len(waiting):
                names = ", ".join(repr(deferred.name) for deferred in late)
                raise ValueError(f"sample_from functions need one another's values: {names}. One must do without.")
            waiting = late
    if build.tuples:
        _freeze(config, build.tuples)
    return values


def _try(config: dict[Any, Any], deferred: Deferred, values: dict[str, Any]) -> bool:
    try:
        value = deferred.domain.sample(ConfigView(config))
    except _NotYetError:
        return False
    if has_domains(value):
        raise ValueError(
            f"sample_from at {deferred.name!r} returned a search space, {value!r}. Return a value; a space that "
            f"depends on another parameter is a tune.choice between dicts, or a function of a trial."
        )
    deferred.container[deferred.key] = values[deferred.name] = value
    return True


def _seen(value: Any) -> Any:
    if isinstance(value, dict):
        return ConfigView(value)
    return ListView(map(_seen, value)) if type(value) is list else value


def _freeze(value: Any, lists: set[int]) -> Any:
    """Turn the marked lists into the tuples they stand for."""
    if isinstance(value, dict):
        for key, part in value.items():
            value[key] = _freeze(part, lists)
    elif type(value) is list:
        value[:] = [_freeze(part, lists) for part in value]
        if id(value) in lists:
            return tuple(value)
    return value


@contextmanager
def _seeded(seed: Sequence[int] | None) -> Iterator[None]:
    """Seed the global generators of Python and numpy for a while: they are what these functions draw from."""
    if seed is None:
        yield
        return
    numpy = sys.modules.get("numpy")
    ours = random.getstate()
    theirs = None if numpy is None else numpy.random.get_state()
    text = repr(list(seed))
    random.seed(text)
    if numpy is not None:
        numpy.random.seed(zlib.crc32(text.encode()))
    try:
        yield
    finally:
        random.setstate(ours)
        if numpy is not None:
            numpy.random.set_state(theirs)
