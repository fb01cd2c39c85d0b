"""Changing what trials run with while they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tune.messages import Sync
from tune.schedulers.base import Choice, Continue, Decision, Resize, TrialScheduler, View
from tune.schedulers.fifo import FIFOScheduler
from tune.schedulers.resource_allocation import DistributeResources
from tune.trial import Config, ResourceRequest, Result, Trial

Allocation = Callable[
    [View, Trial, Result, "ResourceChangingScheduler"],
    ResourceRequest | Mapping[str, float] | Any | None,
]


class ResourceChangingScheduler(TrialScheduler):
    """Lets another scheduler decide about trials, and changes the resources of those that go on.

    A trial whose resources change is saved, and goes on with the new ones as soon as they are free; so the trainable
    needs checkpoints. Trials wait at every result.

    Args:
        base_scheduler: decides about trials; None for `FIFOScheduler`.
        resources_allocation_function: called with the `View` of the sweep (Ray: its controller), the trial, its result
            and this scheduler at every result of a trial that goes on. Returns what the trial should have (a dict of
            resources, a ``PlacementGroupFactory`` or a `ResourceRequest`), or None for no change. It must depend on
            nothing but its arguments. None changes nothing.
    """

    needs_checkpoints = True

    def __init__(
        self,
        base_scheduler: TrialScheduler | None = None,
        resources_allocation_function: Allocation | None = DistributeResources(),  # noqa: B008 - it has no state
    ) -> None:
        super().__init__()
        self.base_scheduler: TrialScheduler = base_scheduler or FIFOScheduler()
        self.resources_allocation_function = resources_allocation_function
        #: the base scheduler's parameters as text: by this the controller sees that they changed when a sweep goes on
        self.base_parameters: str = _parameters(self.base_scheduler)
        #: what the first trial started with; all trials of the sweep start with the same
        self._base_trial_resources: ResourceRequest | None = None
        self._resized: set[str] = set()

    @property
    def base_trial_resources(self) -> ResourceRequest | None:
        """What trials start with; None before the first."""
        return self._base_trial_resources

    def set_search_properties(
        self, metric: str | Sequence[str] | None, mode: str | Sequence[str] | None, *, seed: int | None = None
    ) -> None:
        """Take the sweep's metric, mode and seed, for the base scheduler too."""
        self.base_scheduler.set_search_properties(metric, mode, seed=seed)
        super().set_search_properties(self.base_scheduler.metric, self.base_scheduler.mode, seed=seed)
        self.time_attr: str = self.base_scheduler.time_attr

    def sync(self, trial: Trial) -> Sync:
        """Wait at every result."""
        return self.base_scheduler.sync(trial) if self.resources_allocation_function is None else Sync(every=True)

    def on_trial_add(self, trial: Trial) -> Config | None:
        """Take note of what trials start with.

        Raises:
            ValueError: the trial starts with other resources than the first one.
        """
        if self._base_trial_resources is None:
            self._base_trial_resources = trial.resources
        elif trial.trial_id not in self._resized and trial.resources != self._base_trial_resources:
            raise ValueError(
                f"ResourceChangingScheduler needs trials that start with the same resources: the first had "
                f"{self._base_trial_resources.total}, {trial} has {trial.resources.total}"
            )
        return self.base_scheduler.on_trial_add(trial)

    def on_trial_result(self, trial: Trial, result: Result, view: View) -> Decision:
        """Let the base scheduler decide; if the trial goes on, see whether with other resources."""
        decision = self.base_scheduler.on_trial_result(trial, result, view)
        if not isinstance(decision, Continue) or self.resources_allocation_function is None:
            return decision
        wanted = _request(self.resources_allocation_function(view, trial, result, self))
        if wanted is None or wanted == trial.resources:
            return decision
        self._resized.add(trial.trial_id)
        return Resize(wanted)

    def on_trial_complete(self, trial: Trial, result: Result) -> None:
        """Tell the base scheduler."""
        self.base_scheduler.on_trial_complete(trial, result)

    def on_trial_error(self, trial: Trial) -> None:
        """Tell the base scheduler."""
        self.base_scheduler.on_trial_error(trial)

    def choose(self, view: View) -> Choice:
        """Choose as the base scheduler does."""
        return self.base_scheduler.choose(view)

    def directives(self, view: View) -> list[tuple[str, Decision]]:
        """Decide as the base scheduler does."""
        return self.base_scheduler.directives(view)

    def on_resume(self, previous: TrialScheduler, trials: Sequence[Trial]) -> list[str]:
        """Take over as the base scheduler does."""
        if isinstance(previous, ResourceChangingScheduler):
            self._base_trial_resources = previous.base_trial_resources
            previous = previous.base_scheduler
        self._resized.update(trial.trial_id for trial in trials)
        return self.base_scheduler.on_resume(previous, trials)

    def documents(self) -> dict[str, str]:
        """Return the base scheduler's."""
        return self.base_scheduler.documents()

    def debug_string(self) -> str:
        """Return the base scheduler's line."""
        return f"Changing resources; {self.base_scheduler.debug_string()}"

    def validate(self) -> None:
        """Check the base scheduler."""
        self.base_scheduler.validate()


def _parameters(scheduler: TrialScheduler) -> str:
    values = {name: value for name, value in vars(scheduler).items() if not name.startswith("_") and name != "seed"}
    plain = {name: value for name, value in values.items() if isinstance(value, str | int | float | None)}
    return f"{type(scheduler).__qualname__}({plain})"


def _request(wanted: ResourceRequest | Mapping[str, float] | Any | None) -> ResourceRequest | None:
    """Return what an allocation function said as a request.

    Raises:
        TypeError: it is none.
    """
    if wanted is None or isinstance(wanted, ResourceRequest):
        return wanted
    if isinstance(wanted, Mapping):
        names = {"cpu": "CPU", "gpu": "GPU"}
        return ResourceRequest(({names.get(name, name): float(amount) for name, amount in wanted.items()},))
    if hasattr(wanted, "request"):  # tune.PlacementGroupFactory, of a room above
        request = wanted.request()
        if isinstance(request, ResourceRequest):
            return request
    raise TypeError(
        f"resources_allocation_function must return a dict of resources, a PlacementGroupFactory or None, not "
        f"{type(wanted).__name__}"
    )
