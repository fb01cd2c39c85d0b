"""What a trial needs, in the forms people write it: a dict, bundles, or a function of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tune.argument_checks import number, one_of
from tune.trial import ResourceRequest

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
#: Ray's spellings in dicts, to the names of resources.
_NAMES = {"cpu": "CPU", "gpu": "GPU", "num_cpus": "CPU", "num_gpus": "GPU"}


class PlacementGroupFactory:
    """The bundles of resources that a trial reserves before it starts.

    The first bundle is for the trial's own process (it may be empty), the others for tasks and actors that the trial
    starts itself.

    Args:
        bundles: at least one dict of resources and amounts, as ``[{"CPU": 1}, {"CPU": 2}]``.
        strategy: ``"PACK"``, ``"SPREAD"``, ``"STRICT_PACK"`` or ``"STRICT_SPREAD"``.

    Raises:
        TypeError: not a list of dicts.
        ValueError: no bundle, a negative amount, an unknown strategy.
    """

    def __init__(self, bundles: Sequence[Mapping[str, float]], strategy: str = "PACK") -> None:
        if isinstance(bundles, Mapping | str) or not isinstance(bundles, Sequence):
            raise TypeError(f"bundles must be a list of dicts such as [{{'CPU': 1}}]; got {bundles!r}.")
        if not bundles:
            raise ValueError("bundles must have at least one dict; {} stands for a process that needs nothing itself.")
        self.bundles: list[dict[str, float]] = [_bundle(bundle) for bundle in bundles]
        self.strategy: str = one_of("strategy", strategy, STRATEGIES)

    @property
    def head_bundle_is_empty(self) -> bool:
        """Whether the trial's own process needs nothing."""
        return not self.bundles[0]

    @property
    def head_cpus(self) -> float:
        """CPUs of the trial's own process."""
        return self.bundles[0].get("CPU", 0.0)

    @property
    def required_resources(self) -> dict[str, float]:
        """The sum over all bundles."""
        return self.request().total

    def request(self) -> ResourceRequest:
        """Return this as the record that the controller and backends use."""
        return ResourceRequest(tuple(dict(bundle) for bundle in self.bundles), self.strategy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlacementGroupFactory) and self.request() == other.request()

    def __hash__(self) -> int:
        return hash((self.strategy, tuple(tuple(sorted(bundle.items())) for bundle in self.bundles)))

    def __repr__(self) -> str:
        return f"PlacementGroupFactory({self.bundles!r}, strategy={self.strategy!r})"


def resource_request(resources: Any) -> ResourceRequest:
    """Return what a trial needs.

    Args:
        resources: a dict as ``{"cpu": 2, "gpu": 0.5, "memory": 1e9, "custom_resources": {"tpu": 1}}``, a
            `PlacementGroupFactory`, or a `ResourceRequest`.

    Raises:
        TypeError: none of these.
        ValueError: a negative amount.
    """
    if isinstance(resources, ResourceRequest):
        return resources
    if isinstance(resources, PlacementGroupFactory):
        return resources.request()
    if isinstance(resources, Mapping):
        return ResourceRequest((_bundle(resources),))
    raise TypeError(
        "resources must be a dict such as {'cpu': 2}, a tune.PlacementGroupFactory, or (with_resources) a function "
        f"of the config that returns one of these; got {resources!r} ({type(resources).__name__})."
    )


def _bundle(resources: Mapping[str, Any]) -> dict[str, float]:
    if not isinstance(resources, Mapping):
        raise TypeError(
            f"a bundle must be a dict such as {{'CPU': 1}}; got {resources!r} ({type(resources).__name__})."
        )
    bundle: dict[str, float] = {}
    for name, amount in resources.items():
        if not isinstance(name, str):
            raise TypeError(f"resources must be named by strings; got {name!r} ({type(name).__name__}).")
        if name == "custom_resources":
            bundle |= _bundle(amount)
        else:
            bundle[_NAMES.get(name, name)] = number(f"resource {name!r}", amount, at_least=0)
    return {name: amount for name, amount in bundle.items() if amount}
