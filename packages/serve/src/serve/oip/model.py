"""One model that speaks the protocol: the user defines its tensors and ``predict``."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

from serve.context import get_replica_context
from serve.oip.errors import InferenceError
from serve.oip.served import IndexEntry, Metadata, Served
from serve.oip.tensors import InferRequest, InferResponse, TensorSpec, checked_inputs, checked_outputs


class Model(Served):
    """Base of the user's models.

    Subclasses define `inputs`, `outputs` and ``predict``, which takes the inputs' arrays by name and returns a
    dictionary of outputs (or the array, if there is one output). It may be ``async``; if it is not, it runs in a
    thread. As a generator it gives streams of answers. A parameter ``request`` (where no input is called so) gets the
    whole `InferRequest`: its id, version, parameters.

    Requests whose tensors are missing, unknown, or of another type or shape never reach ``predict``: their clients get
    400 (``INVALID_ARGUMENT``).
    """

    inputs: ClassVar[Sequence[TensorSpec]] = ()
    outputs: ClassVar[Sequence[TensorSpec]] = ()
    #: what clients call it by; empty for the name of its deployment
    name: str = ""
    versions: ClassVar[Sequence[str]] = ("1",)
    platform: str = "skate"

    def check_definition(self) -> None:
        """Refuse a class without ``predict`` or with tensors that are none."""
        cls = type(self)
        if not callable(getattr(cls, "predict", None)):
            raise TypeError(f"{cls.__name__} is a serve.oip.Model, so it needs a method predict(self, ...)")
        for kind in ("inputs", "outputs"):
            wrong = [each for each in getattr(cls, kind) if not isinstance(each, TensorSpec)]
            if wrong:
                raise TypeError(f"{cls.__name__}.{kind} is a list of serve.oip.TensorSpec; {wrong[0]!r} is none")

    def ready(self) -> bool:
        """Tell whether the model can answer; subclasses may say no for a while."""
        return True

    # -- what the protocol asks ---------------------------------------------------------------------------------------

    async def ready_models(self) -> bool:
        """Tell whether it is ready."""
        return self.ready()

    async def is_ready(self, name: str, version: str = "") -> bool:
        """Tell whether it is ready."""
        self._check_name(name, version)
        return self.ready()

    async def metadata(self, name: str, version: str = "") -> Metadata:
        """Return what it says of itself."""
        self._check_name(name, version)
        return self.own_metadata(name)

    def own_metadata(self, name: str) -> Metadata:
        """Return what it says of itself, under a name."""
        return Metadata(name, tuple(self.versions), self.platform, tuple(self.inputs), tuple(self.outputs))

    async def index(self) -> list[IndexEntry]:
        """Return itself."""
        state = "READY" if self.ready() else "UNAVAILABLE"
        return [IndexEntry(self.own_name(), version, state) for version in self.versions]

    def own_name(self) -> str:
        """Return what clients call it by."""
        return self.name or get_replica_context().deployment

    def _check_name(self, name: str, version: str) -> None:
        if name != self.own_name():
            raise InferenceError(f"there is no model {name!r}; there is {self.own_name()!r}", 404)
        self.check_version(name, version)

    def check_version(self, name: str, version: str) -> None:
        """Refuse a version that the model does not have.

        Raises:
            InferenceError: it does not.
        """
        if version and version not in self.versions:
            raise InferenceError(f"model {name!r} has no version {version!r}; it has {', '.join(self.versions)}", 404)

    # -- inference ----------------------------------------------------------------------------------------------------

    async def infer(self, request: InferRequest) -> InferResponse:
        """Answer a request."""
        self._check_name(request.model_name, request.model_version)
        return await self.answer(request)

    async def answer(self, request: InferRequest) -> InferResponse:
        """Answer a request, whatever name it calls the model by."""
        predict: Any = getattr(self, "predict")  # noqa: B009 - subclasses have it
        if inspect.isgeneratorfunction(predict) or inspect.isasyncgenfunction(predict):
            raise InferenceError(f"model {request.model_name!r} answers in streams: call ModelStreamInfer (gRPC)", 501)
        arguments = self._arguments(request)
        if inspect.iscoroutinefunction(predict):
            result = await predict(**arguments)
        else:
            result = await _in_thread(functools.partial(predict, **arguments))
        return self._response(request, result)

    def infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """Answer a request with as many answers as ``predict`` yields."""
        self._check_name(request.model_name, request.model_version)
        return self.answer_stream(request)

    async def answer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """Answer likewise, whatever name the request calls the model by."""
        predict: Any = getattr(self, "predict")  # noqa: B009 - subclasses have it
        if inspect.isasyncgenfunction(predict):
            async for result in predict(**self._arguments(request)):
                yield self._response(request, result)
        elif inspect.isgeneratorfunction(predict):
            results = predict(**self._arguments(request))
            while (result := await _in_thread(functools.partial(next, results, _END))) is not _END:
                yield self._response(request, result)
        else:
            yield await self.answer(request)

    def _arguments(self, request: InferRequest) -> dict[str, Any]:
        kind: Any = type(self)
        arguments: dict[str, Any] = dict(checked_inputs(request, self.inputs))
        if "request" not in arguments and _takes_request(kind):
            arguments["request"] = request
        return arguments

    def _response(self, request: InferRequest, result: Any) -> InferResponse:
        outputs = checked_outputs(result, self.outputs, request.outputs)
        version = request.model_version or str(self.versions[-1])
        return InferResponse(request.model_name, outputs, version, request.id)


#: what a generator's end looks like across a thread
_END = object()


@functools.lru_cache(maxsize=256)
def _takes_request(kind: Any) -> bool:
    declared = {spec.name for spec in kind.inputs}
    return "request" in inspect.signature(kind.predict).parameters and "request" not in declared


async def _in_thread(call: functools.partial[Any]) -> Any:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(None, context.run, call)
