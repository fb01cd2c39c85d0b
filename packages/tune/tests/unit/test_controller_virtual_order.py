"""Virtual order: the same whatever arrives when."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tune.controller.virtual_order import VirtualOrder


def drain(order: VirtualOrder[str]) -> list[tuple[int, str]]:
    taken = []
    while (popped := order.pop()) is not None:
        taken.append(popped)
        order.validate()
    return taken


def test_a_fast_trial_waits_for_a_slow_one() -> None:
    order: VirtualOrder[str] = VirtualOrder()
    order.open(0)
    order.open(1)
    for item in "abc":
        order.push(1, item)
    assert drain(order) == []
    order.push(0, "x")
    assert drain(order) == [(0, "x"), (1, "a")]
    assert order.buffered(1) == ("b", "c")


def test_ties_go_to_the_earlier_trial() -> None:
    order: VirtualOrder[str] = VirtualOrder()
    order.open(2)
    order.open(1)
    order.push(2, "two")
    order.push(1, "one")
    assert drain(order)[0] == (1, "one")


def test_a_trial_begins_at_the_time_of_what_made_room_for_it() -> None:
    order: VirtualOrder[str] = VirtualOrder()
    order.open(0)
    for item in "abc":
        order.push(0, item)
    assert len(drain(order)) == 3
    order.open(1)
    order.push(1, "late")
    order.push(0, "d")
    assert drain(order) == [(0, "d"), (1, "late")]


def test_a_closed_lane_holds_nobody_up() -> None:
    order: VirtualOrder[str] = VirtualOrder()
    order.open(0)
    order.open(1)
    order.push(1, "a")
    assert order.close(0) == []
    assert order.pop() == (1, "a")


def test_what_is_forgotten_is_gone_and_the_next_comes_at_once() -> None:
    order: VirtualOrder[str] = VirtualOrder()
    order.open(0)
    for item in "abc":
        order.push(0, item)
    order.pop()
    assert order.forget(0) == ["b", "c"]
    order.push(0, "end")
    assert order.pop() == (0, "end")
    assert order.clock == 2


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 1 << 32))
def test_any_arrival_gives_the_same_order(lengths: list[int], seed: int) -> None:
    def run(luck: random.Random | None) -> list[tuple[int, str]]:
        order: VirtualOrder[str] = VirtualOrder()
        left = dict(enumerate(lengths))
        for index in left:
            order.open(index)
        taken = []
        while candidates := [index for index, count in left.items() if count]:
            index = luck.choice(candidates) if luck else candidates[0]
            order.push(index, "end" if left[index] == 1 else "result")
            left[index] -= 1
            while (popped := order.pop()) is not None:
                taken.append(popped)
                if popped[1] == "end":
                    order.close(popped[0])
        return taken

    assert run(random.Random(seed)) == run(None)
