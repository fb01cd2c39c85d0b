"""What values the options of ``@remote``, ``.options()`` and ``@method`` accept: one check per option, in tables.

A check takes the option's name and value, and raises ``TypeError`` or ``ValueError`` with a message for people.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from core.argument_checks import text
from core.specs import RESOURCE_UNIT

#: Above every amount that makes sense, and below what a message can hold.
MAX_AMOUNT = 2**62 // RESOURCE_UNIT
MAX_COUNT = 2**31 - 1
#: References that one call may return: each is made before the call begins.
MAX_RETURNS = 10_000_000

CheckValue = Callable[[str, Any], None]


def _type_error(name: str, expected: str, value: Any) -> TypeError:
    return TypeError(f"option {name} must be {expected}, got {type(value).__name__}: {value!r}")


def _instance(expected: str, *types: type) -> CheckValue:
    def check(name: str, value: Any) -> None:
        if value is not None and not isinstance(value, types):
            raise _type_error(name, f"{expected} or None", value)

    return check


def _text(name: str, value: Any) -> None:
    if value is not None:
        _instance("a str", str)(name, value)
        text(f"option {name}", value)


def count(*, minimum: int, maximum: int = MAX_COUNT, meaning: str = "") -> CheckValue:
    """Return a check for whole numbers from ``minimum`` to ``maximum``, or None."""

    def check(name: str, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise _type_error(name, "an int or None", value)
        if value < minimum:
            raise ValueError(f"option {name} must be at least {minimum}{meaning}, got {value}")
        if value > maximum:
            raise ValueError(f"option {name} must be at most {maximum:,}{meaning}, got {value:,}")

    return check


#: Said of counts where -1 is allowed.
UNLIMITED = " (-1 means unlimited)"


def _amount(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _type_error(name, "a number or None", value)
    if not 0 <= value < float("inf"):
        raise ValueError(f"the amount of {name} must not be negative or infinite, got {value}")
    if value > MAX_AMOUNT:
        raise ValueError(f"the amount of {name} is {value}; the largest amount is {MAX_AMOUNT:,}")
    if 0 < value < 1 / RESOURCE_UNIT:
        raise ValueError(f"the amount of {name} is {value}; the smallest amount is {1 / RESOURCE_UNIT}")
    if name in ("num_gpus", "GPU") and value > 1 and value != int(value):
        raise ValueError(f"{name} must be a whole number or a fraction below 1, got {value}")


def _check_resources(name: str, value: Any) -> None:
    _instance("a dict", Mapping)(name, value)
    for resource, amount in (value or {}).items():
        if not isinstance(resource, str) or not resource:
            raise _type_error(f"{name}: its key", "a non-empty str", resource)
        text(f"{name}: its key", resource)
        if resource in ("CPU", "GPU", "memory"):
            option = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}[resource]
            raise ValueError(f"use the option {option} instead of {resource!r} in resources")
        if amount is None:
            raise _type_error(f"{name}[{resource!r}]", "a number", amount)
        _amount(resource, amount)


def _check_num_returns(name: str, value: Any) -> None:
    if value is None or value in ("streaming", "dynamic"):
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise (ValueError if isinstance(value, str) else TypeError)(
            f"option num_returns must be a count, 'streaming', 'dynamic' or None, got {value!r}"
        )
    if value < 0:
        raise ValueError(f"option num_returns must be at least 0, got {value}")
    if value > MAX_RETURNS:
        raise ValueError(
            f"option num_returns must be at most {MAX_RETURNS:,}, got {value:,}; yield them from a generator"
        )


def _check_retry_exceptions(name: str, value: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, list | tuple):
        raise _type_error(name, "a bool or a list of exception types", value)
    for item in value:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            raise ValueError(f"option retry_exceptions lists exception types, got {item!r}")  # noqa: TRY004 - as in Ray


def _check_backpressure(name: str, value: Any) -> None:
    count(minimum=-1)(name, value)
    if value == 0:
        raise ValueError(f"option {name} must be positive (1: one item at a time), or -1 or None for no limit; got 0")


def _check_lifetime(name: str, value: Any) -> None:
    if value not in (None, "detached", "non_detached"):
        raise ValueError(f"option lifetime must be 'detached', 'non_detached' or None, got {value!r}")


def _check_concurrency_groups(name: str, value: Any) -> None:
    concurrency_groups(value)


def _not_supported(name: str, value: Any) -> None:
    if value:
        raise ValueError(f"option {name} is not supported yet")


def _no_actor_backpressure(name: str, value: Any) -> None:
    _check_backpressure(name, value)
    _not_supported(name, 0 if value == -1 else value)


def _no_object_store_memory(name: str, value: Any) -> None:
    if value is not None:
        raise ValueError(f"option {name} reserves nothing and is not accepted; objects spill to disk by themselves")


def _deprecated_object_store_memory(name: str, value: Any) -> None:
    count(minimum=0)(name, value)
    if value is not None:
        warnings.warn(f"option {name} of actors is deprecated and reserves nothing", DeprecationWarning, stacklevel=5)


def _anything(name: str, value: Any) -> None:
    """The value is checked where it is used."""


_COMMON_OPTIONS: dict[str, CheckValue] = {
    "num_cpus": _amount,
    "num_gpus": _amount,
    "memory": _amount,
    "resources": _check_resources,
    "accelerator_type": _text,
    "name": _text,
    "runtime_env": _anything,
    "scheduling_strategy": _anything,
    "label_selector": _instance("a dict", Mapping),
    "fallback_strategy": _instance("a list", list),
    "placement_group": _anything,
    "placement_group_bundle_index": count(minimum=-1),
    "placement_group_capture_child_tasks": _instance("a bool", bool),
    "enable_task_events": _instance("a bool", bool),
    "_labels": _instance("a dict", Mapping),
    "_metadata": _instance("a dict", Mapping),
}

TASK_OPTIONS: dict[str, CheckValue] = {
    **_COMMON_OPTIONS,
    "num_returns": _check_num_returns,
    "max_retries": count(minimum=-1, meaning=UNLIMITED),
    "retry_exceptions": _check_retry_exceptions,
    "max_calls": count(minimum=0, meaning=" (0 means unlimited)"),
    "object_store_memory": _no_object_store_memory,
    "_generator_backpressure_num_objects": _check_backpressure,
}

ACTOR_OPTIONS: dict[str, CheckValue] = {
    **_COMMON_OPTIONS,
    "max_restarts": count(minimum=-1, meaning=UNLIMITED),
    "max_task_retries": count(minimum=-1, meaning=UNLIMITED),
    "max_concurrency": count(minimum=1),
    "concurrency_groups": _check_concurrency_groups,
    "max_pending_calls": count(minimum=-1, meaning=UNLIMITED),
    "allow_out_of_order_execution": _instance("a bool", bool),
    "namespace": _text,
    "lifetime": _check_lifetime,
    "get_if_exists": _instance("a bool", bool),
    "object_store_memory": _deprecated_object_store_memory,
    "enable_tensor_transport": _not_supported,
    "_actor_generator_backpressure_num_objects": _no_actor_backpressure,
}

METHOD_OPTIONS: dict[str, CheckValue] = {
    "num_returns": _check_num_returns,
    "max_task_retries": count(minimum=-1, meaning=UNLIMITED),
    "retry_exceptions": _check_retry_exceptions,
    "concurrency_group": _text,
    "name": _text,
    "enable_task_events": _instance("a bool", bool),
    "tensor_transport": _not_supported,
    "_generator_backpressure_num_objects": _check_backpressure,
}

#: Names of all options that ``@remote`` takes, for functions or classes.
REMOTE_OPTIONS = tuple(dict.fromkeys([*TASK_OPTIONS, *ACTOR_OPTIONS]))


def check_options(given: Mapping[str, Any], table: Mapping[str, CheckValue], what: str) -> None:
    """Check every option a user gave against a table; ``what`` says in messages what the options are for."""
    for name, value in given.items():
        check = table.get(name)
        if check is None:
            raise ValueError(unknown_option(name, table, what))
        check(name, value)


def unknown_option(name: str, valid: Iterable[str], what: str) -> str:
    """Return the message for an option nobody knows: the closest valid one, and all of them."""
    names = list(valid)
    import difflib  # noqa: PLC0415 - only for errors, and `import core` is timed

    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown option {name!r} for {what}.{hint} Valid options are: {', '.join(names)}."


def concurrency_groups(given: Any) -> tuple[tuple[str, int], ...]:
    """Return pairs of name and limit from a dict, or from Ray's older list of dicts."""
    if given is None:
        return ()
    if isinstance(given, list):
        try:
            given = {group["name"]: group["max_concurrency"] for group in given}
        except (TypeError, KeyError):
            raise ValueError("concurrency_groups as a list needs dicts with name and max_concurrency") from None
    if not isinstance(given, Mapping):
        raise _type_error("concurrency_groups", "a dict of name to max_concurrency", given)
    for name, limit in given.items():
        if not isinstance(name, str) or not name:
            raise _type_error("concurrency_groups: its key", "a non-empty str", name)
        text("concurrency_groups: its key", name)
        count(minimum=1)(f"concurrency_groups[{name!r}]", limit)
        if limit is None:
            raise _type_error(f"concurrency_groups[{name!r}]", "an int", limit)
    return tuple(given.items())
