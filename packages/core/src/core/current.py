"""Which engine this process uses now: the one piece of global state that changes in the life of a program.

What else is global belongs to the process by nature: the references that died (:mod:`core.refs`) and the registered
serializers (:mod:`core.custom_serializers`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.exceptions import RaySystemError

if TYPE_CHECKING:
    from core.engine.base import Engine

#: The running engine of this process, or None. Set by ``init``/``shutdown`` and by a starting worker, nobody else.
engine: Engine | None = None

#: Starts the default engine; put here by ``core.api`` so that leaves need not import it.
_auto_init: Callable[[], Engine] | None = None


def set_engine(new: Engine | None) -> None:
    """Make ``new`` the engine of this process."""
    global engine
    engine = new


def set_auto_init(start: Callable[[], Engine]) -> None:
    """Tell how to start the default engine on first use."""
    global _auto_init
    _auto_init = start


def require() -> Engine:
    """Return the running engine; start the default one if there is none (Ray's auto-init).

    Raises:
        RaySystemError: none runs and ``SKATE_AUTO_INIT=0`` forbids starting one.
    """
    if engine is not None:
        return engine
    if _auto_init is None or os.environ.get("SKATE_AUTO_INIT", "1") == "0":
        raise RaySystemError("Skate is not running in this process: call core.init() first (SKATE_AUTO_INIT=0 is set)")
    return _auto_init()


def running(what: str) -> Engine:
    """Return the running engine for an operation on something that only a running engine can know.

    Raises:
        RaySystemError: none runs; ``what`` names the operation. A stale reference never starts a new cluster.
    """
    if engine is None:
        raise RaySystemError(
            f"{what} needs a running session, and none runs in this process (any more): call core.init() first. "
            "References and actor handles last no longer than the session that made them."
        )
    return engine
