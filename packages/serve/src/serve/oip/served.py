"""What answers the protocol in a replica: the base of one model, of several, and of a repository.

HTTP comes by the ASGI application of `serve.oip.asgi`, gRPC by the methods of ``GRPCInferenceService``, which a proxy
calls by their names; both end in the same few methods.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from serve.asgi.marks import APP_ATTRIBUTE, BUILD_ATTRIBUTE, SLOT_ATTRIBUTE
from serve.errors import RayServeException
from serve.oip import grpc_codec as codec
from serve.oip.errors import InferenceError
from serve.oip.tensors import InferRequest, InferResponse, TensorSpec
from serve.version import __version__

EXTENSIONS = ("binary_tensor_data", "model_repository")


@dataclass(frozen=True)
class Metadata:
    """What a model says of itself."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class IndexEntry:
    """A model of a repository."""

    name: str
    version: str
    #: ``READY``, ``LOADING``, ``UNLOADING``, ``UNAVAILABLE``
    state: str
    #: why it is not ready
    reason: str = ""


class Served:
    """See the module's docstring. Subclasses answer by models."""

    def check_definition(self) -> None:
        """Refuse, when a replica starts, what the user's class lacks.

        Raises:
            TypeError: it lacks something.
        """

    # -- what subclasses define ---------------------------------------------------------------------------------------

    async def ready_models(self) -> bool:
        """Tell whether all models are ready."""
        raise NotImplementedError

    async def metadata(self, name: str, version: str = "") -> Metadata:
        """Return what a model says of itself; InferenceError (404) if there is none."""
        raise NotImplementedError

    async def is_ready(self, name: str, version: str = "") -> bool:
        """Tell whether a model is ready; InferenceError (404) if there is none."""
        raise NotImplementedError

    async def infer(self, request: InferRequest) -> InferResponse:
        """Answer a request."""
        raise NotImplementedError

    async def index(self) -> list[IndexEntry]:
        """Return all models."""
        raise NotImplementedError

    async def load(self, name: str, parameters: dict[str, Any]) -> None:
        """Load a model."""
        raise InferenceError(f"this application cannot load models at run time ({name!r}); it is no Repository", 501)

    async def unload(self, name: str, parameters: dict[str, Any]) -> None:
        """Unload a model."""
        raise InferenceError(f"this application cannot unload models at run time ({name!r}); it is no Repository", 501)

    def infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """Answer a request with any number of answers; here: with one."""
        return _single(self, request)

    # -- gRPC ---------------------------------------------------------------------------------------------------------

    async def ServerLive(self, _request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Answer that the server runs."""
        return codec.message("ServerLiveResponse", live=True)

    async def ServerReady(self, _request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Tell whether all models are ready."""
        return codec.message("ServerReadyResponse", ready=await self.ready_models())

    async def ServerMetadata(self, _request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Tell what the server is."""
        return codec.message("ServerMetadataResponse", name="skate-serve", version=__version__, extensions=EXTENSIONS)

    async def ModelReady(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Tell whether a model is ready."""
        return codec.message("ModelReadyResponse", ready=await self.is_ready(request.name, request.version))

    async def ModelMetadata(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Return a model's metadata."""
        found = await self.metadata(request.name, request.version)
        return codec.message(
            "ModelMetadataResponse",
            name=found.name,
            versions=found.versions,
            platform=found.platform,
            inputs=codec.tensor_metadata(found.inputs),
            outputs=codec.tensor_metadata(found.outputs),
        )

    async def ModelInfer(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Answer a request."""
        decoded = codec.decode(request)
        return codec.encode(await self.infer(decoded), raw=codec.wants_raw(request))

    async def ModelStreamInfer(self, request_stream: Any) -> AsyncIterator[Any]:  # noqa: N802 - the protocol's name
        """Answer requests one after the other, each with one answer or several; errors end none but their own."""
        async for request in request_stream:
            try:
                async for answer in self.infer_stream(codec.decode(request)):
                    encoded = codec.encode(answer, raw=codec.wants_raw(request))
                    yield codec.message("ModelStreamInferResponse", infer_response=encoded)
            except RayServeException as error:
                yield codec.message("ModelStreamInferResponse", error_message=str(error))

    async def RepositoryIndex(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Return all models, or those that are ready."""
        kind = codec.message_class("RepositoryIndexResponse").ModelIndex
        found = [entry for entry in await self.index() if entry.state == "READY" or not request.ready]
        models = [kind(name=each.name, version=each.version, state=each.state, reason=each.reason) for each in found]
        return codec.message("RepositoryIndexResponse", models=models)

    async def RepositoryModelLoad(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Load a model."""
        await self.load(request.model_name, codec.parameters(request.parameters))
        return codec.message("RepositoryModelLoadResponse")

    async def RepositoryModelUnload(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        """Unload a model."""
        await self.unload(request.model_name, codec.parameters(request.parameters))
        return codec.message("RepositoryModelUnloadResponse")


async def _single(served: Served, request: InferRequest) -> AsyncIterator[InferResponse]:
    yield await served.infer(request)


def _build(served: Served) -> Callable[..., Any]:
    from serve.oip.asgi import InferenceApp  # noqa: PLC0415 - only replicas need it

    served.check_definition()
    return InferenceApp(served)


# how `serve.replica` finds the application that a class speaks ASGI by
setattr(Served, APP_ATTRIBUTE, None)
setattr(Served, SLOT_ATTRIBUTE, None)
setattr(Served, BUILD_ATTRIBUTE, _build)
