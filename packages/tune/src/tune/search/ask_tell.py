"""`AskTellSearch`: any optimizer that can be asked for a candidate and told its loss, as a searcher.

A subclass says how to start the optimizer, how to ask it and how to tell it; metrics and modes, the space, points to
evaluate, trials that fail and configurations with constants, conditions and computed values are taken care of here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tune.search.base import _Finished
from tune.search.known_space import KnownSpaceSearcher
from tune.space import SearchSpace
from tune.trial import Config, Result


class AskTellSearch(KnownSpaceSearcher):
    """Base of searchers around an outside optimizer. Subclasses define `start`, `ask` and `tell`.

    Args:
        space: a dict of domains; None takes the sweep's ``config``.
        metric: the result's name; None takes the sweep's.
        mode: ``"min"`` or ``"max"``; None takes the sweep's.
        points_to_evaluate: configurations, or parts of them, to try first; the rest is what the optimizer says.
        seed: handed to `start`; None takes the sweep's, and without that a random one.
    """

    def __init__(
        self,
        space: Config | None = None,
        metric: str | list[str] | None = None,
        mode: str | list[str] | None = None,
        points_to_evaluate: Sequence[Config] | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__(space, metric, mode, points_to_evaluate, seed)
        self._started = False
        self._asked = 0
        #: the optimizer's candidates that run, by the controller's ids
        self._live: dict[str, Any] = {}

    def start(self, space: SearchSpace, seed: int) -> None:
        """Make the optimizer, before anything else is asked of it.

        Args:
            space: `SearchSpace.domains` are the parameters; `tune.space.UnitCube` turns them into vectors.
            seed: 32 bits.
        """
        raise NotImplementedError

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        """Return a candidate, whatever that is, and the parameters it stands for; None if there is none now.

        The parameters may include those of options that are not chosen.
        """
        raise NotImplementedError

    def tell(self, candidate: Any, losses: list[float]) -> None:
        """Tell the optimizer the losses of a candidate, one for each metric; less is better whatever the mode."""
        raise NotImplementedError

    def forget(self, candidate: Any) -> None:
        """Tell the optimizer that a candidate failed. Does nothing unless overridden."""

    def given(self, candidate: Any, params: dict[str, Any]) -> Any:
        """Return the candidate that is told for a point to evaluate instead of the one that was asked for.

        Args:
            candidate: what `ask` returned.
            params: its parameters, updated with the point's.
        """
        return candidate

    def suggest(self, trial_id: str) -> Config | _Finished | None:
        """Return the optimizer's next candidate as a configuration."""
        space = self._ready()
        asked = self.ask()
        if asked is None:
            return None
        candidate, params = asked
        if self._waiting:
            params = {**params, **self._waiting.pop(0)}
            candidate = self.given(candidate, params)
        resolved = space.resolve(lambda name, _domain: params[name], seed=(self._seed or 0, self._asked))
        self._asked += 1
        self._live[trial_id] = candidate
        return {**self._constants, **resolved.config}

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Tell the optimizer."""
        if trial_id not in self._live:
            return
        candidate = self._live.pop(trial_id)
        objectives = self._objectives()
        values = None if error else objectives.values(result)
        if values is None:
            self.forget(candidate)
        else:
            self.tell(candidate, objectives.losses(values))

    def begin_again(self) -> None:
        """Have a new optimizer made."""
        self._started = False

    def _ready(self) -> SearchSpace:
        space = self._known_space()
        if not self._started:
            self.start(space, self._certain_seed() % 2**32)
            self._started = True
        return space
