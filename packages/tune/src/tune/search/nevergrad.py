"""`NevergradSearch`: Nevergrad's optimizers. Needs ``pip install skate-tune[nevergrad]``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from tune.search.ask_tell import AskTellSearch
from tune.space import Categorical, Domain, Float, Integer, SearchSpace
from tune.trial import Config

_BUDGET = 1_000


class NevergradSearch(AskTellSearch):
    """Searches with an optimizer of Nevergrad's.

    Args:
        optimizer: a class or configured family of ``nevergrad.optimizers``, or its name in the registry: ``"NGOpt"``,
            ... The default does with few samples and with every kind of domain.
        optimizer_kwargs: further arguments of the class; ``budget`` is the sweep's ``num_samples`` (1,000 if that has
            no end) unless given.
        space: a dict of domains; None takes the sweep's ``config``.
        metric: the result's name, or names for several objectives; None takes the sweep's.
        mode: ``"min"`` or ``"max"``; None takes the sweep's.
        points_to_evaluate: configurations, or parts of them, to try first.
        seed: of the optimizer; None takes the sweep's.

    Raises:
        ImportError: Nevergrad is not installed.
    """

    def __init__(
        self,
        optimizer: Any = "OnePlusOne",
        optimizer_kwargs: dict[str, Any] | None = None,
        space: Config | None = None,
        metric: str | list[str] | None = None,
        mode: str | list[str] | None = None,
        points_to_evaluate: Sequence[Config] | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        if find_spec("nevergrad") is None:
            raise ImportError("NevergradSearch needs Nevergrad: pip install skate-tune[nevergrad]")
        super().__init__(space, metric, mode, points_to_evaluate, seed=seed)
        self._make = optimizer
        self._arguments = dict(optimizer_kwargs or {})
        self._samples = 0
        self._optimizer: Any = None

    def set_search_properties(
        self, metric: str | list[str] | None, mode: str | list[str] | None, config: Any, **spec: Any
    ) -> bool:
        """Take the sweep's properties, the number of samples for a budget; see `Searcher.set_search_properties`."""
        self._samples = spec.get("num_samples") or 0
        return super().set_search_properties(metric, mode, config, **spec)

    def start(self, space: SearchSpace, seed: int) -> None:
        """Make the optimizer; see `AskTellSearch.start`."""
        import nevergrad as ng  # noqa: PLC0415  an optional package that takes seconds to import
        import numpy as np  # noqa: PLC0415  as above

        parameters = ng.p.Dict(**{name: _parameter(domain) for name, domain in space.domains.items()})
        parameters.random_state = np.random.RandomState(seed)
        make = ng.optimizers.registry[self._make] if isinstance(self._make, str) else self._make
        # Those of Nevergrad's optimizers that choose an algorithm by themselves cannot do so without a budget.
        arguments = {"budget": self._samples if self._samples > 0 else _BUDGET, **self._arguments}
        self._optimizer = make(parametrization=parameters, **arguments)

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """Ask; see `AskTellSearch.ask`."""
        with warnings.catch_warnings():  # Nevergrad remarks on its own choices
            warnings.simplefilter("ignore")
            candidate = self._optimizer.ask()
        return candidate, self._settled(candidate.value)

    def tell(self, candidate: Any, losses: list[float]) -> None:
        """Tell; see `AskTellSearch.tell`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._optimizer.tell(candidate, losses[0] if len(losses) == 1 else losses)

    def given(self, candidate: Any, params: dict[str, Any]) -> Any:
        """Make the candidate of a point; see `AskTellSearch.given`."""
        return self._optimizer.parametrization.spawn_child(new_value=params)

    def _settled(self, values: dict[str, Any]) -> dict[str, Any]:
        assert self._space is not None
        return {name: _settle(self._space.domains[name], value) for name, value in values.items()}


def _parameter(domain: Domain) -> Any:
    import nevergrad as ng  # noqa: PLC0415  as above

    if isinstance(domain, Categorical):
        return ng.p.Choice(list(domain.categories))
    if isinstance(domain, Integer):
        if domain.log:
            return ng.p.Log(lower=domain.first, upper=max(domain.last, domain.first + 1e-9))
        # Half a step on either side, so that the ends are rounded to as often as the values between them.
        return ng.p.Scalar(lower=domain.first - domain.q / 2, upper=domain.last + domain.q / 2)
    assert isinstance(domain, Float)
    if domain.lower == domain.upper:
        return domain.lower
    return (ng.p.Log if domain.log else ng.p.Scalar)(lower=domain.lower, upper=domain.upper)


def _settle(domain: Domain, value: Any) -> Any:
    return domain.settle(value) if isinstance(domain, Float | Integer) else value
