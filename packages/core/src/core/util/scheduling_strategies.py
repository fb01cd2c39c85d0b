"""Where a task or actor may run: values for the option ``scheduling_strategy`` (``ray.util.scheduling_strategies``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.ids import NODE_ID_BYTES

if TYPE_CHECKING:
    from core.util.placement_group import PlacementGroup


@dataclass(eq=False)
class PlacementGroupSchedulingStrategy:
    """Run inside a placement group.

    Args:
        placement_group: the group; None for none.
        placement_group_bundle_index: the bundle to use, counted from 0; -1 for any.
        placement_group_capture_child_tasks: whether what the task submits runs in the group too; default: no.
    """

    placement_group: PlacementGroup | None
    placement_group_bundle_index: int = -1
    placement_group_capture_child_tasks: bool | None = None


@dataclass(eq=False)
class NodeAffinitySchedulingStrategy:
    """Run on one node.

    Args:
        node_id: the node's id in hexadecimal, as ``core.nodes()`` and ``get_node_id()`` give it.
        soft: whether another node may be used if that one is gone or could never run the task; otherwise the task
            fails with ``TaskUnschedulableError``.

    Raises:
        ValueError: ``node_id`` is no hexadecimal id, or the options contradict each other.
    """

    node_id: str
    soft: bool
    _spill_on_unavailable: bool = False
    _fail_on_unavailable: bool = False

    def __post_init__(self) -> None:
        if not _is_id(self.node_id):
            raise ValueError(
                f"Invalid node_id {self.node_id!r}. Node ID must be a valid hex string. "
                "To get a list of all nodes and their IDs in your cluster, use core.nodes()."
            )
        if self._spill_on_unavailable and not self.soft:
            raise ValueError("_spill_on_unavailable cannot be set when soft is False.")
        if self._fail_on_unavailable and self.soft:
            raise ValueError("_fail_on_unavailable cannot be set when soft is True.")


def _is_id(text: str) -> bool:
    """Tell whether ``text`` is a whole, non-nil id in hexadecimal."""
    try:
        raw = bytes.fromhex(text)
    except (TypeError, ValueError):
        return False
    return len(raw) == NODE_ID_BYTES and raw != b"\xff" * NODE_ID_BYTES


class In:
    """The label has one of these values."""

    def __init__(self, *values: str) -> None:
        self.values: list[str] = _label_values("In", values)

    def __repr__(self) -> str:
        return f"In({', '.join(map(repr, self.values))})"


class NotIn:
    """The label has none of these values, or the node has no such label."""

    def __init__(self, *values: str) -> None:
        self.values: list[str] = _label_values("NotIn", values)

    def __repr__(self) -> str:
        return f"NotIn({', '.join(map(repr, self.values))})"


class Exists:
    """The node has the label, with any value."""

    def __repr__(self) -> str:
        return "Exists()"


class DoesNotExist:
    """The node does not have the label."""

    def __repr__(self) -> str:
        return "DoesNotExist()"


LabelMatch = In | NotIn | Exists | DoesNotExist


class NodeLabelSchedulingStrategy:
    """Run on a node with certain labels.

    Args:
        hard: label name to ``In``, ``NotIn``, ``Exists`` or ``DoesNotExist``; all must hold.
        soft: the same; nodes for which they hold are preferred.

    Raises:
        ValueError: both are empty, or one is not such a mapping.

    Example::

        NodeLabelSchedulingStrategy({"region": In("us", "eu")}, soft={"gpu_type": Exists()})
    """

    def __init__(self, hard: Mapping[str, LabelMatch] | None, *, soft: Mapping[str, LabelMatch] | None = None) -> None:
        self.hard: dict[str, LabelMatch] = _label_matches("hard", hard)
        self.soft: dict[str, LabelMatch] = _label_matches("soft", soft)
        if not self.hard and not self.soft:
            raise ValueError("The `hard` and `soft` parameter of NodeLabelSchedulingStrategy cannot both be empty.")


def _label_values(operator: str, values: tuple[str, ...]) -> list[str]:
    if not values:
        raise ValueError(f'{operator} needs at least one value, for example {operator}("value1", "value2")')
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(  # noqa: TRY004 - Ray raises ValueError here
                f"Type of value in position {index} for the {operator} operator must be str, "
                f"got {value!r} of type {type(value).__name__}"
            )
    return list(values)


def _label_matches(parameter: str, matches: Mapping[str, LabelMatch] | None) -> dict[str, LabelMatch]:
    if matches is None:
        return {}
    if not isinstance(matches, Mapping):
        raise ValueError(  # noqa: TRY004 - Ray raises ValueError here
            f'The {parameter} parameter must be a map (e.g. {{"key1": In("value1")}}), got {type(matches).__name__}'
        )
    for key, match in matches.items():
        if not isinstance(key, str):
            raise ValueError(f"The map key of the {parameter} parameter must be of type str, got {key!r}")  # noqa: TRY004
        if not isinstance(match, LabelMatch):
            raise ValueError(  # noqa: TRY004
                f"The map value for key {key!r} of the {parameter} parameter must be In, NotIn, Exists or "
                f"DoesNotExist, got {match!r}"
            )
    return dict(matches)
