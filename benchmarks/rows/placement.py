"""Ray's microbenchmark: placement groups."""

from __future__ import annotations

from benchmarks import floors
from benchmarks.meter import Meter
from benchmarks.model import Theme, program
from benchmarks.ray_api import RayApi


def create_and_remove(api: RayApi, meter: Meter) -> float:
    count = meter.count(100)

    def call() -> None:
        groups = [api.util.placement_group(bundles=[{"custom": 0.001}]) for _ in range(count)]
        for group in groups:
            group.wait(timeout_seconds=30)
        for group in groups:
            api.util.remove_placement_group(group)

    return meter.rate(call, count)


THEME = Theme(
    "placement groups",
    (
        program(
            "placement group create/removal",
            "groups/s",
            raylike=create_and_remove,
            floor=floors.ping_pong,
        ),
    ),
    resources={"custom": 100},
)
