"""Which checkpoints of a trial are kept."""

from __future__ import annotations

import math
from collections.abc import Collection

from tune.trial import CheckpointRecord


class CheckpointKeeper:
    """Keeps the newest or the best so many.

    Args:
        num_to_keep: None keeps all.
        score_attribute: the metric that says which are best; None: the newest are.
        score_order: ``"max"`` or ``"min"``.
    """

    def __init__(self, num_to_keep: int | None, score_attribute: str | None, score_order: str) -> None:
        self._num_to_keep = num_to_keep
        self._attribute = score_attribute
        self._sign = 1.0 if score_order == "max" else -1.0

    def superfluous(self, checkpoints: list[CheckpointRecord], needed: Collection[str]) -> list[CheckpointRecord]:
        """Return those to delete.

        Args:
            checkpoints: of one trial, oldest first.
            needed: names that must stay whatever their score. They count as kept only if they are among the best.
        """
        if self._num_to_keep is None or len(checkpoints) <= self._num_to_keep:
            return []
        ranked = list(enumerate(checkpoints))
        if self._attribute is not None:
            ranked.sort(key=lambda entry: (self._score(entry[1]), entry[0]))
        return [record for _, record in ranked[: -self._num_to_keep] if record.name not in needed]

    def _score(self, record: CheckpointRecord) -> float:
        value = record.metrics.get(self._attribute or "", math.nan)
        return -math.inf if math.isnan(value) else self._sign * value
