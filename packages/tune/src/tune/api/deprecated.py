"""Arguments that Ray deprecated long ago: refused, with what to write instead."""

from __future__ import annotations

from typing import Any

_INSTEAD = {
    "keep_checkpoints_num": "checkpoint_config=tune.CheckpointConfig(num_to_keep={value!r})",
    "checkpoint_score_attr": (
        "checkpoint_config=tune.CheckpointConfig(checkpoint_score_attribute=..., checkpoint_score_order='max' or 'min')"
    ),
    "checkpoint_freq": "checkpoint_config=tune.CheckpointConfig(checkpoint_frequency={value!r})",
    "checkpoint_at_end": "checkpoint_config=tune.CheckpointConfig(checkpoint_at_end={value!r})",
    "chdir_to_trial_dir": "the environment variable RAY_CHDIR_TO_TRIAL_DIR=0 or 1",
    "local_dir": "storage_path={value!r}",
}


def refuse_deprecated(arguments: dict[str, Any]) -> None:
    """Take them out of the arguments of a call.

    Raises:
        TypeError: one was given; the error says what to write instead.
    """
    for name, instead in _INSTEAD.items():
        value = arguments.pop(name)
        if value or (name == "chdir_to_trial_dir" and value is not None):
            raise TypeError(f"{name} is gone, in Ray too: write {instead.format(value=value)} instead.")
