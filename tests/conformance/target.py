"""The module under test, under the name every test uses for it: ``ray``.

``SKATE_ENGINE`` chooses what it is: ``native`` (the default) and ``inline`` are Skate's own engines, ``ray`` is Ray
itself, the oracle. The option ``--engine`` of the suite sets it before any test module is imported.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

#: "native", "inline" or "ray"
ENGINE = os.environ.get("SKATE_ENGINE", "native")

ray: Any = importlib.import_module("ray" if ENGINE == "ray" else "core")

#: Arguments of ``init`` that every session of the suite shares. Ray would otherwise join a cluster it happens to find.
SESSION_OPTIONS: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
if ENGINE == "inline":
    SESSION_OPTIONS["engine"] = "inline"
else:
    SESSION_OPTIONS["address"] = "local"
if ENGINE == "ray":
    SESSION_OPTIONS["object_store_memory"] = 200 * 1024 * 1024


def submodule(name: str) -> Any:
    """Import a module below the module under test: ``submodule("util.queue")`` is ``ray.util.queue``."""
    return importlib.import_module(f"{ray.__name__}.{name}")


#: CPUs of the session that most tests share; logical ones, whatever the machine has.
LOGICAL_CPUS = 4
