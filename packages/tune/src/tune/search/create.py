"""``tune.create_searcher`` and the names of searchers."""

from __future__ import annotations

import importlib
from typing import Any

from tune.search.base import Searcher

#: Name of a searcher: module, class, arguments.
_KNOWN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "variant_generator": ("tune.search.basic_variant", "BasicVariantGenerator", {}),
    "random": ("tune.search.basic_variant", "BasicVariantGenerator", {}),
    "grid": ("tune.search.basic_variant", "BasicVariantGenerator", {}),
    "optuna": ("tune.search.optuna", "OptunaSearch", {}),
    "tpe": ("tune.search.optuna", "OptunaSearch", {"sampler": "tpe"}),
    "gp": ("tune.search.optuna", "OptunaSearch", {"sampler": "gp"}),
    "cmaes": ("tune.search.optuna", "OptunaSearch", {"sampler": "cmaes"}),
    "qmc": ("tune.search.optuna", "OptunaSearch", {"sampler": "qmc"}),
    "nsgaii": ("tune.search.optuna", "OptunaSearch", {"sampler": "nsgaii"}),
    "nsgaiii": ("tune.search.optuna", "OptunaSearch", {"sampler": "nsgaiii"}),
    "bruteforce": ("tune.search.optuna", "OptunaSearch", {"sampler": "bruteforce"}),
    "bohb": ("tune.search.bohb", "TuneBOHB", {}),
    "nevergrad": ("tune.search.nevergrad", "NevergradSearch", {}),
}

SEARCHERS = tuple(_KNOWN)


def create_searcher(search_alg: str, **kwargs: Any) -> Searcher:
    """Make a searcher by name.

    Args:
        search_alg: one of `SEARCHERS`, in whatever case.
        **kwargs: arguments of the searcher. ``metric`` and ``mode`` are dropped for those that learn nothing.

    Raises:
        ValueError: there is no searcher of that name.
        TypeError: it has no such argument.
        ImportError: a package it needs is missing.
    """
    known = _KNOWN.get(str(search_alg).lower())
    if known is None:
        raise ValueError(
            f"search_alg must be one of {', '.join(SEARCHERS)}, or a Searcher; got {search_alg!r}. "
            f"Another library's optimizer fits into a tune.search.AskTellSearch of about 30 lines."
        )
    module, name, arguments = known
    if name == "BasicVariantGenerator":
        kwargs = {key: value for key, value in kwargs.items() if key not in {"metric", "mode"}}
    made: Searcher = getattr(importlib.import_module(module), name)(**{**arguments, **kwargs})
    return made
