"""A repository of models that clients load and unload at run time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

from serve.context import get_replica_context
from serve.errors import RayServeException
from serve.model_control import orders
from serve.model_control.keeper import ModelKeeper, Standing, keeper
from serve.model_control.local import LocalModels
from serve.multiplex.decorator import CACHES_ATTRIBUTE
from serve.oip.errors import InferenceError
from serve.oip.model import Model
from serve.oip.served import IndexEntry, Metadata, Served
from serve.oip.tensors import InferRequest, InferResponse


class Repository(Served):
    """Base of deployments whose models come and go: ``v2/repository``, and ``serve.load_model`` in Python.

    ::

        @serve.deployment
        class Forecasts(serve.oip.Repository):
            def available(self) -> list[str]:
                return sorted(path.stem for path in STORE.glob("*.npz"))

            @serve.multiplexed(max_num_models_per_replica=100)
            async def get_model(self, name: str) -> serve.oip.Model:
                return await asyncio.to_thread(Forecast, STORE / f"{name}.npz")

    A model serves once it was loaded by order, in all replicas; loading keeps no other model's requests waiting.
    """

    #: load models for requests too, whether they were ordered or not
    on_demand: bool = False

    def available(self) -> Iterable[str]:
        """Return the names of models that could be loaded, for the index."""
        return ()

    def check_definition(self) -> None:
        """Refuse a class without a loader, or with several."""
        if len(_loaders(type(self))) != 1:
            raise TypeError(
                f"{type(self).__name__} is a serve.oip.Repository, so it needs exactly one method with "
                "@serve.multiplexed that returns a serve.oip.Model"
            )

    # -- what the protocol asks ---------------------------------------------------------------------------------------

    async def ready_models(self) -> bool:
        """Tell whether all models that were ordered are ready."""
        models = self._models()
        return all(found.state == "READY" for name, found in models.standings().items() if models.wants(name))

    async def is_ready(self, name: str, version: str = "") -> bool:
        """Tell whether a model is ready here."""
        standing = self._models().standings().get(name)
        if standing is None:
            self._refuse(name)
            return True  # the next request loads it
        if standing.state != "READY":
            return False
        model = await self._load(name)
        model.check_version(name, version)
        return model.ready()

    async def metadata(self, name: str, version: str = "") -> Metadata:
        """Return what a model says of itself."""
        model = await self._model(name)
        model.check_version(name, version)
        return model.own_metadata(name)

    async def infer(self, request: InferRequest) -> InferResponse:
        """Answer a request by its model."""
        model = await self._model(request.model_name)
        model.check_version(request.model_name, request.model_version)
        return await model.answer(request)

    async def infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        """Answer a request by its model, with any number of answers."""
        model = await self._model(request.model_name)
        model.check_version(request.model_name, request.model_version)
        async for answer in model.answer_stream(request):
            yield answer

    async def index(self) -> list[IndexEntry]:
        """Return all models that are loaded or could be."""
        models = self._models()
        known: dict[str, Standing] | dict[str, orders.ModelStatus]
        if isinstance(models, LocalModels):
            known = models.standings()
        else:
            statuses = await asyncio.to_thread(orders.statuses, get_replica_context().deployment_id)
            known = {status.model_id: status for status in statuses}
        entries = [IndexEntry(name, "1", found.state, _brief(found.reason)) for name, found in known.items()]
        available = await asyncio.to_thread(lambda: list(self.available()))
        entries += [IndexEntry(name, "1", "UNAVAILABLE", "not loaded") for name in available if name not in known]
        return sorted(entries, key=lambda entry: entry.name)

    async def load(self, name: str, parameters: dict[str, Any]) -> None:
        """Load a model in all replicas."""
        if parameters:
            raise InferenceError(f"model {name!r} is loaded without parameters; {sorted(parameters)} were sent", 400)
        models = self._models()
        await _carried_out(models.load(name) if isinstance(models, LocalModels) else _ordered(orders.load, name))

    async def unload(self, name: str, parameters: dict[str, Any]) -> None:
        """Unload a model in all replicas."""
        models = self._models()
        await _carried_out(models.unload(name) if isinstance(models, LocalModels) else _ordered(orders.unload, name))

    # -- models -------------------------------------------------------------------------------------------------------

    def _refuse(self, name: str) -> None:
        if not self.on_demand and not self._models().wants(name):
            raise InferenceError(f"model {name!r} is not loaded; load it first: v2/repository/models/{name}/load", 404)

    def _models(self) -> ModelKeeper | LocalModels:
        """Return who knows the models of this replica."""
        found = keeper()
        if found is not None:
            return found
        local: LocalModels | None = self.__dict__.get("_local_models")
        if local is None:
            caches = getattr(getattr(type(self), _loaders(type(self))[0]), CACHES_ATTRIBUTE)
            local = self.__dict__["_local_models"] = LocalModels(caches.of(self))
        return local

    async def _model(self, name: str) -> Model:
        self._refuse(name)
        return await self._load(name)

    async def _load(self, name: str) -> Model:
        model = await getattr(self, _loaders(type(self))[0])(name)
        if not isinstance(model, Model):
            raise InferenceError(f"the loader of {name!r} returned a {type(model).__name__}, no serve.oip.Model", 500)
        return model


def _loaders(kind: type) -> list[str]:
    return [name for name in dir(kind) if hasattr(inspect.getattr_static(kind, name), CACHES_ATTRIBUTE)]


async def _ordered(order: Callable[..., None], name: str) -> None:
    """Give an order from here, in a thread: it waits for all replicas."""
    await asyncio.to_thread(order, get_replica_context().deployment_id, name)


async def _carried_out(order: Coroutine[Any, Any, None]) -> None:
    """Wait for an order; what went wrong is the client's to know."""
    try:
        await order
    except InferenceError:
        raise
    except RayServeException as error:
        raise InferenceError(_brief(str(error)), 400) from None


def _brief(text: str) -> str:
    """Leave a traceback out: clients need not know the code."""
    lines = text.splitlines()
    traced = next((number for number, line in enumerate(lines) if line.startswith("Traceback")), None)
    return text if traced is None else " ".join([*lines[:traced], lines[-1]])
