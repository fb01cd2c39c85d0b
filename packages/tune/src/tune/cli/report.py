"""The page of an experiment, made afterwards: ``tune plot``."""

from __future__ import annotations

from pathlib import Path

from tune.api.results.analysis import ExperimentAnalysis
from tune.api.results.scores import as_number
from tune.html_report import write_report
from tune.html_report.curves import CurveStore
from tune.result import TRAINING_ITERATION, lookup


def write_page_of(analysis: ExperimentAnalysis, path: Path | None) -> Path:
    """Write the page of an experiment, and return where.

    Args:
        analysis: the experiment.
        path: of the page; None for ``report.html`` in the experiment's local directory.

    Raises:
        ValueError: the experiment is in a remote storage, and `path` is None.
    """
    if path is None:
        if "://" in analysis.experiment_path:
            raise ValueError("the experiment is in a remote storage: say where to write the page, with --output")
        path = Path(analysis.experiment_path) / "report.html"
    starts = [trial.start_time for trial in analysis.trials if trial.start_time is not None]
    ends = [trial.end_time for trial in analysis.trials if trial.end_time is not None]
    write_report(
        path,
        analysis.trials,
        name=Path(analysis.experiment_path).name,
        metric=analysis.metric,
        mode=analysis.mode,
        curves=_curves(analysis).curves(),
        elapsed_s=max(ends) - min(starts) if starts and ends else 0.0,
        running=analysis.state == "running",
    )
    return path


def _curves(analysis: ExperimentAnalysis) -> CurveStore:
    metric = analysis.metric if isinstance(analysis.metric, str | None) else analysis.metric[0]
    mode = analysis.mode if isinstance(analysis.mode, str | None) else analysis.mode[0]
    store = CurveStore(1.0 if mode == "min" else -1.0)
    if metric is None:
        return store
    for trial in analysis.trials:
        for number, result in enumerate(analysis.result_of(trial).metrics_history, 1):
            value = as_number(lookup(result, metric))
            if value is not None:
                store.add(trial.trial_id, result.get(TRAINING_ITERATION, number), value)
        if trial.trial_id in store:
            store.end(trial.trial_id)
    return store
