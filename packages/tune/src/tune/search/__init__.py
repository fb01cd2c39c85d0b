"""Searchers: which configurations are tried. Names as in Ray; each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune.search.ask_tell import AskTellSearch
    from tune.search.base import FINISHED, Searcher
    from tune.search.basic_variant import BasicVariantGenerator
    from tune.search.bohb import TuneBOHB
    from tune.search.concurrency_limiter import ConcurrencyLimiter
    from tune.search.create import create_searcher
    from tune.search.nevergrad import NevergradSearch
    from tune.search.optuna import OptunaSearch
    from tune.search.repeater import TRIAL_INDEX, Repeater
    from tune.search.study_file import StudyFileCallback
    from tune.space import grid_search

_HOMES = {
    "AskTellSearch": "tune.search.ask_tell",
    "FINISHED": "tune.search.base",
    "Searcher": "tune.search.base",
    "BasicVariantGenerator": "tune.search.basic_variant",
    "TuneBOHB": "tune.search.bohb",
    "ConcurrencyLimiter": "tune.search.concurrency_limiter",
    "create_searcher": "tune.search.create",
    "NevergradSearch": "tune.search.nevergrad",
    "OptunaSearch": "tune.search.optuna",
    "Repeater": "tune.search.repeater",
    "TRIAL_INDEX": "tune.search.repeater",
    "StudyFileCallback": "tune.search.study_file",
    "grid_search": "tune.space",
}

__all__ = [
    "FINISHED",
    "TRIAL_INDEX",
    "AskTellSearch",
    "BasicVariantGenerator",
    "ConcurrencyLimiter",
    "NevergradSearch",
    "OptunaSearch",
    "Repeater",
    "Searcher",
    "StudyFileCallback",
    "TuneBOHB",
    "create_searcher",
    "grid_search",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
