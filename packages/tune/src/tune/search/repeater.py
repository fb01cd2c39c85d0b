"""`Repeater`: runs each suggestion of a searcher several times and tells it the mean, for noisy objectives."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import msgspec

from tune.search.base import Searcher, _Finished
from tune.search.objectives import Objectives
from tune.space import Space
from tune.trial import Config, Result

#: The key of the configuration under which a trial finds the number of its repetition: 0, 1, ...
TRIAL_INDEX = "__trial_index__"


class _Group(msgspec.Struct):
    """The trials of one suggestion. The first one's id is what the searcher knows."""

    first: str
    config: Config
    started: int = 0
    ended: int = 0
    #: last results of the trials that ended well
    results: list[Result] = msgspec.field(default_factory=list)


class Repeater(Searcher):
    """Runs each configuration `repeat` times; the searcher learns the mean of the metrics of those that ended well.

    ``num_samples`` counts trials, so it should be a multiple of `repeat`. Schedulers that stop trials early compare
    repetitions with one another and do not go well with it.

    Args:
        searcher: the searcher.
        repeat: trials for each configuration.
        set_index: put the number of the repetition into the configuration, under ``"__trial_index__"``.

    Raises:
        ValueError: `repeat` is below 1.
    """

    mode: str | list[str] | None
    metric: str | list[str] | None

    def __init__(self, searcher: Searcher, repeat: int = 1, set_index: bool = True) -> None:
        if repeat < 1:
            raise ValueError(f"repeat must be at least 1, got {repeat!r}.")
        super().__init__(searcher.metric, searcher.mode)
        self.searcher = searcher
        self.adaptive: bool = searcher.adaptive
        self.repeat = repeat
        self.set_index = set_index
        self._open: _Group | None = None
        self._groups: dict[str, _Group] = {}

    def set_search_properties(
        self, metric: str | list[str] | None, mode: str | list[str] | None, config: Config, **spec: Any
    ) -> bool:
        """Hand the sweep's properties on; the searcher is told how many different configurations there will be."""
        samples = spec.get("num_samples") or 1
        spec["num_samples"] = samples if samples < 0 else -(-samples // self.repeat)
        taken = self.searcher.set_search_properties(metric, mode, config, **spec)
        self.metric, self.mode = self.searcher.metric or metric, self.searcher.mode or mode
        return taken

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        """Return the open configuration once more, or the searcher's next one."""
        group = self._open
        if group is None:
            config = self.searcher.suggest(trial_id)
            if config is None or isinstance(config, _Finished):
                return config
            group = self._open = _Group(trial_id, config)
        number = group.started
        group.started += 1
        self._groups[trial_id] = group
        if group.started == self.repeat:
            self._open = None
        return {**group.config, TRIAL_INDEX: number} if self.set_index else dict(group.config)

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Tell the searcher when the last repetition has ended."""
        group = self._groups.pop(trial_id, None)
        if group is None:
            return
        group.ended += 1
        if result and not error:
            group.results.append(result)
        if group.ended < self.repeat:
            return
        mean = self._mean(group.results)
        self.searcher.on_trial_complete(group.first, mean, error=mean is None)

    def add_evaluated_point(self, config: Config, value: float | list[float], error: bool = False) -> None:
        """Hand a known configuration on."""
        self.searcher.add_evaluated_point(config, value, error)

    def total_samples(self) -> int | None:
        """Return the searcher's number times the repetitions."""
        total = self.searcher.total_samples()
        return None if total is None else total * self.repeat

    def search_space(self) -> Space | None:
        """Return the searcher's space."""
        return self.searcher.search_space()

    def extend(self, num_samples: int, config: Config | None = None) -> None:
        """Hand the extension on, counted in different configurations."""
        self.searcher.extend(num_samples if num_samples < 0 else -(-num_samples // self.repeat), config)

    def _mean(self, results: list[Result]) -> Result | None:
        if self.metric is None:
            return results[-1] if results else None
        objectives = Objectives.of(self.metric, self.mode, searcher="Repeater")
        valued = [values for values in map(objectives.values, results) if values is not None]
        if not valued:
            return None
        means = [fmean(column) for column in zip(*valued, strict=True)]
        return {**results[-1], **dict(zip(objectives.metrics, means, strict=True))}
