"""Resource pools and placement groups without a scheduler around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.protocol.records import Bundle
from core.specs import RESOURCE_UNIT
from core.state import placement
from core.state.placement import PlacementGroup, PlacementTable
from core.state.resources import ResourcePool, add, describe, natural


def units(**amounts: float) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, int(amount * RESOURCE_UNIT)) for name, amount in amounts.items()))


def group(name: str, *bundles: dict[str, float], strategy: str = "PACK") -> PlacementGroup:
    records = [Bundle(units(**bundle)) for bundle in bundles]
    return PlacementGroup(name.encode(), name, strategy, records, b"creator")


def table(**total: float) -> PlacementTable:
    return PlacementTable(ResourcePool(dict(units(**total))))


def test_a_group_is_placed_whole_or_not_at_all() -> None:
    node = ResourcePool(dict(units(CPU=2)))
    groups = PlacementTable(node)
    big = group("big", {"CPU": 1}, {"CPU": 1}, {"CPU": 1})
    groups.register(big)
    assert not groups.place(big)
    assert node.available == dict(units(CPU=2))


def test_removal_returns_everything_once() -> None:
    node = ResourcePool(dict(units(CPU=2, GPU=2)))
    groups = PlacementTable(node)
    pair = group("pair", {"CPU": 1, "GPU": 1}, {"GPU": 0.5})
    groups.register(pair)
    assert groups.place(pair)
    assert natural(node.available) == {"CPU": 1, "GPU": 0.5}
    assert groups.remove(b"pair") is pair
    assert groups.remove(b"pair") is None
    assert node.available == node.total
    assert node.gpu_free == node.gpu_total
    found = groups.find(b"pair")
    assert found is not None
    assert found.state == "REMOVED"


def test_a_bundle_knows_its_own_gpus() -> None:
    groups = table(GPU=4)
    first, second = group("first", {"GPU": 1}), group("second", {"GPU": 2})
    for each in (first, second):
        groups.register(each)
        assert groups.place(each)
    assert list(second.pools[0].allocate(units(GPU=2)).gpus) == [1, 2]


@pytest.mark.parametrize(
    ("strategy", "bundles", "problem"),
    [
        ("PACK", [{"CPU": 1}], ""),
        ("TIGHT", [{"CPU": 1}], "unknown placement strategy"),
        ("PACK", [], "at least one bundle"),
    ],
)
def test_bad_groups_are_refused_with_the_reason(strategy: str, bundles: list[dict[str, float]], problem: str) -> None:
    records = [Bundle(units(**bundle)) for bundle in bundles]
    found = table(CPU=1).problem(b"id", "", strategy, records)
    assert problem in found
    assert bool(problem) == bool(found)


def test_names_are_unique_and_free_after_removal() -> None:
    groups = table(CPU=1)
    groups.register(group("n", {"CPU": 1}))
    assert groups.find(b"", "n") is not None
    assert "exists" in groups.problem(b"other", "n", "PACK", [Bundle(units(CPU=1))])
    groups.remove(b"n")
    assert groups.find(b"", "n") is None
    assert groups.problem(b"other", "n", "PACK", [Bundle(units(CPU=1))]) == ""


def test_removed_groups_are_not_remembered_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "TOMBSTONES", 2)
    groups = table(CPU=1)
    for name in ("a", "b", "c"):
        groups.register(group(name, {"CPU": 1}))
        groups.remove(name.encode())
    assert [info.name for info in groups.infos()] == ["b", "c"]


AMOUNTS = st.fixed_dictionaries(
    {}, optional={"CPU": st.integers(0, 40_000), "GPU": st.sampled_from([2_500, 5_000, 10_000, 20_000])}
)


@given(st.lists(AMOUNTS, max_size=12), st.lists(st.integers(0, 11), max_size=12))
def test_a_pool_gives_out_what_it_has_and_takes_it_all_back(wishes: list[dict[str, int]], lent: list[int]) -> None:
    pool = ResourcePool(dict(units(CPU=8, GPU=3)))
    held = []
    for wish in wishes:
        resources = tuple(sorted(wish.items()))
        if pool.fits(resources):
            held.append(pool.allocate(resources))
        else:
            with pytest.raises(ValueError, match="does not fit"):
                pool.allocate(resources)
    assert all(sum(a.gpus.values()) == dict(a.amounts).get("GPU", 0) for a in held)
    for index in range(3):
        assert sum(a.gpus.get(index, 0) for a in held) + pool.gpu_free[index] == RESOURCE_UNIT
    for index in lent:
        if index < len(held):
            pool.lend_cpu(held[index])
            pool.lend_cpu(held[index])
    for index, allocation in enumerate(held):
        if index % 2:
            pool.take_cpu_back(allocation)
        pool.release(allocation)
    assert pool.available == pool.total
    assert pool.gpu_free == pool.gpu_total


def test_amounts_are_told_in_natural_units() -> None:
    assert describe(add([units(CPU=1), units(CPU=1, GPU=0.5)])) == "{CPU: 2, GPU: 0.5}"
