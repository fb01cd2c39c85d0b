"""The public face: every name is there, documented, and cheap to import."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from types import ModuleType

import pytest

import core

#: What the documentation promises.
PROMISED = [
    "init",
    "shutdown",
    "is_initialized",
    "remote",
    "get",
    "put",
    "wait",
    "cancel",
    "kill",
    "method",
    "get_actor",
    "nodes",
    "cluster_resources",
    "available_resources",
    "get_runtime_context",
    "timeline",
    "get_gpu_ids",
    "exit_actor",
    "ObjectRef",
    "ObjectRefGenerator",
    "actor",
    "exceptions",
    "util",
    "runtime_env",
    "runtime_context",
    "__version__",
    # not in Ray, or elsewhere there
    "empty",
    "map",
    "map_unordered",
    "typed",
    "ActorHandle",
    "RayContext",
]


def test_all_names_what_is_promised() -> None:
    assert sorted(core.__all__) == sorted(PROMISED)
    assert set(core.__all__) <= set(dir(core))


@pytest.mark.parametrize("name", [name for name in PROMISED if name != "__version__"])
def test_every_name_is_there_and_documented(name: str) -> None:
    member = getattr(core, name)
    assert inspect.getdoc(member)
    if isinstance(member, ModuleType):
        assert member.__name__ == f"core.{name}"


def test_rays_submodules_are_reachable_as_attributes() -> None:
    assert core.actor.exit_actor is core.exit_actor
    assert core.actor.ActorHandle is core.ActorHandle
    assert issubclass(core.exceptions.RayTaskError, core.exceptions.RayError)
    assert core.runtime_context.get_runtime_context is core.get_runtime_context


def test_other_attributes_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = core.nonsense


def test_importing_core_imports_nothing_heavy() -> None:
    program = "import json, sys, core; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    heavy = {"asyncio", "numpy", "pyarrow", "psutil", "multiprocessing", "socket", "ssl", "core.util", "core.worker"}
    assert not loaded & heavy
    assert not {name for name in loaded if name.startswith(("core.engine.native", "core.engine.inline", "core.node"))}
