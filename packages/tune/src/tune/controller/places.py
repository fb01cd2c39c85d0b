"""Room for trials: how much of the cluster the running ones take."""

from __future__ import annotations

from collections.abc import Callable

from tune.trial import ResourceRequest

#: for sums of fractions like 1/3
_TOLERANCE = 1e-9


class Places:
    """Counts what runs.

    A trial takes the fraction of the cluster that one of as many as would fit takes: exact while all ask for the same,
    and else near enough, as the backend lets those wait that do not fit.

    Args:
        capacity: how many trials of this request fit on the empty cluster.
        limit: ``max_concurrent_trials``; None for none.
    """

    def __init__(self, capacity: Callable[[ResourceRequest], int], limit: int | None) -> None:
        self._capacity = capacity
        self._limit = limit
        self._taken: dict[str, float] = {}
        self._used = 0.0

    def __len__(self) -> int:
        return len(self._taken)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._taken

    def feasible(self, request: ResourceRequest) -> bool:
        """Tell whether such a trial could ever run."""
        return self._capacity(request) > 0

    def fits(self, request: ResourceRequest) -> bool:
        """Tell whether there is room for such a trial now."""
        if self._limit is not None and len(self._taken) >= self._limit:
            return False
        capacity = self._capacity(request)
        return capacity > 0 and self._used + 1 / capacity <= 1 + _TOLERANCE

    def take(self, trial_id: str, request: ResourceRequest) -> None:
        """Count a trial that starts."""
        self._taken[trial_id] = 1 / max(1, self._capacity(request))
        self._used = sum(self._taken.values())

    def give_back(self, trial_id: str) -> None:
        """Count a trial no longer."""
        if self._taken.pop(trial_id, None) is not None:
            self._used = sum(self._taken.values())
