"""`ConcurrencyLimiter`: holds a searcher back while enough of its trials run."""

from __future__ import annotations

from typing import Any

from tune.search.base import Searcher, _Finished
from tune.space import Space
from tune.trial import Config, Result


class ConcurrencyLimiter(Searcher):
    """Lets at most so many trials of a searcher run at once: the fewer, the more each suggestion knows.

    Trials that a scheduler has paused do not count, so that one which compares many of them gets them; those of an open
    batch do.

    Args:
        searcher: the searcher.
        max_concurrent: trials at once.
        batch: hand results on only when a whole batch of `max_concurrent` trials has ended, and start the next batch
            only then.

    Raises:
        ValueError: `max_concurrent` is below 1, or the searcher is itself limited.
    """

    mode: str | list[str] | None
    metric: str | list[str] | None

    def __init__(self, searcher: Searcher, max_concurrent: int, batch: bool = False) -> None:
        if max_concurrent < 1:
            raise ValueError(f"max_concurrent must be at least 1, got {max_concurrent!r}.")
        if isinstance(searcher, ConcurrencyLimiter):
            raise ValueError("the searcher of a ConcurrencyLimiter must not be one itself.")  # noqa: TRY004
        super().__init__(searcher.metric, searcher.mode)
        self.searcher = searcher
        self.adaptive: bool = searcher.adaptive
        self.max_concurrent = max_concurrent
        self.batch = batch
        self._live: set[str] = set()
        self._paused: set[str] = set()
        #: ends of this batch's trials, not handed on yet
        self._ended: dict[str, tuple[Result | None, bool]] = {}
        self._exhausted = False

    def set_search_properties(
        self, metric: str | list[str] | None, mode: str | list[str] | None, config: Config, **spec: Any
    ) -> bool:
        """Hand the sweep's properties on."""
        taken = self.searcher.set_search_properties(metric, mode, config, **spec)
        self.metric, self.mode = self.searcher.metric, self.searcher.mode
        return taken

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        """Return the searcher's next configuration, None while enough trials run."""
        paused = 0 if self.batch else len(self._paused)
        if len(self._live) - paused + len(self._ended) >= self.max_concurrent:
            return None
        config = self.searcher.suggest(trial_id)
        if config is self.FINISHED:
            self._exhausted = True
        elif config is not None:
            self._live.add(trial_id)
        return config

    def on_trial_result(self, trial_id: str, result: Result) -> None:
        """Hand an intermediate result on."""
        self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Hand the end of a trial on, at once or with its batch."""
        if trial_id not in self._live:
            return
        self._live.discard(trial_id)
        self._paused.discard(trial_id)
        if not self.batch:
            self.searcher.on_trial_complete(trial_id, result, error)
            return
        self._ended[trial_id] = (result, error)
        if len(self._ended) == self.max_concurrent or (self._exhausted and not self._live):
            ended, self._ended = self._ended, {}
            for ended_id, (last, failed) in ended.items():
                self.searcher.on_trial_complete(ended_id, last, failed)

    def on_pause(self, trial_id: str) -> None:
        """Make room for another trial, and hand it on."""
        if trial_id in self._live:
            self._paused.add(trial_id)
        self.searcher.on_pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Count the trial again, and hand it on."""
        self._paused.discard(trial_id)
        self.searcher.on_unpause(trial_id)

    def add_evaluated_point(self, config: Config, value: float | list[float], error: bool = False) -> None:
        """Hand a known configuration on."""
        self.searcher.add_evaluated_point(config, value, error)

    def total_samples(self) -> int | None:
        """Return the searcher's number."""
        return self.searcher.total_samples()

    def search_space(self) -> Space | None:
        """Return the searcher's space."""
        return self.searcher.search_space()

    def extend(self, num_samples: int, config: Config | None = None) -> None:
        """Hand the extension on."""
        self._exhausted = False
        self.searcher.extend(num_samples, config)
