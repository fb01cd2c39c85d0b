"""Where experiments are kept: a local directory, or a directory of a remote file system that fsspec knows.

A remote experiment has a local *staging* directory. The driver works there as if it were the experiment; a background
thread (`mirror`) copies what changed to the remote side. Checkpoints never pass through the driver: the trial's process
uploads them before it reports them. So the remote journal names only checkpoints that exist there, and a sweep can be
resumed on another machine from the remote side alone.
"""

from __future__ import annotations

from tune.storage.experiment import RESULTS_VARIABLE, ExperimentStorage, default_storage_path
from tune.storage.mirror import Mirror, is_record
from tune.storage.place import CHECKPOINT_PREFIX, TEMPORARY_PREFIX, Storage, copy_atomically

__all__ = [
    "CHECKPOINT_PREFIX",
    "RESULTS_VARIABLE",
    "TEMPORARY_PREFIX",
    "ExperimentStorage",
    "Mirror",
    "Storage",
    "copy_atomically",
    "default_storage_path",
    "is_record",
]
