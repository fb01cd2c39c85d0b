"""What runs in the session now (``ray.util.state``): actors, tasks, objects, nodes, workers, placement groups.

Rows are dictionaries whose keys can be read as attributes too. Only what the engine knows is there: finished tasks
leave no rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from core import current
from core.exceptions import RayError

#: Largest ``limit``, as in Ray.
MAX_LIMIT = 10_000

#: (key, "=" or "!=", value)
Filter = tuple[str, str, Any]


class RayStateApiException(RayError):  # noqa: N818 - Ray's name
    """The state cannot be told: no engine runs, or the question makes no sense."""


class StateRow(dict[str, Any]):
    """A row of a ``list_*`` function."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this row has no {name!r}; it has {', '.join(map(repr, self))}") from None


def list_actors(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[StateRow]:
    """Return the actors of the session, dead ones too as long as the engine remembers them.

    Args:
        address: None or ``"auto"``: the session of this process. Others cannot be asked yet.
        filters: rows must satisfy all; values are compared as text, regardless of case.
        limit: how many rows at most, up to 10,000.
        timeout: accepted for compatibility; without effect.
        detail: accepted for compatibility; rows always hold all there is.
        raise_on_missing_output: accepted for compatibility; without effect.

    Raises:
        ValueError: a filter or the limit makes no sense.
        RayStateApiException: no engine runs here, or another session is asked for.
    """
    return _list("actors", address, filters, limit)


def list_tasks(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[StateRow]:
    """Return the unfinished tasks this process submitted (arguments as for :func:`list_actors`)."""
    return _list("tasks", address, filters, limit)


def list_objects(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[StateRow]:
    """Return the objects in shared memory (arguments as for :func:`list_actors`)."""
    return _list("objects", address, filters, limit)


def list_nodes(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[StateRow]:
    """Return the nodes (arguments as for :func:`list_actors`)."""
    return _list("nodes", address, filters, limit)


def list_workers(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[StateRow]:
    """Return the worker processes (arguments as for :func:`list_actors`)."""
    return _list("workers", address, filters, limit)


def list_placement_groups(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[StateRow]:
    """Return the placement groups (arguments as for :func:`list_actors`)."""
    return _list("placement_groups", address, filters, limit)


def get_actor(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = 30,
) -> StateRow | None:
    """Return the row of one actor by its id in hexadecimal, None if there is none."""
    return next(iter(_list("actors", address, [("actor_id", "=", id)], 1)), None)


def summarize_actors(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """Return how many actors of each class are in each state."""
    rows = _rows("actors", address)
    return _summary(rows, "class_name", total_actors=len(rows))


def summarize_tasks(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """Return how many unfinished tasks of each function are in each state."""
    rows = _rows("tasks", address)
    return _summary(rows, "name", total_tasks=len(rows))


def summarize_objects(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """Return how many objects there are and how many bytes they hold."""
    rows = _rows("objects", address)
    return {"total_objects": len(rows), "total_size_bytes": sum(int(row.get("object_size", 0)) for row in rows)}


def _list(what: str, address: str | None, filters: Sequence[Filter] | None, limit: int) -> list[StateRow]:
    if not 0 < limit <= MAX_LIMIT:
        raise ValueError(f"limit must be between 1 and {MAX_LIMIT}, got {limit}")
    tests = [_checked(given) for given in filters or ()]
    rows = (row for row in _rows(what, address) if all(_passes(row, test) for test in tests))
    return [row for row, _ in zip(rows, range(limit), strict=False)]


def _rows(what: str, address: str | None) -> list[StateRow]:
    if address not in (None, "auto"):
        raise RayStateApiException(f"only the session of this process can be asked, not {address!r}")
    if current.engine is None:
        raise RayStateApiException("Skate is not running in this process: call core.init() first")
    return [StateRow({key: _readable(value) for key, value in row.items()}) for row in current.engine.query(what)]


def _readable(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _checked(given: Any) -> Filter:
    if len(given) != 3 or given[1] not in ("=", "!="):
        raise ValueError(f"a filter is (key, '=' or '!=', value), got {given!r}")
    key, operator, value = given
    return key, operator, value


def _passes(row: StateRow, test: Filter) -> bool:
    key, operator, value = test
    if key not in row:
        raise ValueError(f"there is no column {key!r} to filter by; there are {', '.join(map(repr, row))}")
    return (str(row[key]).lower() == str(value).lower()) == (operator == "=")


def _summary(rows: Iterable[StateRow], by: str, **totals: int) -> dict[str, Any]:
    groups: dict[str, Counter[str]] = {}
    for row in rows:
        groups.setdefault(str(row.get(by, "")), Counter())[str(row.get("state", ""))] += 1
    return {"summary": {name: {"state_counts": dict(counts)} for name, counts in groups.items()}, **totals}
