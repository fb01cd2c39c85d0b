"""What a resumed experiment was before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tune.api import saved_settings
from tune.controller.history import exists, read_experiment


@dataclass(frozen=True)
class Earlier:
    """What a resumed experiment was before."""

    #: samples asked for; -1 without end
    num_samples: int
    #: the space, pickled; None if not known
    space: bytes | None


def earlier_run(directory: Path) -> Earlier | None:
    """Return what the experiment in a directory was; None if there is none yet.

    Raises:
        JournalError: its journal is damaged.
    """
    if not exists(directory):
        return None
    rules = read_experiment(directory).rules
    return Earlier(rules.num_samples, saved_settings.packed_part(directory, "param_space"))
