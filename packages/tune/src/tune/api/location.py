"""Where an experiment is: its local directory, and its place in a remote storage if it has one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger("tune")


@dataclass(frozen=True)
class Location:
    """Where an experiment is."""

    name: str
    #: local directory: the experiment itself, or where a remote one is staged
    directory: Path
    #: URL in a remote storage; None for a local one
    storage: str | None = None
    #: fsspec filesystem of the URL, if that does not say enough
    filesystem: Any = None
