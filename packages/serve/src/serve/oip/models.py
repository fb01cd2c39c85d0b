"""Several models behind one address: an ingress that passes requests on to the models' own deployments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from serve.oip.errors import InferenceError
from serve.oip.served import IndexEntry, Metadata, Served
from serve.oip.tensors import InferRequest, InferResponse


class Models(Served):
    """An application of several models, each a deployment with replicas of its own.

    ::

        Zoo = serve.deployment(serve.oip.Models)
        serve.run(Zoo.bind(Iris.bind(), price=Price.options(num_replicas=2).bind()))

    Args:
        *models: deployments of `Model`, bound; called by their deployments' names.
        **named: more of them, called by these names.
    """

    def __init__(self, *models: Any, **named: Any) -> None:
        self._models: dict[str, Any] = {model.deployment_name: model for model in models} | named
        if not self._models:
            raise ValueError("serve.oip.Models needs at least one model: bind deployments of serve.oip.Model to it")

    def _handle(self, name: str) -> Any:
        handle = self._models.get(name)
        if handle is None:
            raise InferenceError(f"there is no model {name!r}; there are {', '.join(sorted(self._models))}", 404)
        return handle

    async def ready_models(self) -> bool:
        """Tell whether all models are ready."""
        return all(await asyncio.gather(*(_wait(handle.ready.remote()) for handle in self._models.values())))

    async def is_ready(self, name: str, version: str = "") -> bool:
        """Tell whether a model is ready."""
        await self.metadata(name, version)
        return bool(await self._handle(name).ready.remote())

    async def metadata(self, name: str, version: str = "") -> Metadata:
        """Return what a model says of itself."""
        found: Metadata = await self._handle(name).own_metadata.remote(name)
        if version and version not in found.versions:
            raise InferenceError(f"model {name!r} has no version {version!r}; it has {', '.join(found.versions)}", 404)
        return found

    async def infer(self, request: InferRequest) -> InferResponse:
        """Pass a request on."""
        if request.model_version:
            await self.metadata(request.model_name, request.model_version)
        answer: InferResponse = await self._handle(request.model_name).answer.remote(request)
        return answer

    async def infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """Pass a request on that may have several answers."""
        if request.model_version:
            await self.metadata(request.model_name, request.model_version)
        stream = self._handle(request.model_name).options(stream=True, method_name="answer_stream")
        async for answer in stream.remote(request):
            yield answer

    async def index(self) -> list[IndexEntry]:
        """Return all models."""
        found = []
        for name, handle in sorted(self._models.items()):
            metadata, ready = await handle.own_metadata.remote(name), await handle.ready.remote()
            found += [IndexEntry(name, each, "READY" if ready else "UNAVAILABLE") for each in metadata.versions]
        return found


async def _wait(response: Any) -> Any:
    return await response
