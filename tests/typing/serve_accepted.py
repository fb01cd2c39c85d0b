"""Programs with serve that a type checker must accept, with the types it must find. Read, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import serve
from serve import Application, DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator


class Doubler:
    def __init__(self, factor: int, name: str = "") -> None:
        self.factor = factor

    async def __call__(self, number: int, unit: str = "m") -> str:
        return f"{number * self.factor} {unit}"

    @serve.method
    def scale(self, number: int) -> float:
        return number * 0.5

    @serve.method
    async def name(self, number: float, *, upper: bool = False) -> str:
        return f"{self.scale(3)}"

    @serve.method
    def count(self, limit: int) -> Iterator[int]:
        yield from range(limit)

    @serve.method
    async def count_too(self, limit: int) -> AsyncIterator[bytes]:
        yield b""

    def plain(self, number: int) -> int:
        return number


class Chain:
    def __init__(self, doubler: DeploymentHandle[Doubler], others: list[int]) -> None:
        self.doubler = doubler

    def __call__(self, number: int) -> int:
        return number

    async def use(self) -> str:
        assert_type(await self.doubler.remote(1), str)
        return await self.doubler.remote(1)


class Stream:
    async def __call__(self, limit: int) -> AsyncIterator[str]:
        yield ""


def hello(name: str) -> str:
    return name


doubler_deployment = serve.deployment(Doubler)
chain_deployment = serve.deployment(num_replicas=2, max_ongoing_requests=3)(Chain)
doubler_app = doubler_deployment.bind(2, name="x")
assert_type(doubler_app, Application[Doubler])
# a bound deployment stands for the handle that takes its place
chain_app = chain_deployment.options(num_replicas="auto").bind(doubler_app, others=[1])

chain = serve.run(chain_app)
assert_type(chain, DeploymentHandle[Chain])
assert_type(chain.remote(1), DeploymentResponse[int])
assert_type(chain.remote(1).result(timeout_s=1), int)
doubler = serve.run(doubler_app, name="doubler", route_prefix=None)
assert_type(doubler.remote(1, unit="km"), DeploymentResponse[str])
# responses take the place of values
doubler.remote(chain.remote(1))
doubler.remote(chain.remote(1), "m")
assert_type(doubler.options(multiplexed_model_id="m").remote(1).result(), str)
# methods, through typed()
assert_type(serve.typed(doubler).scale.remote(1), DeploymentResponse[float])
assert_type(serve.typed(doubler).name.remote(serve.typed(doubler).scale.remote(2)), DeploymentResponse[str])
assert_type(serve.typed(doubler).name.remote(1.0, upper=True), DeploymentResponse[str])
streaming = doubler.options(stream=True)
assert_type(serve.typed(streaming).count.remote(3), DeploymentResponseGenerator[int])
assert_type(serve.typed(streaming).count_too.remote(3), DeploymentResponseGenerator[bytes])
doubler.plain.remote("anything")
# generators
stream = serve.run(serve.deployment(Stream).bind()).options(stream=True)
assert_type(stream.remote(3), DeploymentResponseGenerator[str])
for item in stream.remote(3):
    assert_type(item, str)
# functions
greeting = serve.run(serve.deployment(hello).bind())
assert_type(greeting.remote("x"), DeploymentResponse[str])


@serve.deployment(max_queued_requests=3)
def decorated(name: str) -> int:
    return len(name)


assert_type(serve.run(decorated.bind()).remote("x").result(), int)
# handles of which nothing is known
unknown = serve.get_app_handle("default")
unknown.remote(1, 2, 3).result()
unknown.anything.remote("x").result()
