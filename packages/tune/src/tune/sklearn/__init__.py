"""scikit-learn's search on Tune: ``TuneSearchCV`` instead of ``RandomizedSearchCV``. Needs ``skate-tune[sklearn]``."""

from __future__ import annotations

try:
    import sklearn as _sklearn
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "tune.sklearn needs scikit-learn; install it with: pip install skate-tune[sklearn]", name="sklearn"
    ) from error

from tune.sklearn.search_cv import TuneSearchCV

__all__ = ["TuneSearchCV"]
