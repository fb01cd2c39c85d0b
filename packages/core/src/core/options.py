"""Options of ``@remote`` and ``.options()``: checked at the call, turned into frozen records that engines read.

Names, defaults and meanings are Ray's. An unknown option or a bad value raises at once, with the list of valid ones.
``given`` in a record is what the user wrote, so that ``updated`` can merge further options into it and check the whole
again. Resource amounts become fixed-point integers (:mod:`core.specs`), so that equal requests are equal records.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, structs

from core import option_checks
from core.option_checks import ACTOR_OPTIONS, METHOD_OPTIONS, TASK_OPTIONS, check_options
from core.runtime_env import normalise_runtime_env
from core.scheduling import LabelConstraint, label_selector, labels_of_strategy, strategy_of
from core.specs import RESOURCE_UNIT, LeaseSpec, Resources

#: Values of ``num_returns`` in the records that are no counts.
STREAMING = -1
DYNAMIC = -2

#: How often a task is run again after its worker died, unless it says otherwise.
DEFAULT_MAX_RETRIES = 3
#: Overrides :data:`DEFAULT_MAX_RETRIES` for a whole program.
MAX_RETRIES_VARIABLE = "SKATE_TASK_MAX_RETRIES"

ExceptionTypes = tuple[type[BaseException], ...]


class TaskOptions(Struct, frozen=True):
    """Options of one remote function (or of one call of it)."""

    #: resources, environment and strategy: the scheduling class
    lease: LeaseSpec
    #: number of references a call returns; STREAMING or DYNAMIC for generators
    num_returns: int = 1
    #: runs after the first when workers die; -1 for unlimited
    max_retries: int = DEFAULT_MAX_RETRIES
    #: errors of user code are retried too, within ``max_retries``
    retry_exceptions: bool = False
    #: which errors are retried; None for all. Only read when ``retry_exceptions``
    retry_on: ExceptionTypes | None = None
    #: a worker leaves after that many tasks of the function; 0 for never
    max_calls: int = 0
    #: shown to people instead of the function's name
    name: str = ""
    #: a streaming generator runs at most that many items ahead; 0 for no limit
    backpressure: int = 0
    #: labels that the node must have
    labels: tuple[LabelConstraint, ...] = ()
    is_generator: bool = False
    #: what the user wrote
    given: dict[str, Any] = {}

    @classmethod
    def of(cls, given: Mapping[str, Any], *, is_generator: bool = False) -> TaskOptions:
        """Check what a user gave to ``@remote`` for a function.

        Raises:
            ValueError, TypeError: an option is unknown or has a bad value.
        """
        check_options(given, TASK_OPTIONS, "remote functions")
        resources = _resources(given)
        resources.setdefault("CPU", RESOURCE_UNIT)
        retry, retry_on = _retry_exceptions(given)
        return cls(
            lease=_lease_spec(given, resources),
            num_returns=_num_returns(given, is_generator),
            max_retries=_number(given, "max_retries", _default_max_retries),
            retry_exceptions=retry,
            retry_on=retry_on,
            # A worker that used an accelerator may not give its memory back before it exits.
            max_calls=_number(given, "max_calls", lambda: 1 if resources.get("GPU") else 0),
            name=given.get("name") or "",
            backpressure=_backpressure(given),
            labels=_labels(given),
            is_generator=is_generator,
            given=dict(given),
        )

    def updated(self, changes: Mapping[str, Any]) -> TaskOptions:
        """Return these options with ``changes`` merged in, as ``.options(**changes)`` does.

        Raises:
            ValueError, TypeError: an option is unknown, has a bad value, or can only be set in the decorator.
        """
        _refuse_in_options(changes, "max_calls")
        return TaskOptions.of(_merged(self.given, changes), is_generator=self.is_generator)


class ActorOptions(Struct, frozen=True):
    """Options of one actor class (or of one actor of it)."""

    #: what it takes to place the actor
    placement: LeaseSpec
    #: what of ``placement`` the actor holds for life
    held: Resources = ()
    #: restarts after its process died; -1 for unlimited
    max_restarts: int = 0
    #: runs again of calls that a death of the process cut short; -1 for unlimited. Default of all methods
    max_task_retries: int = 0
    #: calls at the same time; 0 for the default of the class: 1, or 1000 if it has ``async`` methods
    max_concurrency: int = 0
    #: pairs of (name of the group, calls at the same time)
    concurrency_groups: tuple[tuple[str, int], ...] = ()
    #: unfinished calls one handle may have; -1 for unlimited
    max_pending_calls: int = -1
    #: calls may overtake earlier ones whose arguments are not there yet; None: only if they can run at the same time
    out_of_order: bool | None = None
    name: str = ""
    namespace: str = ""
    #: the actor outlives its handles and its driver
    detached: bool = False
    get_if_exists: bool = False
    #: labels that the node must have
    labels: tuple[LabelConstraint, ...] = ()
    #: what the user wrote
    given: dict[str, Any] = {}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ActorOptions:
        """Check what a user gave to ``@remote`` for a class.

        Raises:
            ValueError, TypeError: an option is unknown or has a bad value.
        """
        check_options(given, ACTOR_OPTIONS, "actors")
        _check_actor_name(given)
        held = _resources(given)
        # Ray's rule: memory alone does not count as asking for resources.
        if held.keys() <= {"memory"}:
            placed = {"CPU": RESOURCE_UNIT, **held}
        else:
            held.setdefault("CPU", RESOURCE_UNIT)
            placed = held
        return cls(
            placement=_lease_spec(given, placed),
            held=_fixed_point(held),
            max_restarts=_number(given, "max_restarts"),
            max_task_retries=_number(given, "max_task_retries"),
            max_concurrency=_number(given, "max_concurrency"),
            concurrency_groups=option_checks.concurrency_groups(given.get("concurrency_groups")),
            max_pending_calls=_number(given, "max_pending_calls", lambda: -1),
            out_of_order=given.get("allow_out_of_order_execution"),
            name=given.get("name") or "",
            namespace=given.get("namespace") or "",
            detached=given.get("lifetime") == "detached",
            get_if_exists=bool(given.get("get_if_exists")),
            labels=_labels(given),
            given=dict(given),
        )

    def updated(self, changes: Mapping[str, Any]) -> ActorOptions:
        """Return these options with ``changes`` merged in, as ``.options(**changes)`` does.

        Raises:
            ValueError, TypeError: an option is unknown, has a bad value, or can only be set in the decorator.
        """
        _refuse_in_options(changes, "concurrency_groups")
        return ActorOptions.of(_merged(self.given, changes))


class MethodOptions(Struct, frozen=True):
    """Options of one method of an actor (or of one call of it)."""

    #: number of references a call returns; STREAMING or DYNAMIC for generators
    num_returns: int = 1
    #: None for what the actor says
    max_task_retries: int | None = None
    retry_exceptions: bool = False
    retry_on: ExceptionTypes | None = None
    #: "" for the default group
    concurrency_group: str = ""
    #: shown to people instead of the method's name
    name: str = ""
    backpressure: int = 0
    is_generator: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any], *, is_generator: bool = False) -> MethodOptions:
        """Check what a user gave to ``@method``.

        Raises:
            ValueError, TypeError: an option is unknown or has a bad value.
        """
        return cls(num_returns=STREAMING if is_generator else 1, is_generator=is_generator).updated(given)

    def updated(self, changes: Mapping[str, Any]) -> MethodOptions:
        """Return these options with ``changes`` merged in, as ``handle.method.options(**changes)`` does.

        Raises:
            ValueError, TypeError: an option is unknown or has a bad value.
        """
        if not changes:
            return self
        check_options(changes, METHOD_OPTIONS, "actor methods")
        new: dict[str, Any] = {}
        if changes.get("num_returns") is not None:
            new["num_returns"] = _num_returns(changes, self.is_generator)
        if changes.get("max_task_retries") is not None:
            new["max_task_retries"] = changes["max_task_retries"]
        if changes.get("retry_exceptions") is not None:
            new["retry_exceptions"], new["retry_on"] = _retry_exceptions(changes)
        if "_generator_backpressure_num_objects" in changes:
            new["backpressure"] = _backpressure(changes)
        new.update({key: changes[key] or "" for key in ("concurrency_group", "name") if key in changes})
        return structs.replace(self, **new)


def _refuse_in_options(changes: Mapping[str, Any], name: str) -> None:
    if name in changes:
        raise ValueError(f"{name} can only be set in the @remote decorator, not in .options()")


def _merged(given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**given, **changes}
    if given.get("_metadata") and changes.get("_metadata"):
        merged["_metadata"] = {**given["_metadata"], **changes["_metadata"]}
    return merged


def _number(given: Mapping[str, Any], name: str, default: Callable[[], int] = lambda: 0) -> int:
    value: int | None = given.get(name)
    return default() if value is None else value


def _default_max_retries() -> int:
    text = os.environ.get(MAX_RETRIES_VARIABLE)
    if text is None:
        return DEFAULT_MAX_RETRIES
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{MAX_RETRIES_VARIABLE} must be a whole number, got {text!r}") from None
    option_checks.count(minimum=-1, meaning=option_checks.UNLIMITED)(MAX_RETRIES_VARIABLE, value)
    return value


def _resources(given: Mapping[str, Any]) -> dict[str, int]:
    """Return the resources the user named, in units, zeros included."""
    named: dict[str, Any] = {
        "CPU": given.get("num_cpus"),
        "GPU": given.get("num_gpus"),
        "memory": given.get("memory"),
        **(given.get("resources") or {}),
    }
    units = {name: round(amount * RESOURCE_UNIT) for name, amount in named.items() if amount is not None}
    if given.get("accelerator_type"):
        # Ray's device: each node with such an accelerator offers one of these, a task takes a sliver of it.
        units[f"accelerator_type:{given['accelerator_type']}"] = RESOURCE_UNIT // 1000
    return units


def _fixed_point(units: Mapping[str, int]) -> Resources:
    return tuple(sorted((name, amount) for name, amount in units.items() if amount))


def _lease_spec(given: Mapping[str, Any], units: Mapping[str, int]) -> LeaseSpec:
    resources = _fixed_point(units)
    return LeaseSpec(
        resources=resources,
        runtime_env=normalise_runtime_env(given.get("runtime_env")),
        strategy=strategy_of(_requested_strategy(given), resources),
    )


class _DeprecatedGroup(Struct, frozen=True):
    """The options ``placement_group*``, in the shape of a ``PlacementGroupSchedulingStrategy``."""

    placement_group: Any
    placement_group_bundle_index: int
    placement_group_capture_child_tasks: bool | None


def _requested_strategy(given: Mapping[str, Any]) -> Any:
    group, strategy = given.get("placement_group"), given.get("scheduling_strategy")
    index = _number(given, "placement_group_bundle_index", lambda: -1)
    if group is None or group == "default":
        if index != -1:
            raise ValueError(f"placement_group_bundle_index is {index}, but no placement_group is given to count in")
        return strategy
    if strategy is not None:
        raise ValueError("give the placement group in scheduling_strategy; the option placement_group is deprecated")
    return _DeprecatedGroup(group, index, given.get("placement_group_capture_child_tasks"))


def _labels(given: Mapping[str, Any]) -> tuple[LabelConstraint, ...]:
    return label_selector(given.get("label_selector")) + labels_of_strategy(given.get("scheduling_strategy"))


def _num_returns(given: Mapping[str, Any], is_generator: bool) -> int:
    value = given.get("num_returns")
    if value is None:
        return STREAMING if is_generator else 1
    if isinstance(value, int):
        return value
    if not is_generator:
        raise ValueError(f"num_returns={value!r} is for generator functions (with a yield) only")
    return DYNAMIC if value == "dynamic" else STREAMING


def _retry_exceptions(given: Mapping[str, Any]) -> tuple[bool, ExceptionTypes | None]:
    value = given.get("retry_exceptions")
    if isinstance(value, list | tuple):
        return bool(value), tuple(value)
    return bool(value), None


def _backpressure(given: Mapping[str, Any]) -> int:
    return max(0, given.get("_generator_backpressure_num_objects") or 0)


def _check_actor_name(given: Mapping[str, Any]) -> None:
    for option in ("name", "namespace"):
        if given.get(option) == "":
            raise ValueError(f"option {option} of an actor must not be empty; leave it out for none")
    if given.get("get_if_exists") and not given.get("name"):
        raise ValueError("get_if_exists needs the option name: only a named actor can be found again")
