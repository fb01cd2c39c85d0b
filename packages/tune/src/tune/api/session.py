"""The session that a sweep runs in: the one there is, or a new one."""

from __future__ import annotations

import core
from tune.api.environment import auto_init
from tune.errors import TuneError


def ensure_session(caller: str) -> None:
    """Start a session if none runs. It stays when the sweep has ended, as in Ray.

    Raises:
        TuneError: none runs, and the environment's ``TUNE_DISABLE_AUTO_INIT`` forbids to start one.
    """
    if core.is_initialized():
        return
    if not auto_init():
        raise TuneError(
            f"{caller} needs a session, and TUNE_DISABLE_AUTO_INIT forbids to start one: call core.init() before."
        )
    core.init()
