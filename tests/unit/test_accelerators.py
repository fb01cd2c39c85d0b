"""Which devices tasks and actors see."""

from __future__ import annotations

import os

import pytest

from core.engine import embedded
from core.worker import accelerators


@pytest.mark.parametrize(
    ("visible", "numbers", "shown", "ids"),
    [
        ((), [0, 1], "0,1", [0, 1]),
        (("3", "5"), [1], "5", [5]),
        (("3", "5"), [0, 1], "3,5", [3, 5]),
        (("GPU-a", "GPU-b"), [1], "GPU-b", [1]),
        (("3",), [0, 1], "3,1", [3, 1]),
    ],
)
def test_numbers_stand_for_the_devices_that_the_driver_may_use(
    monkeypatch: pytest.MonkeyPatch, visible: tuple[str, ...], numbers: list[int], shown: str, ids: list[int]
) -> None:
    monkeypatch.setenv(accelerators.VARIABLE, ",".join(visible))
    accelerators.show(numbers, visible)
    assert os.environ[accelerators.VARIABLE] == shown
    assert accelerators.ids(numbers, visible) == ids


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("NoDevFiles", 0), ("3,5", 2), ("GPU-a", 1)])
def test_the_visible_devices_are_counted(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    monkeypatch.setenv(accelerators.VARIABLE, visible)
    assert embedded._gpus() == count
