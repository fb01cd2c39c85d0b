"""A program as Ray Serve's users write it, for mypy with ``serve.mypy_plugin``. Read, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import serve
from serve import Application, DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator


@serve.deployment(num_replicas=2)
class Model:
    def __init__(self, size: int, *, name: str = "") -> None:
        self.size = size

    def predict(self, row: int) -> float:
        return row * 0.5

    async def later(self, row: int, unit: str = "m") -> str:
        return unit

    async def stream(self, limit: int) -> AsyncIterator[bytes]:
        yield b""


@serve.deployment
class Ingress:
    def __init__(self, model: DeploymentHandle[Model]) -> None:
        self.model = model

    async def __call__(self, row: int) -> float:
        assert_type(await self.model.later.remote(row), str)
        return await self.model.predict.remote(row)


@serve.deployment
class Plain: ...


assert_type(Model.bind(1, name="x"), Application[Model])
Model.options(num_replicas=3).bind(2)
Plain.bind()
handle = serve.run(Ingress.bind(Model.bind(1)))
assert_type(handle.remote(3), DeploymentResponse[float])
model = serve.run(Model.bind(3), name="model")
assert_type(model.predict.remote(1), DeploymentResponse[float])
assert_type(model.later.remote(1, unit="km").result(), str)
assert_type(model.options(stream=True).stream.remote(3), DeploymentResponseGenerator[bytes])
model.options(multiplexed_model_id="a").predict.remote(handle.remote(1).result() > 2)

Model.bind("x")  # error
Model.bind()  # error
Model.bind(1, 2)  # error
Plain.bind(1)  # error
Ingress.bind(Plain.bind())  # error
model.predict.remote("x")  # error
model.predict.remote()  # error
model.later.remote(1, unit=2)  # error
model.options(stream=True).stream.remote("x")  # error
model.predicted.remote(1)  # error
number: int = model.later.remote(1).result()  # error
