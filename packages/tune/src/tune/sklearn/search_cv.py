"""``TuneSearchCV``: ``RandomizedSearchCV`` whose candidates are trials.

A subclass, so that everything after ``fit`` (``predict``, ``score``, ``cv_results_``, metadata routing) is
scikit-learn's own. ``fit`` runs a sweep: candidates start as places become free instead of in batches, Optuna's
samplers may choose them, and estimators that learn by and by can be stopped early.
"""

# ruff: noqa: N803, N806 - scikit-learn's names
from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import RandomizedSearchCV, check_cv
from sklearn.model_selection._validation import _insert_error_scores, _warn_or_raise_about_fit_failures
from sklearn.utils import check_random_state, indexable
from sklearn.utils.validation import _check_method_params

import core
import tune
from tune.delegate import pass_on
from tune.schedulers import TrialScheduler
from tune.search import Searcher
from tune.sklearn import candidates
from tune.sklearn.evaluation import Outcome, Task, candidate, evaluate, growing_size


class TuneSearchCV(RandomizedSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """Search over parameters of an estimator, cross-validated, in parallel trials.

    A drop-in for ``sklearn.model_selection.RandomizedSearchCV``: with ``search_alg="random"`` and the same
    ``random_state`` it evaluates the same candidates and finds the same scores. Fitted attributes are the same.

    Args:
        estimator: the estimator to tune; it is cloned for each fit.
        param_distributions: parameter names to lists, to distributions with ``rvs`` (scipy), or to domains of
            `tune` (``tune.loguniform(1e-4, 1)``); or, for ``"random"``, a list of such dictionaries.
        n_iter: candidates to try.
        scoring: as in scikit-learn.
        n_jobs: candidates evaluated at once; None or -1 for as many as there are CPUs.
        refit: as in scikit-learn.
        cv: as in scikit-learn.
        verbose: 0 is silent; more shows the sweep's progress as ``tune.run`` does.
        pre_dispatch: accepted for compatibility; nothing is dispatched ahead of need.
        random_state: seeds the candidates.
        error_score: score of a fold that cannot be fitted, or ``"raise"``.
        return_train_score: as in scikit-learn.
        search_alg: ``"random"``, another name of a searcher (``"optuna"``, ``"gp"``, ``"cmaes"``, ...) or a `Searcher`.
        max_iters: epochs a candidate may learn for. More than 1 needs ``partial_fit``, or ``warm_start`` with
            ``n_estimators`` or ``max_iter``; candidates are then scored after each epoch and stopped early.
        scheduler: what stops them: a name or a `TrialScheduler`; None for ASHA if ``max_iters`` is more than 1.
        time_budget_s: seconds after which the search ends with what it has; None for no limit.
        storage_path: where the sweep's directory (journal, report page) is kept; None keeps nothing.

    Attributes:
        cv_results_: as in scikit-learn, one row per candidate that was evaluated, and ``training_iteration``.

    Raises:
        TypeError: ``param_distributions`` holds something that the searcher cannot search.
        ValueError: the estimator cannot learn by and by though ``max_iters`` asks for it; no candidate was evaluated.
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012 - scikit-learn's protocol
        **RandomizedSearchCV._parameter_constraints,  # noqa: SLF001 - scikit-learn's protocol for subclasses
        "search_alg": "no_validation",
        "max_iters": "no_validation",
        "scheduler": "no_validation",
        "time_budget_s": "no_validation",
        "storage_path": "no_validation",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        param_distributions: candidates.Distributions,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        search_alg: str | Searcher = "random",
        max_iters: int = 1,
        scheduler: str | TrialScheduler | None = None,
        time_budget_s: float | None = None,
        storage_path: str | Path | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.search_alg = search_alg
        self.max_iters = max_iters
        self.scheduler = scheduler
        self.time_budget_s = time_budget_s
        self.storage_path = storage_path

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Run the search, then refit the best candidate on everything (if ``refit``).

        Args:
            X: training data, ``(n_samples, n_features)`` or what the estimator takes.
            y: targets, or None.
            **params: for the estimator's ``fit``, the scorer and the splitter, as in scikit-learn.
        """
        self._validate_params()
        if self.max_iters < 1:
            raise ValueError(f"max_iters must be at least 1, not {self.max_iters!r}")
        if self.max_iters > 1:
            growing_size(self.estimator)
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        task = Task(
            estimator=clone(self.estimator),
            X=X,
            y=y,
            splits=self._splits(X, y, routed.splitter.split),
            scorer=scorers,
            fit_params=dict(routed.estimator.fit),
            score_params=dict(routed.scorer.score),
            error_score=self.error_score,
            return_train_score=self.return_train_score,
            metric=self.refit if isinstance(self.refit, str) else None,
            max_iters=self.max_iters,
        )
        tried, outcomes, iterations = self._sweep(task)
        refit_metric = self._collect(tried, outcomes, iterations, refit_metric)
        self._select(refit_metric)
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        if self.refit:
            self._refit(task)
        return self

    def _splits(self, X: Any, y: Any, split_params: Mapping[str, Any]) -> list[tuple[Any, Any]]:
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self.n_splits_ = splitter.get_n_splits(X, y, **split_params)
        splits = list(splitter.split(X, y, **split_params))
        if len(splits) != self.n_splits_:
            raise ValueError(
                f"cv.split and cv.get_n_splits return inconsistent results. Expected {self.n_splits_} "
                f"splits, got {len(splits)}"
            )
        return splits

    def _sweep(self, task: Task) -> tuple[list[dict[str, Any]], list[list[Outcome]], list[int]]:
        """Run the sweep; return the evaluated candidates in order, what their folds gave, and their epochs."""
        _ensure_session(task.estimator)
        distributions = self.param_distributions
        drawn: list[dict[str, Any]] | None = None
        if (
            isinstance(self.search_alg, str)
            and self.search_alg == "random"
            and not candidates.has_domains(distributions)
        ):
            drawn = candidates.sampled(distributions, self.n_iter, self.random_state)
            grid = self._run(task, {"candidate": tune.grid_search(list(range(len(drawn))))}, 1, None, drawn)
        else:
            grid = self._run(task, candidates.space(distributions), self.n_iter, self.search_alg, None)
        evaluated = [result for result in grid if "outcomes" in (result.metrics or {})]
        if self.error_score == "raise" or not evaluated:
            for error in grid.errors:
                raise error
        if not evaluated:
            raise ValueError("no candidate was evaluated: n_iter or time_budget_s may be too small")
        tried = [candidate(result.config, drawn) for result in evaluated]
        outcomes = [result.metrics["outcomes"] for result in evaluated]
        return tried, outcomes, [result.metrics["training_iteration"] for result in evaluated]

    def _run(
        self,
        task: Task,
        config: dict[str, Any],
        num_samples: int,
        search_alg: str | Searcher | None,
        drawn: Sequence[Mapping[str, Any]] | None,
    ) -> tune.ResultGrid:
        work = tune.with_parameters(pass_on, inputs=[core.put(evaluate), core.put(task), core.put(drawn)])
        scheduler = self.scheduler
        if scheduler is None and self.max_iters > 1:
            scheduler = tune.schedulers.ASHAScheduler(max_t=self.max_iters)
        seed = int(check_random_state(self.random_state).randint(2**31)) if self.random_state is not None else None
        with tempfile.TemporaryDirectory(prefix="tune-sklearn-") as scratch:
            return tune.Tuner(
                tune.with_resources(work, {"cpu": 0}),  # the tasks have the CPUs
                param_space=config,
                tune_config=tune.TuneConfig(
                    metric="score",
                    mode="max",
                    num_samples=num_samples,
                    search_alg=search_alg,
                    scheduler=scheduler,
                    max_concurrent_trials=self._concurrency(),
                    time_budget_s=self.time_budget_s,
                    seed=seed,
                ),
                run_config=tune.RunConfig(
                    storage_path=str(self.storage_path) if self.storage_path is not None else scratch,
                    verbose=1 if self.verbose else 0,
                    callbacks=None if self.storage_path is not None else [],
                ),
            ).fit()

    def _concurrency(self) -> int:
        if self.n_jobs in (None, -1):
            return max(1, int(core.cluster_resources().get("CPU", 1)))
        return int(self.n_jobs)

    def _collect(
        self, tried: list[dict[str, Any]], outcomes: list[list[Outcome]], iterations: list[int], refit_metric: str
    ) -> str:
        flat = [outcome for candidate in outcomes for outcome in candidate]
        _warn_or_raise_about_fit_failures(flat, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(flat, self.error_score)
        self.cv_results_ = self._format_results(tried, self.n_splits_, flat, {"training_iteration": iterations})
        first = flat[0]["test_scores"]
        self.multimetric_ = isinstance(first, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first)
            return str(self.refit)
        return refit_metric

    def _select(self, refit_metric: str) -> None:
        if not self.refit and self.multimetric_:
            return
        self.best_index_ = self._select_best_index(self.refit, refit_metric, self.cv_results_)
        if not callable(self.refit):
            self.best_score_ = self.cv_results_[f"mean_test_{refit_metric}"][self.best_index_]
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _refit(self, task: Task) -> None:
        self.best_estimator_ = clone(task.estimator).set_params(**clone(self.best_params_, safe=False))
        began = time.perf_counter()
        if task.y is not None:
            self.best_estimator_.fit(task.X, task.y, **task.fit_params)
        else:
            self.best_estimator_.fit(task.X, **task.fit_params)
        self.refit_time_ = time.perf_counter() - began
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


def _ensure_session(estimator: BaseEstimator) -> None:
    """Start a session unless there is one: its processes are forked from one that has imported what they need."""
    if core.is_initialized():
        return
    parts = [estimator, *estimator.get_params().values()]
    modules = {type(part).__module__ for part in parts if isinstance(part, BaseEstimator)} - {"__main__"}
    core.init(_preloaded_modules=["tune.sklearn.evaluation", *sorted(modules)])
