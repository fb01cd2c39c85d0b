"""The order of a router's line, where requests are of several classes."""

from __future__ import annotations

from typing import Any

import pytest

from serve.errors import BackPressureError
from serve.handle.router import Router, Wish
from serve.specs import DeploymentID, ReplicaInfo, Targets

D = DeploymentID("d")
ONE = ReplicaInfo("r", D, "v", "", "", 0, "", 1)


def router(**config: Any) -> Router:
    made = Router()
    made.update(Targets(1, (), {str(D): (ONE,)}, {str(D): {"ageing_s": 1000.0, **config}}))
    return made


def test_higher_classes_are_served_first_and_the_others_in_turn() -> None:
    line = router()
    served: list[str] = []
    replica = line.try_acquire(Wish(D))
    assert replica is not None
    for name, rank in (("a", 0), ("b", -1), ("c", 1), ("d", 0), ("e", 1)):
        line.enqueue(Wish(D, rank=rank), lambda _, name=name: served.append(name))
    for _ in range(5):
        line.release(replica)
    assert served == ["c", "e", "a", "d", "b"]


def test_a_full_line_sends_away_whoever_is_least_urgent() -> None:
    line = router(max_queued_requests=2)
    told: list[tuple[str, bool]] = []
    assert line.try_acquire(Wish(D)) is not None

    def join(name: str, rank: int) -> Any:
        return line.enqueue(Wish(D, rank=rank), lambda replica: told.append((name, replica is not None)))

    first, _ = join("first", 0), join("second", 0)
    with pytest.raises(BackPressureError):
        join("third", 0)
    join("urgent", 1)
    assert told == [("second", False)]
    line.release(ONE)
    line.release(ONE)
    assert told == [("second", False), ("urgent", True), ("first", True)]
    assert not first.sent_away
