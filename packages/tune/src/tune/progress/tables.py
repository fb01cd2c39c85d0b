"""Which trials a progress table shows, in which columns. Pure; what draws it is a reporter's matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tune.progress.summary import STATUS_ORDER, number_of, value_of
from tune.progress.wording import cell
from tune.result import AUTOMATIC, TIME_TOTAL_S, TRAINING_ITERATION
from tune.trial import Trial, TrialStatus

#: what is shown of every trial that has it, as Ray shows it, and under which title
DEFAULT_COLUMNS: dict[str, str] = {
    TRAINING_ITERATION: "iter",
    TIME_TOTAL_S: "total time (s)",
    "timesteps_total": "ts",
    "mean_accuracy": "acc",
    "mean_loss": "loss",
    "episode_reward_mean": "reward",
}


class Table(msgspec.Struct, frozen=True):
    """A table as text."""

    titles: list[str]
    rows: list[list[str]]
    #: what was left out: "... 12 more trials not shown (2 RUNNING, 10 TERMINATED)"; empty if nothing
    note: str = ""


def inferred_metrics(trials: Iterable[Trial], limit: int) -> list[str]:
    """Return the first numbers that users report, at most `limit`, from the first trial that has any."""
    for trial in trials:
        found = [
            name
            for name in trial.last_result
            if name not in AUTOMATIC and name not in DEFAULT_COLUMNS and number_of(trial.last_result, name) is not None
        ]
        if found:
            return found[:limit]
    return []


def trial_table(
    trials: Sequence[Trial],
    *,
    metrics: Mapping[str, str],
    parameters: Mapping[str, str],
    max_rows: int,
    width: int,
    sort_by: tuple[str, str] | None = None,
) -> Table:
    """Return the table of trials.

    Args:
        trials: all of them.
        metrics: names of results to the titles of their columns; those nobody has reported are left out.
        parameters: names of searched parameters to titles.
        max_rows: trials shown at most: running ones first, the newest of each status.
        width: characters of a cell.
        sort_by: metric and mode; the best are shown, best first.
    """
    shown = _chosen(trials, max_rows, sort_by)
    metrics = {
        name: title for name, title in metrics.items() if any(value_of(t.last_result, name) is not None for t in shown)
    }
    titles = ["trial", "status", *parameters.values(), *metrics.values()]
    rows = [
        [
            cell(str(trial), width),
            trial.status.value,
            *(cell(trial.evaluated_params.get(name), width) for name in parameters),
            *(cell(value_of(trial.last_result, name), width) for name in metrics),
        ]
        for trial in shown
    ]
    return Table(titles, rows, _left_out(trials, shown))


def error_table(trials: Iterable[Trial], max_rows: int, width: int) -> Table | None:
    """Return the table of the newest trials that failed at least once; None if there are none."""
    failed = [trial for trial in trials if trial.failures]
    rows = [
        [
            cell(str(trial), width),
            trial.status.value,
            str(len(trial.failures)),
            cell(f"{trial.failures[-1].error_type}: {trial.failures[-1].message}", 4 * width),
        ]
        for trial in failed[-max_rows:]
    ]
    note = f"... {len(failed) - max_rows} earlier ones not shown" if len(failed) > max_rows else ""
    return Table(["trial", "status", "failures", "error"], rows, note) if rows else None


def _chosen(trials: Sequence[Trial], max_rows: int, sort_by: tuple[str, str] | None) -> list[Trial]:
    if sort_by is not None:
        metric, mode = sort_by
        sign = 1.0 if mode == "min" else -1.0
        valued = [(number_of(trial.last_result, metric), trial) for trial in trials]
        ranked = sorted((sign * value, trial.index, trial) for value, trial in valued if value is not None)
        rest = [trial for value, trial in valued if value is None]
        return [*(trial for _, _, trial in ranked), *rest][:max_rows]
    by_status: dict[TrialStatus, list[Trial]] = {status: [] for status in STATUS_ORDER}
    for trial in trials:
        by_status[trial.status].append(trial)
    chosen: list[Trial] = []
    for status in STATUS_ORDER:
        room = max_rows - len(chosen)
        chosen += by_status[status][-room:] if room else []
    return chosen


def _left_out(trials: Sequence[Trial], shown: Sequence[Trial]) -> str:
    more = len(trials) - len(shown)
    if not more:
        return ""
    counts = Counter(trial.status for trial in trials)
    counts.subtract(trial.status for trial in shown)
    named = ", ".join(f"{counts[status]} {status.value}" for status in STATUS_ORDER if counts[status])
    return f"... {more} more trials not shown ({named})"
