"""Which devices the numbers of GPUs stand for.

The node counts GPUs from 0. Where the driver may use only some of a machine's (``CUDA_VISIBLE_DEVICES=3,5``, as batch
systems say it), these are the ones that are meant: number 1 is device 5.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

VARIABLE = "CUDA_VISIBLE_DEVICES"
#: What the driver may use, in order; empty if it does not say. (Imported by the zygote, in the driver's environment.)
_VISIBLE = tuple(name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())


def show(numbers: Sequence[int], visible: Sequence[str] = _VISIBLE) -> None:
    """Let libraries see only these GPUs."""
    os.environ[VARIABLE] = ",".join(_device(number, visible) for number in numbers)


def ids(numbers: Sequence[int], visible: Sequence[str] = _VISIBLE) -> list[int]:
    """Return the ids of these GPUs: the system's if they are numbers, else ours."""
    devices = (_device(number, visible) for number in numbers)
    return [int(device) if device.isdigit() else number for number, device in zip(numbers, devices, strict=True)]


def _device(number: int, visible: Sequence[str]) -> str:
    # More may have been given to init() than there are: GPUs in name only.
    return visible[number] if number < len(visible) else str(number)
