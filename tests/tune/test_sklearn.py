"""`TuneSearchCV` against scikit-learn itself: same candidates, same scores, same errors; its own extras beside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GroupKFold, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import core
import tune
from tune.sklearn import TuneSearchCV


@pytest.fixture(scope="module", autouse=True)
def _session() -> Iterator[None]:
    core.init(num_cpus=2, _preloaded_modules=["tune.sklearn", "sklearn.linear_model", "sklearn.ensemble"])
    yield
    core.shutdown()


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    return make_classification(n_samples=200, n_features=8, random_state=0)


# some checks feed what cannot be fitted; a search warns of it, as scikit-learn's own does
@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.FitFailedWarning",
    "ignore:One or more of the test scores",
    "ignore:invalid value encountered",
)
@parametrize_with_checks([TuneSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, n_iter=2, cv=2)])
def test_scikit_learn_accepts_it_as_an_estimator(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def test_random_search_finds_what_randomized_search_cv_finds(data: tuple[Any, Any]) -> None:
    arguments: dict[str, Any] = {
        "n_iter": 6,
        "cv": 3,
        "random_state": 7,
        "return_train_score": True,
        "scoring": ["accuracy", "neg_log_loss"],
        "refit": "neg_log_loss",
    }
    space = {"C": stats.loguniform(1e-3, 10), "class_weight": [None, "balanced"]}
    ours = TuneSearchCV(LogisticRegression(), space, **arguments).fit(*data)
    theirs = RandomizedSearchCV(LogisticRegression(), space, **arguments).fit(*data)
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_index_ == theirs.best_index_
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    assert set(theirs.cv_results_) <= set(ours.cv_results_)
    for name, values in theirs.cv_results_.items():
        if "_score" in name and "time" not in name:
            np.testing.assert_allclose(ours.cv_results_[name], values)
    np.testing.assert_allclose(ours.predict_proba(data[0]), theirs.predict_proba(data[0]))


def test_parameters_of_fit_are_cut_and_passed_on(data: tuple[Any, Any]) -> None:
    X, y = data
    weights, groups = np.linspace(0.1, 2, len(y)), np.arange(len(y)) % 5
    searches = [
        kind(LogisticRegression(), {"C": [0.01, 1.0]}, n_iter=2, cv=GroupKFold(5)).fit(
            X, y, groups=groups, sample_weight=weights
        )
        for kind in (TuneSearchCV, RandomizedSearchCV)
    ]
    np.testing.assert_allclose(*(s.cv_results_["mean_test_score"] for s in searches))


def test_a_pipeline_without_targets_and_a_callable_refit() -> None:
    X, y = make_regression(n_samples=80, n_features=4, random_state=0)
    search = TuneSearchCV(
        make_pipeline(StandardScaler(), Ridge()),
        {"ridge__alpha": [0.1, 1.0, 10.0]},
        n_iter=3,
        refit=lambda results: int(np.argmax(results["mean_test_score"])),
    ).fit(X, y)
    assert search.best_params_ == {"ridge__alpha": 0.1}


class Fussy(BaseEstimator):  # type: ignore[misc]
    """Cannot be fitted with some parameters."""

    def __init__(self, level: int = 0) -> None:
        self.level = level

    def fit(self, X: Any, y: Any = None) -> Fussy:
        if self.level > 1:
            raise RuntimeError(f"level {self.level} is too much")
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return float(self.level)


def test_a_candidate_that_cannot_be_fitted_ranks_last(data: tuple[Any, Any]) -> None:
    with pytest.warns(FitFailedWarning, match="level 2 is too much"), pytest.warns(UserWarning, match="non-finite"):
        search = TuneSearchCV(Fussy(), {"level": [0, 1, 2]}, n_iter=3, cv=2).fit(*data)
    assert search.best_params_ == {"level": 1}
    assert np.isnan(search.cv_results_["mean_test_score"][2])
    assert search.cv_results_["rank_test_score"].tolist() == [2, 1, 3]


def test_error_score_raise_raises_what_the_estimator_raised(data: tuple[Any, Any]) -> None:
    with pytest.raises(RuntimeError, match="level 2 is too much"):
        TuneSearchCV(Fussy(), {"level": [2]}, n_iter=1, cv=2, error_score="raise").fit(*data)


def test_optuna_chooses_from_lists_scipy_and_tunes_own_domains(data: tuple[Any, Any]) -> None:
    space = {"C": tune.loguniform(1e-3, 10), "tol": stats.loguniform(1e-5, 1e-3), "class_weight": [None, "balanced"]}
    runs = [
        TuneSearchCV(LogisticRegression(), space, n_iter=5, cv=2, search_alg="optuna", random_state=3, n_jobs=1)
        .fit(*data)
        .cv_results_["params"]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len({params["C"] for params in runs[0]}) == 5
    with pytest.raises(TypeError, match=r"param_distributions\['C'\] is scipy's 'beta'"):
        TuneSearchCV(LogisticRegression(), {"C": stats.beta(1, 2)}, search_alg="optuna").fit(*data)


def test_estimators_that_learn_by_and_by_are_stopped_early(data: tuple[Any, Any]) -> None:
    space = {"alpha": [1e-4, 1e-3, 1.0, 10.0, 100.0, 1000.0], "random_state": [0]}
    search = TuneSearchCV(SGDClassifier(), space, n_iter=6, cv=2, max_iters=9, n_jobs=1).fit(*data)
    epochs = search.cv_results_["training_iteration"]
    assert max(epochs) == 9
    assert min(epochs) < 9
    assert search.best_params_["alpha"] < 10


def test_growing_forests_learn_by_warm_start() -> None:
    X, y = make_regression(n_samples=80, n_features=4, random_state=0)
    forest = RandomForestRegressor(n_estimators=12, random_state=0)
    search = TuneSearchCV(forest, {"max_depth": [1, 6]}, n_iter=2, cv=2, max_iters=3, scheduler="fifo").fit(X, y)
    plain = RandomizedSearchCV(forest, {"max_depth": [1, 6]}, n_iter=2, cv=2).fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])


def test_early_stopping_of_what_cannot_learn_on_is_refused(data: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="Ridge has neither"):
        TuneSearchCV(Ridge(), {"alpha": [1.0]}, max_iters=3).fit(*data)
    with pytest.raises(ValueError, match="max_iters must be at least 1"):
        TuneSearchCV(Ridge(), {"alpha": [1.0]}, max_iters=0).fit(*data)


def test_the_sweep_is_kept_where_asked_and_nowhere_else(data: tuple[Any, Any], tmp_path: Path) -> None:
    TuneSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, n_iter=2, cv=2, storage_path=tmp_path).fit(*data)
    (experiment,) = tmp_path.iterdir()
    assert (experiment / "report.html").exists()


def test_the_time_budget_ends_the_search(data: tuple[Any, Any]) -> None:
    space = {"C": stats.loguniform(1e-3, 10)}
    TuneSearchCV(LogisticRegression(), space, n_iter=4, cv=2).fit(*data)  # the time is for fits, not for imports
    search = TuneSearchCV(LogisticRegression(), space, n_iter=10_000, cv=2, time_budget_s=3.0, random_state=0)
    search.fit(*data)
    assert 0 < len(search.cv_results_["params"]) < 10_000
