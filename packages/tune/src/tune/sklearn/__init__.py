"""scikit-learn's search on Tune: ``TuneSearchCV`` instead of ``RandomizedSearchCV``. Needs ``skate-tune[sklearn]``."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("sklearn") is None:
    raise ModuleNotFoundError(
        "tune.sklearn needs scikit-learn; install it with: pip install skate-tune[sklearn]", name="sklearn"
    )

from tune.sklearn.search_cv import TuneSearchCV

__all__ = ["TuneSearchCV"]
