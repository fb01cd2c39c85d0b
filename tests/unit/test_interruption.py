"""Where the interrupt of a main thread may be raised."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from core import refs
from core.refs import ObjectRef, ObjectRefGenerator
from core.runtime.interruption import may_interrupt
from core.runtime.packing import Packer
from tests import pending_interrupt


def test_user_code_may_be_interrupted() -> None:
    assert may_interrupt(sys._getframe())


@pytest.mark.parametrize("pending", [pending_interrupt.of_a_signal, pending_interrupt.of_a_cancellation])
def test_nothing_is_raised_in_finalisers_of_references(pending: Callable[[], Callable[[], object]]) -> None:
    """What is raised there is lost, and so is the count of the reference."""
    holder: list[Any] = [ObjectRef(b"an object"), ObjectRefGenerator(b"a task", ObjectRef(b"its end"))]
    pending_interrupt.call(pending(), holder.clear)
    assert {refs.dropped.pop(), refs.dropped.pop()} == {b"an object", b"its end"}
    assert refs.dropped_generators.pop() == b"a task"


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
