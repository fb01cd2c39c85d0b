"""Dynamic request batching: lists in place of single calls, options that change at run time, batched streams."""

import asyncio
import os
from collections.abc import AsyncGenerator

import httpx
import numpy as np
from starlette.requests import Request
from starlette.responses import StreamingResponse

import serve
from serve.handle import DeploymentHandle

PORT = int(os.environ["PORT"])


@serve.deployment(max_ongoing_requests=30, ray_actor_options={"num_cpus": 0.1})
class Model:
    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.1)
    async def __call__(self, multiple_samples: list[int]) -> list[int]:
        return np.array(multiple_samples) * 2


@serve.deployment(max_ongoing_requests=30, user_config={"max_batch_size": 4, "batch_wait_timeout_s": 5})
class Tuned:
    def reconfigure(self, user_config: dict):
        self.handle_batch.set_max_batch_size(user_config["max_batch_size"])
        self.handle_batch.set_batch_wait_timeout_s(user_config["batch_wait_timeout_s"])

    @serve.batch
    async def handle_batch(self, inputs: list[str]) -> list[int]:
        return [len(inputs)] * len(inputs)

    async def __call__(self, text: str) -> int:
        return await self.handle_batch(text)


@serve.deployment(max_ongoing_requests=30, ray_actor_options={"num_cpus": 0.1})
class StreamingResponder:
    @serve.batch(max_batch_size=5, batch_wait_timeout_s=0.2)
    async def generate_numbers(self, max_list: list[int]) -> AsyncGenerator[list, None]:
        for i in range(max(max_list)):
            yield [str(i) if i < limit else StopIteration for limit in max_list]
            await asyncio.sleep(0.001)

    async def __call__(self, request: Request) -> StreamingResponse:
        gen = self.generate_numbers(int(request.query_params["max"]))
        return StreamingResponse(gen, status_code=200, media_type="text/plain")


serve.start(http_options={"port": PORT})
handle: DeploymentHandle = serve.run(Model.bind(), name="model", route_prefix=None)
responses = [handle.remote(i) for i in range(8)]
assert [int(r.result()) for r in responses] == [i * 2 for i in range(8)]

tuned = serve.run(Tuned.bind(), name="tuned", route_prefix=None)
assert [r.result() for r in [tuned.remote("a") for _ in range(4)]] == [4, 4, 4, 4]

serve.run(StreamingResponder.bind(), name="stream")


async def ask() -> list[str]:
    async with httpx.AsyncClient(timeout=30) as client:
        asked = (client.get(f"http://localhost:{PORT}/", params={"max": n}) for n in (3, 5, 1))
        return [response.text for response in await asyncio.gather(*asked)]


assert asyncio.run(ask()) == ["012", "01234", "0"]
serve.shutdown()
