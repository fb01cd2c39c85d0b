"""Names of directories: of experiments, and of trials, which show their parameters as in Ray."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

from tune.api.environment import longest_name
from tune.api.wrappers import trainable_name
from tune.trial import Trial

#: what is not put into names of directories
_ODD = re.compile(r"[^A-Za-z0-9_.,=+-]+")


def experiment_name(trainable: Any) -> str:
    """Return a name for an experiment that was given none: the trainable's and the time."""
    now = datetime.datetime.now().astimezone()
    return f"{_ODD.sub('_', trainable_name(trainable))}_{now:%Y-%m-%d_%H-%M-%S-%f}"


def trial_dirname() -> Callable[[Trial], str]:
    """Return what names the directories of trials: id and parameters, cut at ``TUNE_MAX_LEN_IDENTIFIER`` characters.

    The name of a trial is never cut: its id is what makes it unlike all others.
    """
    longest = longest_name()

    def dirname(trial: Trial) -> str:
        name = _ODD.sub("_", f"{trial}").lstrip(".")
        if trial.trial_id not in name:
            name = trial.trial_id
        shown = (f"{param.rpartition('/')[2]}={_short(value)}" for param, value in trial.evaluated_params.items())
        return f"{name}_{','.join(shown)}"[: max(longest, len(name))].rstrip("_")

    return dirname


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return _ODD.sub("_", text)[:40]
