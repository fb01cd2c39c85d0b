"""Runs trials in processes of core: the backend that ``tune.run`` uses."""

from __future__ import annotations

from typing import Any

import core
from tune.backend.base import TrialBackend
from tune.backend.core_backend.backend import CoreBackend
from tune.backend.core_backend.inline import InlineBackend
from tune.storage import ExperimentStorage

__all__ = ["CoreBackend", "InlineBackend", "session_backend"]


def session_backend(trainable: Any, storage: ExperimentStorage | None = None, **options: Any) -> TrialBackend:
    """Return the backend for the running session: processes, or this very thread if its engine is the inline one.

    Args:
        trainable: what trials run.
        storage: where the experiment is kept.
        **options: as `CoreBackend` takes them.
    """
    # An engine without a socket of its own has no processes: the inline one.
    inline = not any(node.get("ObjectStoreSocketName") for node in core.nodes())
    kind = InlineBackend if inline else CoreBackend
    return kind(trainable, storage, **options)
