"""Threads of numerical libraries that were loaded before their environment was known.

A library looks at ``OMP_NUM_THREADS`` and its kin when it is loaded. In a forked worker that was in the zygote, if the
driver has numpy, long before the worker's ``runtime_env`` was known; so such a library must be told.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Mapping
from pathlib import Path

#: The more particular ones first.
_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
_LIBRARIES = ("openblas", "mkl_rt")
_SETTERS = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "MKL_Set_Num_Threads",
)


def set_threads(variables: Mapping[str, str]) -> None:
    """Tell libraries that are loaded how many threads these environment variables allow them, if they say."""
    wanted = next((variables[name] for name in _VARIABLES if variables.get(name, "").isdigit()), "0")
    if "numpy" not in sys.modules or not int(wanted):
        return
    for path in _loaded():
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for name in _SETTERS:
                if hasattr(library, name):
                    getattr(library, name)(ctypes.c_int(int(wanted)))


def _loaded() -> set[str]:
    """Return the files of those libraries that this process has loaded; none where the system does not tell."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return set()
    files = (fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6)
    return {file for file in files if any(name in Path(file).name for name in _LIBRARIES)}
