"""Where the interrupt of a main thread may be raised."""

from __future__ import annotations

import sys
from types import FrameType, SimpleNamespace
from typing import Any

from core.refs import ObjectRef
from core.runtime.interruption import may_interrupt
from core.runtime.packing import Packer


def test_user_code_may_be_interrupted() -> None:
    assert may_interrupt(sys._getframe())


def test_a_finaliser_of_a_reference_may_not() -> None:
    """What is raised there is lost, and so is the count of the reference."""
    frames: list[FrameType] = []

    def drop(identifier: bytes) -> None:
        frames.append(sys._getframe())

    ObjectRef.__del__(SimpleNamespace(id=b""), drop)  # type: ignore[arg-type]
    assert not may_interrupt(frames[0])
    assert not may_interrupt(frames[0].f_back)


def test_user_code_inside_of_pickling_may_but_the_pickling_itself_may_not() -> None:
    frames: list[FrameType] = []

    class Noted:
        def __reduce__(self) -> Any:
            frames.append(sys._getframe())
            return int, ()

    Packer().value([Noted()])
    frame: FrameType | None = frames[0]
    assert may_interrupt(frame)
    while frame is not None and frame.f_code is not Packer.value.__code__:
        frame = frame.f_back
    assert frame is not None
    assert not may_interrupt(frame)
