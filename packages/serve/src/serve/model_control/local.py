"""The models of a repository that runs in the caller's process (`serve.testing`): nobody else is to be told."""

from __future__ import annotations

from serve.errors import ModelLoadError, RayServeException
from serve.model_control.keeper import Standing, report
from serve.multiplex.cache import ModelCache


class LocalModels:
    """See the module's docstring. All methods run on the loop of the replica.

    Args:
        cache: what loads and keeps the models.
    """

    def __init__(self, cache: ModelCache) -> None:
        self._cache = cache
        #: models that were ordered, and why they are not there
        self._ordered: dict[str, str] = {}

    def wants(self, model_id: str) -> bool:
        """Tell whether a model was ordered."""
        return model_id in self._ordered

    def standings(self) -> dict[str, Standing]:
        """Return where each model stands that is loaded, ordered, or on its way."""
        missing = {name: Standing("UNAVAILABLE", reason) for name, reason in self._ordered.items()}
        return missing | {name: Standing(str(state)) for name, state in self._cache.states().items()}

    async def load(self, model_id: str) -> None:
        """Load a model.

        Raises:
            ModelLoadError: the loader raised.
        """
        self._ordered[model_id] = ""
        try:
            await self._cache.load(model_id)
        except Exception as error:  # the user's loader
            self._ordered[model_id] = report(error)
            raise ModelLoadError(f"model {model_id!r} cannot be loaded:\n{self._ordered[model_id]}") from error

    async def unload(self, model_id: str) -> None:
        """Unload a model.

        Raises:
            RayServeException: there is none.
        """
        known = self._ordered.pop(model_id, None) is not None
        if not await self._cache.unload(model_id) and not known:
            raise RayServeException(f"there is no model {model_id!r}")
