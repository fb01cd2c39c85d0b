"""The contract of searchers: which configurations are tried. Ray's names.

The controller calls a searcher in one thread. What it has seen is its state; the controller pickles it (`save`) now and
then and, after a crash, repeats the calls since. A searcher with a ``seed`` must answer the same calls alike.

How many configurations there are is counted by the controller (``num_samples``), except for searchers that know it
themselves (`total_samples`), grids and points included: those it asks until they say `FINISHED`.

A searcher without a seed draws one in `set_search_properties`, so that a copy pickled after that call answers like the
original.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from tune.trial import Config, Result

if TYPE_CHECKING:
    from tune.space import Space


class _Finished:
    """The type of `Searcher.FINISHED`, one instance also after pickling."""

    def __reduce__(self) -> str:
        return "FINISHED"

    def __repr__(self) -> str:
        return "Searcher.FINISHED"


FINISHED: Final = _Finished()


class Searcher:
    """Base of all searchers.

    Args:
        metric: the result's name, or names for several objectives; None takes the sweep's.
        mode: ``"min"`` or ``"max"`` for each metric; None takes the sweep's.
    """

    #: returned by `suggest` when there will never be another configuration
    FINISHED: Final = FINISHED
    #: whether suggestions depend on results. If not, a seed makes the same ones in whatever order results come
    adaptive: bool = True

    def __init__(self, metric: str | list[str] | None = None, mode: str | list[str] | None = None) -> None:
        self.metric = metric
        self.mode = mode

    def set_search_properties(
        self, metric: str | list[str] | None, mode: str | list[str] | None, config: Config, **spec: Any
    ) -> bool:
        """Take the sweep's metric, mode and space (a config with domains in it) where none was given before.

        Args:
            metric: as in ``tune.run``.
            mode: as in ``tune.run``.
            config: the space, a dict or a function of a trial; the searcher's suggestions are complete
                configurations, constants included.
            **spec: ``seed`` (int or None), ``num_samples`` (int, -1 without end) and ``constraints`` of the sweep.

        Returns:
            False if this searcher cannot take a space that is set here because it has one already.

        Raises:
            ValueError: the space holds something this searcher cannot search, named by its path.
        """
        return False

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        """Return the next configuration, None if there is none now, or `FINISHED`."""
        raise NotImplementedError

    def on_trial_result(self, trial_id: str, result: Result) -> None:
        """Learn an intermediate result."""

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Learn the end of a trial: its last result, or None, and whether it failed."""

    def on_pause(self, trial_id: str) -> None:
        """Learn that the scheduler has paused a trial: it takes no place until `on_unpause`, or its end."""

    def on_unpause(self, trial_id: str) -> None:
        """Learn that a paused trial goes on."""

    def add_evaluated_point(self, config: Config, value: float | list[float], error: bool = False) -> None:
        """Learn a configuration whose value is known, without running it."""
        raise NotImplementedError(f"{type(self).__name__} cannot be told of evaluated points")

    def total_samples(self) -> int | None:
        """Return how many configurations there will be in all, None if unknown."""
        return None

    def search_space(self) -> Space | None:
        """Return the space that suggestions come from, None if it is not known."""
        return None

    def extend(self, num_samples: int, config: Config | None) -> None:
        """Go on with a finished search: so many more configurations, from a changed space if one is given."""

    def save(self, path: str) -> None:
        """Write the state to a file, with cloudpickle."""
        Path(path).write_bytes(cloudpickle.dumps(self.__dict__))

    def restore(self, path: str) -> None:
        """Read back what `save` wrote, into a searcher made with the same arguments. Read only files you trust."""
        self.__dict__.update(cloudpickle.loads(Path(path).read_bytes()))
