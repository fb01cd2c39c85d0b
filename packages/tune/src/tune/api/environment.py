"""Ray Tune's environment variables that have a meaning here, read when a sweep starts."""

from __future__ import annotations

import os


def is_set(name: str) -> bool:
    """Tell whether a variable says yes: ``1``, ``true``, ``yes`` or ``on``."""
    return os.environ.get(name, "").strip().lower() in {"1", "true", "yes", "on"}


def loggers_disabled() -> bool:
    """``TUNE_DISABLE_AUTO_CALLBACK_LOGGERS``: no logger but those given."""
    return is_set("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS")


def strict_metrics() -> bool:
    """``TUNE_DISABLE_STRICT_METRIC_CHECKING``: results without the metric are no errors."""
    return not is_set("TUNE_DISABLE_STRICT_METRIC_CHECKING")


def auto_init() -> bool:
    """``TUNE_DISABLE_AUTO_INIT``: start no session."""
    return not is_set("TUNE_DISABLE_AUTO_INIT")


def chdir_to_trial_dir() -> bool:
    """``RAY_CHDIR_TO_TRIAL_DIR``: 0 runs trials where the program was started."""
    return os.environ.get("RAY_CHDIR_TO_TRIAL_DIR", "1").strip() != "0"


def longest_name() -> int:
    """``TUNE_MAX_LEN_IDENTIFIER``: how long names of directories may get, in characters; 130 by default.

    Raises:
        ValueError: not a number, or less than 1.
    """
    text = os.environ.get("TUNE_MAX_LEN_IDENTIFIER", "130")
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"the environment's TUNE_MAX_LEN_IDENTIFIER must be a whole number above 0; got {text!r}.")
    return int(text)
