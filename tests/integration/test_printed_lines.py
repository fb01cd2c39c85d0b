"""What workers print appears in the driver with the name of who printed it."""

from __future__ import annotations

import sys

import pytest

import core


def test_lines_are_named_by_task_or_actor(capfd: pytest.CaptureFixture[str]) -> None:
    @core.remote
    def train() -> None:
        print("epoch", 1)
        print("no end", end="")

    @core.remote
    def test() -> None:
        print("score")
        print("careful", file=sys.stderr)

    @core.remote
    class Trainer:
        def __init__(self) -> None:
            print("ready")

        def step(self) -> None:
            print("stepped")

    core.init(num_cpus=1)
    core.get(train.remote())
    core.get(test.options(name="check").remote())
    core.get(Trainer.remote().step.remote())
    core.shutdown()
    out, err = capfd.readouterr()
    lines = {text: name for name, _, text in (line[1:].partition(") ") for line in out.splitlines())}
    assert lines["epoch 1"].startswith("train pid=")
    assert lines["no endscore"].startswith("train pid=")  # a line is whose it began as
    assert lines["ready"].startswith("Trainer pid=")
    assert lines["stepped"].startswith("Trainer pid=")
    assert "(check pid=" in err
    assert "careful" in err
    assert "skate:" not in out + err
