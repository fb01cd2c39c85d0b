"""Model composition: handles, chained calls that never pass through the caller, streams between deployments."""

import asyncio
import os
from collections.abc import AsyncGenerator

import httpx
from starlette.requests import Request

import serve
from serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

PORT = int(os.environ["PORT"])


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Adder:
    def __init__(self, increment: int):
        self._increment = increment

    def __call__(self, val: int) -> int:
        return val + self._increment


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Multiplier:
    def __init__(self, multiple: int):
        self._multiple = multiple

    def __call__(self, val: int) -> int:
        return val * self._multiple


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Streamer:
    async def __call__(self, limit: int) -> AsyncGenerator[int, None]:
        for i in range(limit):
            yield i


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Ingress:
    def __init__(self, adder: DeploymentHandle, multiplier: DeploymentHandle, streamer: DeploymentHandle):
        self._adder = adder
        self._multiplier = multiplier
        self._streamer = streamer.options(stream=True)

    async def __call__(self, request: Request) -> dict:
        number = int(request.query_params["number"])
        adder_response: DeploymentResponse = self._adder.remote(number)
        product: int = await self._multiplier.remote(adder_response)
        gathered = await asyncio.gather(*(self._adder.remote(i) for i in range(3)))
        stream: DeploymentResponseGenerator = self._streamer.remote(number)
        return {"product": product, "gathered": gathered, "stream": [i async for i in stream]}

    async def chain(self, val: int) -> int:
        return await self._multiplier.remote(self._adder.remote(val))


serve.start(http_options={"port": PORT})
app = Ingress.bind(Adder.bind(increment=1), Multiplier.bind(multiple=2), Streamer.bind())
handle: DeploymentHandle = serve.run(app, name="math", route_prefix="/math")
answer = httpx.get(f"http://localhost:{PORT}/math", params={"number": 4}).json()
assert answer == {"product": 10, "gathered": [1, 2, 3], "stream": [0, 1, 2, 3]}, answer
response: DeploymentResponse = handle.chain.remote(8)
assert response.result(timeout_s=30) == 18
assert serve.get_app_handle("math").options(method_name="chain").remote(1).result() == 4
serve.delete("math")
serve.shutdown()
