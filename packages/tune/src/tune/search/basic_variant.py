"""Random and grid search, the default: `BasicVariantGenerator`.

Configuration number *i* depends on the seed, the space and *i* alone: it is drawn from a generator seeded with
``(seed, i)``. So nothing is stored for a trial, and a sweep that goes on continues the very sequence.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from tune.search.base import Searcher, _Finished
from tune.space import DefinedSpace, Domain, Space, as_space, has_domains
from tune.space.domains import as_generator
from tune.trial import Config, Result


class BasicVariantGenerator(Searcher):
    """Tries every cell of the grids ``num_samples`` times, and draws everything else at random.

    Args:
        points_to_evaluate: configurations, or parts of them, to try first; the rest is drawn, and grids that a point
            leaves open are run through. Each point stands for one of the ``num_samples``.
        max_concurrent: trials at once; 0 for no limit.
        constant_grid_search: draw random parameters once for a whole pass over the grid.
        random_state: seed, or a numpy generator to take one from; None takes the sweep's seed, and without that a
            random one.
        space: the space; None takes the sweep's.
    """

    mode: str | list[str] | None
    metric: str | list[str] | None

    adaptive = False

    def __init__(
        self,
        points_to_evaluate: Sequence[Config] | None = None,
        max_concurrent: int = 0,
        constant_grid_search: bool = False,
        random_state: Any = None,
        *,
        space: Space | Config | Callable[[Any], Config | None] | None = None,
    ) -> None:
        super().__init__()
        if max_concurrent < 0:
            raise ValueError(f"max_concurrent must be at least 0 (no limit), got {max_concurrent!r}.")
        self.max_concurrent = max_concurrent
        self._points = list(points_to_evaluate or [])
        self._constant_grid = constant_grid_search
        self._seed = None if random_state is None else _seed_of(random_state)
        self._space = None if space is None else as_space(space)
        self._own_space = space is not None
        self._constants: Config = {}
        self._num_samples = 1
        self._fixed: list[dict[str, Any]] = []
        #: how many configurations were made, and where the next one lies: which pass, which cell of its grid
        self._made = 0
        self._block = 0
        self._cell = 0
        self._live: set[str] = set()

    def set_search_properties(
        self, metric: str | list[str] | None, mode: str | list[str] | None, config: Any, **spec: Any
    ) -> bool:
        """Take the sweep's space, seed and number of samples; see `Searcher.set_search_properties`."""
        self.metric, self.mode = self.metric or metric, self.mode or mode
        if self._own_space:
            if callable(config) or has_domains(config):
                return False
            self._constants = config
        else:
            self._space = as_space(config)
        self._num_samples = spec.get("num_samples") or 1
        if self._seed is None:
            self._seed = spec.get("seed")
        self._certain_seed()
        self._check_points()
        return True

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        """Return the next configuration, None while `max_concurrent` trials run, or `FINISHED`."""
        if self.max_concurrent and len(self._live) >= self.max_concurrent:
            return None
        if 0 <= self._blocks <= self._block:
            return self.FINISHED
        space = self._known_space()
        fixed = self._fixed[self._block] if self._block < len(self._fixed) else None
        seed = (self._certain_seed(), self._made)
        resolved = space.resolve(self._chooser(), cell=self._cell, fixed=fixed, seed=seed)
        self._made += 1
        self._cell += 1
        if self._cell >= space.cells(fixed):
            self._block, self._cell = self._block + 1, 0
        if self.max_concurrent:
            self._live.add(trial_id)
        return {**self._constants, **resolved.config} if self._constants else resolved.config

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Make room for another trial."""
        self._live.discard(trial_id)

    def on_pause(self, trial_id: str) -> None:
        """Make room for another trial."""
        self._live.discard(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Count the trial again."""
        if self.max_concurrent:
            self._live.add(trial_id)

    def add_evaluated_point(self, config: Config, value: float | list[float], error: bool = False) -> None:
        """Do nothing: random search learns nothing."""

    def total_samples(self) -> int | None:
        """Return how many configurations there will be in all, None without end."""
        if self._num_samples < 0:
            return None
        space = self._known_space()
        # What was made counts as made: it may have come from a space with other grids.
        points = self._fixed[self._block :]
        left = sum(space.cells(fixed) for fixed in points)
        left += max(self._blocks - self._block - len(points), 0) * space.cells()
        return self._made + left - self._cell

    def search_space(self) -> Space | None:
        """Return the space."""
        return self._space

    def extend(self, num_samples: int, config: Config | None = None) -> None:
        """Go on: so many more passes, from a changed space if one is given. -1 goes on without end.

        An unfinished pass goes on where it is if the grids are the same; a pass over other grids begins anew.
        """
        if config is not None:
            before, self._space = self._known_space(), as_space(config)
            self._fixed = self._fixed[: self._block] + [
                self._space.point(point, strict=False) for point in self._points[self._block :]
            ]
            if not before.same_grids(self._space):
                self._cell = 0
        blocks = max(self._num_samples, len(self._fixed))
        self._num_samples = -1 if num_samples < 0 or self._num_samples < 0 else blocks + num_samples

    @property
    def _blocks(self) -> int:
        """How many passes over the grids there are, the points' included; -1 without end."""
        return self._num_samples if self._num_samples < 0 else max(self._num_samples, len(self._fixed))

    def _known_space(self) -> Space:
        if self._space is None:
            raise RuntimeError("BasicVariantGenerator has no search space yet; set_search_properties gives it one.")
        if self._points and not self._fixed:
            self._check_points()
        return self._space

    def _check_points(self) -> None:
        assert self._space is not None
        self._fixed = [self._space.point(point, strict=False) for point in self._points]

    def _certain_seed(self) -> int:
        if self._seed is None:
            self._seed = secrets.randbits(63)
        return self._seed

    def _chooser(self) -> Callable[[str, Domain], Any]:
        import numpy as np  # noqa: PLC0415  a tenth of a second that planning a sweep does not need

        seed = self._certain_seed()
        if not self._constant_grid or isinstance(self._space, DefinedSpace):
            rng = np.random.default_rng((seed, self._made))
            return lambda _name, domain: domain.draw(rng)
        # One generator for each parameter: which ones are asked for may differ from cell to cell.
        block = self._block
        return lambda name, domain: domain.draw(np.random.default_rng((seed, block, zlib.crc32(name.encode()))))


def _seed_of(random_state: Any) -> int:
    if isinstance(random_state, int) and not isinstance(random_state, bool):
        if random_state < 0:
            raise ValueError(f"a seed must not be negative, got {random_state!r}.")
        return random_state
    return int(as_generator(random_state).integers(2**63))
