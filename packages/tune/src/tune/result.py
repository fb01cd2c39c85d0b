"""Names of the automatic metrics, Ray's, and what completes a result for people and files.

A trial's process adds to each reported result only what changes from one result to the next (`VARYING`). What is the
same for the whole trial is kept once, in the `Trial`, and added when a result is shown (`complete`): so that a result
costs little on its way through pipes, the journal and the controller.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

from tune.trial import Result, Trial

TRAINING_ITERATION: Final = "training_iteration"
#: seconds since the result before, or since the attempt's start
TIME_THIS_ITER_S: Final = "time_this_iter_s"
#: seconds running, over all attempts
TIME_TOTAL_S: Final = "time_total_s"
#: seconds since the epoch, an integer as in Ray
TIMESTAMP: Final = "timestamp"
TIME_SINCE_RESTORE: Final = "time_since_restore"
ITERATIONS_SINCE_RESTORE: Final = "iterations_since_restore"
#: only in results that came with a checkpoint
CHECKPOINT_DIR_NAME: Final = "checkpoint_dir_name"

TRIAL_ID: Final = "trial_id"
CONFIG: Final = "config"
DATE: Final = "date"
DONE: Final = "done"
PID: Final = "pid"
HOSTNAME: Final = "hostname"

#: what the trial's process adds to a result
VARYING: Final = (
    TRAINING_ITERATION,
    TIME_THIS_ITER_S,
    TIME_TOTAL_S,
    TIMESTAMP,
    TIME_SINCE_RESTORE,
    ITERATIONS_SINCE_RESTORE,
)
#: what `complete` adds
CONSTANT: Final = (TRIAL_ID, CONFIG, DATE, DONE, PID, HOSTNAME)
#: names that are not the user's metrics
AUTOMATIC: Final = frozenset({*VARYING, *CONSTANT, CHECKPOINT_DIR_NAME})


def complete(trial: Trial, result: Result, *, done: bool = False) -> Result:
    """Return a copy of a result with everything Ray's results have: id, config, date, process.

    Args:
        trial: the result's trial.
        result: as reported.
        done: whether the trial ended with it.
    """
    moment = result.get(TIMESTAMP)
    return {
        **result,
        DATE: "" if moment is None else format_date(moment),
        DONE: done,
        TRIAL_ID: trial.trial_id,
        PID: trial.pid,
        HOSTNAME: trial.hostname,
        CONFIG: trial.config,
    }


def lookup(result: Mapping[str, Any], name: str) -> Any:
    """Return an entry by its own name, or a nested one by its flat name ``a/b``; None if there is none."""
    if name in result:
        return result[name]
    head, separator, rest = name.partition("/")
    if not separator:
        return None
    inner = result.get(head)
    return lookup(inner, rest) if isinstance(inner, Mapping) else None


def format_date(seconds: float) -> str:
    """Return local time as Ray writes it: ``2026-11-22_18-30-05``."""
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d_%H-%M-%S")


def metrics_only(result: Result) -> Result:
    """Return what the user reported, without the automatic metrics."""
    return {name: value for name, value in result.items() if name not in AUTOMATIC}
