"""What runs in the session now (``ray.util.state``): actors, tasks, objects, nodes, workers, placement groups.

Rows are dictionaries whose keys can be read as attributes too. Of the tasks that ended only the last are remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from core import current
from core.exceptions import RayError
from core.refs import ObjectRef

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
    """Return tasks and actor calls of the session, unfinished ones first (arguments as for :func:`list_actors`).

    One row per attempt, with Ray's columns: ``task_id``, ``attempt_number``, ``name``, ``state``, ``type``,
    ``actor_id``, ``parent_task_id``, ``node_id``, ``worker_pid``, ``start_time_ms``, ``end_time_ms``, ``error_type``,
    ``error_message`` and so on. Every process tells what it submitted, up to 10,000 rows, and remembers its last
    20,000 that ended; a process that does not answer within a second is left out.
    """
    return _list("tasks", address, filters, limit)


def list_objects(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[StateRow]:
    """Return the objects in the object store, in memory or on disk (arguments as for :func:`list_actors`).

    Values up to 100 KiB are kept by the process that made them, and are not listed.
    """
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
    return _get("actors", "actor_id", id, address)


def get_node(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = 30,
) -> StateRow | None:
    """Return the row of one node by its id in hexadecimal, None if there is none."""
    return _get("nodes", "NodeID", id, address)


def get_worker(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = 30,
) -> StateRow | None:
    """Return the row of one worker process by its id in hexadecimal, None if there is none."""
    return _get("workers", "worker_id", id, address)


def get_placement_group(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = 30,
) -> StateRow | None:
    """Return the row of one placement group by its id in hexadecimal, None if there is none."""
    return _get("placement_groups", "placement_group_id", id, address)


def get_task(
    id: str | ObjectRef[Any],  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = 30,
) -> StateRow | list[StateRow] | None:
    """Return the row of one task, a list of rows if it was tried several times, None if nobody remembers it.

    Args:
        id: the task's id in hexadecimal, or a reference to what it returns.
        address: as for :func:`list_actors`.
        timeout: accepted for compatibility; without effect.
    """
    wanted = id.task_id().hex() if isinstance(id, ObjectRef) else id
    rows = _list("tasks", address, [("task_id", "=", wanted)], MAX_LIMIT)
    return rows if len(rows) > 1 else rows[0] if rows else None


def get_objects(
    id: str,  # noqa: A002 - Ray's name
    address: str | None = None,
    timeout: float = 30,
) -> list[StateRow]:
    """Return the rows of one object by its id in hexadecimal."""
    return _list("objects", address, [("object_id", "=", id)], MAX_LIMIT)


def summarize_actors(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """Return how many actors of each class are in each state, in Ray's shape: under ``"cluster"``."""
    rows = _rows("actors", address)
    summary = {name: {"class_name": name, "state_counts": counts} for name, counts in _counts(rows, "class_name")}
    return {"cluster": {"summary": summary, "total_actors": len(rows), "summary_by": "class"}}


def summarize_tasks(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """Return how many tasks and calls of each name are in each state, in Ray's shape: under ``"cluster"``."""
    rows = _rows("tasks", address)
    types = {row.name: row.type for row in rows}
    calls = sum(row.type == "ACTOR_TASK" for row in rows)
    return {
        "cluster": {
            "summary": {
                name: {"func_or_class_name": name, "type": types[name], "state_counts": counts}
                for name, counts in _counts(rows, "name")
            },
            "total_tasks": len(rows) - calls,
            "total_actor_tasks": calls,
            "total_actor_scheduled": len(_rows("actors", address)),
            "summary_by": "func_name",
        }
    }


def summarize_objects(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """Return how many objects the store has and how large they are, in Ray's shape: under ``"cluster"``.

    Call sites are not recorded, so everything is summed up under ``"disabled"``.
    """
    rows = _rows("objects", address)
    totals = {"total_objects": len(rows), "total_size_mb": sum(row.object_size for row in rows) / 1024**2}
    return {
        "cluster": {
            "summary": {"disabled": totals} if rows else {},
            **totals,
            "callsite_enabled": False,
            "summary_by": "callsite",
        }
    }


def _get(what: str, column: str, wanted: str, address: str | None) -> StateRow | None:
    return next(iter(_list(what, address, [(column, "=", wanted)], 1)), None)


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


def _counts(rows: Iterable[StateRow], by: str) -> Iterable[tuple[str, dict[str, int]]]:
    """Yield, for each value in the column ``by``, how many rows are in each state."""
    groups: dict[str, Counter[str]] = {}
    for row in rows:
        groups.setdefault(row[by], Counter())[row["state"]] += 1
    for name, counts in groups.items():
        yield name, dict(counts)
