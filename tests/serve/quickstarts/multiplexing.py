"""Model multiplexing: one replica, many models; by header, by handle, and through another deployment."""

import os

import httpx
import starlette.requests

import serve
from serve.handle import DeploymentHandle

PORT = int(os.environ["PORT"])


class Model:
    def __init__(self, model_id: str):
        self.model_id = model_id

    def forward(self, text: str) -> str:
        return f"{text} by {self.model_id}"


@serve.deployment
class ModelInferencer:
    def __init__(self):
        self.loads = 0

    @serve.multiplexed(max_num_models_per_replica=3)
    async def get_model(self, model_id: str) -> Model:
        self.loads += 1
        return Model(model_id)

    async def __call__(self, request: starlette.requests.Request) -> str:
        model_id = serve.get_multiplexed_model_id()
        model = await self.get_model(model_id)
        return model.forward("http")

    async def infer(self, text: str) -> str:
        return (await self.get_model(serve.get_multiplexed_model_id())).forward(text)

    def count(self) -> int:
        return self.loads


@serve.deployment
class Upstream:
    def __init__(self, downstream: DeploymentHandle):
        self._h = downstream

    async def __call__(self, request: starlette.requests.Request) -> str:
        return await self._h.options(multiplexed_model_id="bar").infer.remote("upstream")


serve.start(http_options={"port": PORT})
handle = serve.run(ModelInferencer.bind())
resp = httpx.get(f"http://localhost:{PORT}", headers={"serve_multiplexed_model_id": "1"})
assert resp.text == "http by 1"
for _ in range(2):
    assert handle.options(multiplexed_model_id="2").infer.remote("handle").result() == "handle by 2"
assert handle.count.remote().result() == 2
serve.run(Upstream.bind(ModelInferencer.bind()))
assert httpx.get(f"http://localhost:{PORT}").text == "upstream by bar"
serve.shutdown()
