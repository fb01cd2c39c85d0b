"""What the benchmark of simulated sweeps claims; simulated and seeded, so it is the same everywhere."""

from __future__ import annotations

from benchmarks.tune.simulated import compare


def test_with_two_workers_promotion_is_sooner_than_stopping_and_both_than_random_search() -> None:
    [row] = compare("unit", [2], 20, ("random", "stopping", "promotion"))
    assert row["promotion"]["sooner"] >= 3.2
    assert row["stopping"]["sooner"] >= 2.4
