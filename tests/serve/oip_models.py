"""The models of `test_oip.py`, in a module of their own, which replicas import: it is light."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import numpy as np

import serve

TensorSpec = serve.oip.TensorSpec


@serve.deployment
class Everything(serve.oip.Model):
    """Returns what it is given, all datatypes."""

    DATATYPES = ("BOOL", "UINT8", "INT16", "UINT64", "INT64", "FP16", "FP32", "FP64", "BYTES")
    inputs: ClassVar = [TensorSpec(name.lower(), name, [-1, 2], optional=True) for name in DATATYPES]
    outputs: ClassVar = [TensorSpec("text", "BYTES", [-1])]

    def predict(self, request: Any, **arrays: Any) -> Any:
        total = sum(int(array.size) for array in arrays.values())
        return np.array([f"{total} {request.parameters.get('level')} {request.id}"], dtype=object)


@serve.deployment
class Echo(serve.oip.Model):
    """Returns its inputs under other names."""

    name = "mirror"
    versions = ("1", "2")
    inputs: ClassVar = [TensorSpec("x", "FP32", [-1, 3]), TensorSpec("text", "BYTES", [-1])]
    outputs: ClassVar = [TensorSpec("y", "FP32", [-1, 3]), TensorSpec("said", "BYTES", [-1])]

    async def predict(self, x: Any, text: Any) -> dict[str, Any]:
        return {"y": 2 * x, "said": text}


@serve.deployment
class Broken(serve.oip.Model):
    inputs: ClassVar = [TensorSpec("x", "INT32", [1])]
    outputs: ClassVar = [TensorSpec("y", "INT32", [1])]

    def predict(self, x: Any) -> Any:
        match int(x[0]):
            case 0:
                raise RuntimeError("out of order")
            case 1:
                return np.zeros((2, 2), dtype=np.int32)
            case 2:
                return np.array(["a"])
            case 3:
                raise serve.oip.InferenceError("the sensor sleeps", 503)
        return x


@serve.deployment
class Counter(serve.oip.Model):
    """Answers in streams."""

    inputs: ClassVar = [TensorSpec("n", "INT32", [1])]
    outputs: ClassVar = [TensorSpec("i", "INT32", [1])]

    async def predict(self, n: Any) -> AsyncIterator[Any]:
        for number in range(int(n[0])):
            yield np.array([number], dtype=np.int32)


class Times(serve.oip.Model):
    inputs: ClassVar = [TensorSpec("x", "FP64", [-1])]
    outputs: ClassVar = [TensorSpec("y", "FP64", [-1])]

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, x: Any) -> Any:
        return self.factor * x


@serve.deployment
class Store(serve.oip.Repository):
    """Models by their factors; ``slow`` models wait until they are let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    def available(self) -> list[str]:
        return ["2", "3"]

    @serve.multiplexed(max_num_models_per_replica=5)
    async def get_model(self, name: str) -> Times:
        if name == "slow":
            await self.gate.wait()
        return Times(float(name) if name != "slow" else 0.5)

    async def let_go(self) -> None:
        self.gate.set()
