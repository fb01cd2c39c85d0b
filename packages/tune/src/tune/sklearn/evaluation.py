"""What evaluates a candidate: it is fitted and scored on every fold, in a task (`tune.delegate`).

scikit-learn's own ``_fit_and_score`` does the fitting, so that errors, warnings, times and multi-metric scores are what
``RandomizedSearchCV`` would have recorded. It is not public; the keyword arguments used here stand since 1.4.
"""

# ruff: noqa: N806 - scikit-learn's names
from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection._validation import _fit_and_score, _score
from sklearn.utils.metaestimators import _safe_split

#: what one fold gives: the record that scikit-learn's ``_format_results`` takes
Outcome = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What all trials of one search share; it goes through the object store once."""

    estimator: BaseEstimator
    X: Any
    y: Any
    #: train and test indices of each fold
    splits: list[tuple[Any, Any]]
    scorer: Any
    fit_params: Mapping[str, Any]
    score_params: Mapping[str, Any]
    error_score: Any
    return_train_score: bool
    #: the score the search goes by; None if there is but one
    metric: str | None
    #: epochs of a candidate; 1 fits it in one go
    max_iters: int

    def value(self, outcomes: list[Outcome]) -> float:
        """Return the mean test score that the search goes by. NaN if a fold failed."""
        scores = [outcome["test_scores"] for outcome in outcomes]
        if scores and isinstance(scores[0], dict):
            name = self.metric if self.metric is not None else next(iter(scores[0]))
            scores = [score[name] for score in scores]
        return float(np.mean(scores))


def evaluate(
    config: Mapping[str, Any], task: Task, drawn: Sequence[Mapping[str, Any]] | None
) -> Iterator[dict[str, Any]]:
    """Fit and score one candidate: once, or epoch by epoch if it learns by and by.

    Args:
        config: the candidate's parameters; or its place among those that were drawn before.
        task: what all candidates of the search share.
        drawn: the candidates, if they were drawn before.

    Yields:
        results to report: the score that the search goes by, and what the folds gave.
    """
    params = candidate(config, drawn)
    if task.max_iters == 1:
        yield _result(task, [_fit_at_once(task, params, train, test) for train, test in task.splits])
        return
    folds = [_Gradual(task, params, train, test) for train, test in task.splits]
    for epoch in range(1, task.max_iters + 1):
        yield _result(task, [fold.learn(epoch) for fold in folds])


def candidate(config: Mapping[str, Any], drawn: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Return the parameters that a trial's configuration stands for."""
    return dict(config if drawn is None else drawn[config["candidate"]])


def _result(task: Task, outcomes: list[Outcome]) -> dict[str, Any]:
    value = task.value(outcomes) if all(outcome["fit_error"] is None for outcome in outcomes) else math.nan
    # a candidate that cannot be fitted ranks last and stays in cv_results_, as in scikit-learn
    return {"score": value if math.isfinite(value) else -math.inf, "outcomes": outcomes}


def _fit_at_once(task: Task, params: Mapping[str, Any], train: Any, test: Any) -> Outcome:
    outcome: Outcome = _fit_and_score(
        clone(task.estimator),
        task.X,
        task.y,
        scorer=task.scorer,
        train=train,
        test=test,
        verbose=0,
        parameters=dict(params),
        fit_params=dict(task.fit_params),
        score_params=dict(task.score_params),
        return_train_score=task.return_train_score,
        return_n_test_samples=True,
        return_times=True,
        error_score=task.error_score,
    )
    return outcome


class _Gradual:
    """One fold of a candidate that learns epoch by epoch: by ``partial_fit``, or ``warm_start`` and a growing size."""

    def __init__(self, task: Task, params: Mapping[str, Any], train: Any, test: Any) -> None:
        self._task = task
        self._estimator = clone(task.estimator).set_params(**clone(dict(params), safe=False))
        self._train = _safe_split(self._estimator, task.X, task.y, train)
        self._test = _safe_split(self._estimator, task.X, task.y, test, train)
        self._n_test = len(test)
        self._fit_time = 0.0
        self._size = growing_size(self._estimator)
        self._total = self._estimator.get_params()[self._size] if self._size is not None else 0
        self._fit_params = _rows(task, train)

    def learn(self, epoch: int) -> Outcome:
        """Learn up to `epoch` and score."""
        began = time.perf_counter()
        X, y = self._train
        if self._size is None:
            known = {"classes": np.unique(self._task.y)} if epoch == 1 and is_classifier(self._estimator) else {}
            self._estimator.partial_fit(X, y, **known, **self._fit_params)
        else:
            size = max(1, math.ceil(self._total * epoch / self._task.max_iters))
            self._estimator.set_params(warm_start=True, **{self._size: size})
            self._estimator.fit(X, y, **self._fit_params)
        self._fit_time += time.perf_counter() - began
        return self._scored()

    def _scored(self) -> Outcome:
        began = time.perf_counter()
        task = self._task
        score_params = dict(task.score_params)
        outcome: Outcome = {
            "fit_error": None,
            "test_scores": _score(self._estimator, *self._test, task.scorer, score_params, task.error_score),
            "fit_time": self._fit_time,
            "score_time": time.perf_counter() - began,
            "n_test_samples": self._n_test,
        }
        if task.return_train_score:
            outcome["train_scores"] = _score(self._estimator, *self._train, task.scorer, score_params, task.error_score)
        return outcome


def growing_size(estimator: BaseEstimator) -> str | None:
    """Return the parameter whose growth lets an estimator learn on, None if it has ``partial_fit`` for that.

    Raises:
        ValueError: it can neither.
    """
    if hasattr(estimator, "partial_fit"):
        return None
    params = estimator.get_params(deep=False)
    if "warm_start" in params:
        for name in ("n_estimators", "max_iter"):
            if isinstance(params.get(name), int):
                return name
    raise ValueError(
        "early stopping needs an estimator that learns by and by, with partial_fit or with warm_start and "
        f"n_estimators or max_iter; {type(estimator).__name__} has neither; leave out max_iters to fit it in one go"
    )


def _rows(task: Task, train: Any) -> dict[str, Any]:
    """The fit parameters of one fold: those with a value per sample are cut to its rows."""
    n = len(task.X) if hasattr(task.X, "__len__") else task.X.shape[0]
    cut = {}
    for name, value in task.fit_params.items():
        per_sample = hasattr(value, "__len__") and not isinstance(value, str) and len(value) == n
        cut[name] = np.asarray(value)[train] if per_sample else value
    return cut
