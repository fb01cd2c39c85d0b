"""How free resources are spread over running trials: functions for `ResourceChangingScheduler`.

All count in *units*: what one trial grows by at a time. A trial never falls below what it started with, and never grows
beyond what is free now. Whatever others hold beyond their share comes free as they report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tune.schedulers.base import View
from tune.schedulers.ranking import Judge
from tune.trial import ResourceRequest, Result, Trial, TrialStatus

if TYPE_CHECKING:
    from tune.schedulers.resource_changing_scheduler import ResourceChangingScheduler

Amounts = Mapping[str, float]


class DistributeResources:
    """Shares all resources of the cluster evenly among the running trials.

    Args:
        add_bundles: True adds bundles to the trial's placement group, False makes its one bundle larger.
        increase_by: what a trial grows by at a time, as ``{"CPU": 2}``; None: one GPU if the trial has one, else one
            CPU (with `add_bundles`: another bundle like its last).
        increase_by_times: how many times at most; below 1 for no limit.
        reserve_resources: what of the cluster is left free, by name.

    Raises:
        ValueError: `increase_by` is empty of amounts, or has negative ones.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: Amounts | None = None,
        increase_by_times: int = -1,
        reserve_resources: Amounts | None = None,
    ) -> None:
        if increase_by is not None and not all(amount > 0 for amount in [*increase_by.values()] or [0]):
            raise ValueError(f"increase_by must name amounts above 0, as {{'CPU': 1}}, not {dict(increase_by)!r}")
        self.add_bundles = add_bundles
        self.increase_by: dict[str, float] = dict(increase_by or {})
        self.increase_by_times = increase_by_times
        self.reserve_resources: dict[str, float] = dict(reserve_resources or {})

    def __call__(
        self, view: View, trial: Trial, result: Result, scheduler: ResourceChangingScheduler
    ) -> ResourceRequest | None:
        """Return what the trial should have; None for no change."""
        base = scheduler.base_trial_resources
        if base is None or trial.trial_id not in view.live:
            return None
        if not self.add_bundles and len(base.bundles) > 1:
            raise ValueError(
                f"a trial has {len(base.bundles)} bundles: pass {type(self).__name__}(add_bundles=True), since one "
                f"bundle cannot be made larger"
            )
        running = [other for other in view.live.values() if other.status is TrialStatus.RUNNING or other is trial]
        unit = self._unit(base)
        grown = {other.trial_id: _units(other.resources, base, unit) for other in running}
        free = self._times(unit, view.cluster, [other.resources.total for other in running])
        wanted = self._wanted(trial, running, grown, free, self._spare(view, base, unit, len(running)), scheduler)
        if self.increase_by and self.increase_by_times > 0:
            wanted = min(wanted, self.increase_by_times)
        units = max(0, min(wanted, grown[trial.trial_id] + free))
        return self._request(base, unit, units)

    def _wanted(
        self,
        trial: Trial,
        running: Sequence[Trial],
        grown: Mapping[str, int],
        free: int,
        spare: int,
        scheduler: ResourceChangingScheduler,
    ) -> int:
        """Return how many units the trial should have beyond its base.

        Args:
            trial: it.
            running: all that run, in the order of creation.
            grown: how many each has now.
            free: how many nobody has now; negative if more are taken than there are.
            spare: how many there would be if all had their base alone.
            scheduler: who asks.
        """
        share, rest = divmod(max(spare, 0), len(running))
        return share + (1 if running.index(trial) < rest else 0)

    def _unit(self, base: ResourceRequest) -> dict[str, float]:
        if self.increase_by:
            return self.increase_by
        if self.add_bundles:
            return dict(base.bundles[-1])
        return {"GPU": 1.0} if base.bundles[0].get("GPU", 0) else {"CPU": 1.0}

    def _spare(self, view: View, base: ResourceRequest, unit: Amounts, trials: int) -> int:
        return self._times(unit, view.cluster, [base.total] * trials)

    def _times(self, unit: Amounts, cluster: Amounts, taken: Sequence[Amounts]) -> int:
        """Return how many units are left of the cluster."""
        left = [
            (cluster.get(name, 0.0) - self.reserve_resources.get(name, 0.0) - sum(one.get(name, 0.0) for one in taken))
            / amount
            for name, amount in unit.items()
        ]
        return math.floor(min(left) + 1e-9)

    def _request(self, base: ResourceRequest, unit: Amounts, units: int) -> ResourceRequest:
        if self.add_bundles:
            return ResourceRequest((*base.bundles, *(dict(unit) for _ in range(units))), base.strategy)
        bundle = dict(base.bundles[0])
        for name, amount in unit.items():
            bundle[name] = bundle.get(name, 0.0) + amount * units
        return ResourceRequest((bundle,), base.strategy)


class DistributeResourcesToTopJob(DistributeResources):
    """Gives all free resources to the best running trial; others keep what they have, the best of former times too.

    Args:
        add_bundles: as in `DistributeResources`.
        increase_by: as in `DistributeResources`.
        increase_by_times: as in `DistributeResources`; a trial at the limit leaves the free ones to the next best.
        reserve_resources: as in `DistributeResources`.
        metric: the result's name to judge by; None takes the scheduler's.
        mode: ``"min"`` or ``"max"``; None takes the scheduler's.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: Amounts | None = None,
        increase_by_times: int = -1,
        reserve_resources: Amounts | None = None,
        metric: str | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(add_bundles, increase_by, increase_by_times, reserve_resources)
        self.metric = metric
        self.mode = mode

    def _wanted(
        self,
        trial: Trial,
        running: Sequence[Trial],
        grown: Mapping[str, int],
        free: int,
        spare: int,
        scheduler: ResourceChangingScheduler,
    ) -> int:
        metric, mode = self.metric or scheduler.metric, self.mode or scheduler.mode
        if metric is None or mode is None:
            raise ValueError("DistributeResourcesToTopJob needs a metric: pass it here, or to tune.run")
        judge = Judge(metric, mode)
        ranking = judge.ranking()
        for other in running:
            outcome = judge.outcome(other.last_result)
            at_limit = self.increase_by and 0 < self.increase_by_times <= grown[other.trial_id]
            if outcome is not None and not at_limit:
                ranking.add(other.trial_id, outcome)
        has = grown[trial.trial_id]
        return has + free if free < 0 or ranking.top(1) == [trial.trial_id] else has


def _units(resources: ResourceRequest, base: ResourceRequest, unit: Amounts) -> int:
    """Return by how many units a trial has grown."""
    name = next(iter(unit))
    return round((resources.total.get(name, 0.0) - base.total.get(name, 0.0)) / unit[name])
