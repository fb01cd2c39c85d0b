"""`KnownSpaceSearcher`: the base of searchers that must know all parameters before they begin."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from tune.search.base import Searcher
from tune.search.objectives import Objectives
from tune.space import SearchSpace, Space, as_space, has_domains
from tune.trial import Config


class KnownSpaceSearcher(Searcher):
    """Keeps space, constants, points and seed. Subclasses say what a changed space means to them, in `begin_again`.

    Args:
        space: a dict of domains; None takes the sweep's ``config``.
        metric: the result's name; None takes the sweep's.
        mode: ``"min"`` or ``"max"``; None takes the sweep's.
        points_to_evaluate: configurations, or parts of them, to try first.
        seed: None takes the sweep's, and without that a random one.
    """

    mode: str | list[str] | None
    metric: str | list[str] | None

    def __init__(
        self,
        space: Config | None,
        metric: str | list[str] | None,
        mode: str | list[str] | None,
        points_to_evaluate: Sequence[Config] | None,
        seed: int | None,
    ) -> None:
        super().__init__(metric, mode)
        self._space: SearchSpace | None = None
        self._own_space = space is not None
        #: what the sweep's config adds to a space of the searcher's own
        self._constants: Config = {}
        self._points = list(points_to_evaluate or [])
        #: parameters of the points that are still to be suggested
        self._waiting: list[dict[str, Any]] = []
        self._seed = seed
        if space is not None:
            self._take(space)

    def begin_again(self) -> None:
        """Forget what was learned: the parameters are others now."""
        raise NotImplementedError

    def set_search_properties(
        self, metric: str | list[str] | None, mode: str | list[str] | None, config: Any, **spec: Any
    ) -> bool:
        """Take the sweep's metric, mode, space and seed; see `Searcher.set_search_properties`."""
        self.metric, self.mode = self.metric or metric, self.mode or mode
        self._objectives()
        if not self._own_space:
            self._take(config)
        elif callable(config) or has_domains(config):
            return False
        else:
            self._constants = config
        if self._seed is None:
            self._seed = spec.get("seed")
        self._certain_seed()
        return True

    def search_space(self) -> Space | None:
        """Return the space."""
        return self._space

    def extend(self, num_samples: int, config: Config | None = None) -> None:
        """Go on; with other parameters, from the beginning."""
        if config is None:
            return
        before, waiting, self._points = self._space, self._waiting, []
        self._take(config)
        if before is not None and before.searches_like(self._space):
            self._waiting = waiting
        else:
            self.begin_again()

    def _objectives(self) -> Objectives:
        return Objectives.of(self.metric, self.mode, searcher=type(self).__name__)

    def _certain_seed(self) -> int:
        if self._seed is None:
            self._seed = secrets.randbits(32)
        return self._seed

    def _known_space(self) -> SearchSpace:
        if self._space is None:
            raise RuntimeError(f"{type(self).__name__} has no search space: give it one, or config= to tune.run.")
        return self._space

    def _take(self, space: Config | Callable[[Any], Config | None]) -> None:
        name = type(self).__name__
        whole = as_space(space)
        if not isinstance(whole, SearchSpace):
            raise TypeError(f"{name} needs a dict as search space: of a function the parameters are not known before.")
        whole.check_searchable(name)
        self._waiting = [whole.point(point) for point in self._points]
        self._space = whole
