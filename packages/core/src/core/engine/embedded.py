"""Starting a session on this machine: a node daemon, and this process as its driver."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core import ids
from core.descriptors import InitConfig
from core.exceptions import RaySystemError
from core.node import launcher, machine
from core.node.config import NodeConfig
from core.specs import RESOURCE_UNIT

if TYPE_CHECKING:
    from core.engine.native import NativeEngine

#: Modules that workers should have imported already if the driver has, as far as they are cheap to keep.
PRELOADED = ("asyncio", "numpy")
#: Shares of the memory that objects, and that tasks and actors may ask for (Ray's figures).
STORE_SHARE, TASK_SHARE = 0.3, 0.7
#: Idle workers kept ready, unless there are more CPUs in fact.
READY_WORKERS = 32
MIN_STORE = 64 * 1024 * 1024


def start(config: InitConfig) -> NativeEngine:
    """Start a node daemon and join its session as a driver.

    Raises:
        RaySystemError: the daemon does not come up; the message has the end of its log.
        ValueError: the object store is to be larger than the memory.
    """
    if not sys.executable:
        raise RaySystemError("sys.executable is empty: without the path of an interpreter no process can be started")
    resources = _resources(config)
    store = config.object_store_memory or _store_bytes()
    if config.object_store_memory and store > machine.memory():
        raise ValueError(
            f"object_store_memory is {store:,} bytes, more than this machine's memory of {machine.memory():,}; "
            "objects that do not fit go to disk by themselves"
        )
    resources.setdefault("object_store_memory", store * RESOURCE_UNIT)
    parent = Path(config.temp_dir) if config.temp_dir else None
    node = launcher.start(_node_config(config, resources, store), parent)
    try:
        return _join(node, config)
    except launcher.NodeStartError as error:
        raise RaySystemError(str(error)) from error
    except ConnectionError as error:
        # The daemon listens before it has all it needs.
        reason = node.log_tail()
        node.kill()
        raise RaySystemError(f"the node daemon (pid {node.pid}) ended while it started\n{reason}".rstrip()) from error
    except BaseException:
        node.kill()
        raise


def _node_config(config: InitConfig, resources: dict[str, int], store: int) -> NodeConfig:
    ready = config.prestarted_workers
    if ready is None:
        # Who has a thousand CPUs, in name, does not want a thousand processes before the first task.
        ready = min(max(1, -(-resources["CPU"] // RESOURCE_UNIT)), max(READY_WORKERS, machine.cpus()))
    spill_parent = config.object_spilling_directory and str(Path(config.object_spilling_directory).absolute())
    return NodeConfig(
        "",
        resources,
        store,
        labels=config.labels,
        spill_parent=spill_parent,
        prestarted_workers=ready,
    )


def _join(node: launcher.NodeProcess, config: InitConfig) -> NativeEngine:
    # Imported while the daemon starts, which takes as long.
    from core.engine.native import NativeEngine  # noqa: PLC0415
    from core.protocol import VERSION, framing, from_node, peer, to_node  # noqa: PLC0415
    from core.runtime.logs import LogPrinter  # noqa: PLC0415
    from core.runtime.runtime import Runtime  # noqa: PLC0415

    directory = _working_directory()
    hello = to_node.Hello(
        VERSION,
        ids.new_address(),
        "driver",
        os.getpid(),
        sys_path=[str(Path(directory, entry)) for entry in sys.path if entry or directory],
        cwd=directory,
        namespace=config.namespace or "",
        log_to_driver=config.log_to_driver,
        preload=[*(name for name in PRELOADED if name in sys.modules), *config.preloaded_modules],
    )
    framing.prepare(from_node.FromNode, peer.FromPeer)
    node.wait_ready()
    runtime = Runtime(node.session_dir, hello)
    runtime.default_env = config.runtime_env
    runtime.node_last_words = node.last_words
    engine = NativeEngine(runtime, node, LogPrinter())
    runtime.on_log = engine.log
    engine.take_signals()
    runtime.start()
    return engine


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""  # it was removed


def _resources(config: InitConfig) -> dict[str, int]:
    cpus = config.num_cpus if config.num_cpus is not None else machine.cpus()
    gpus = config.num_gpus if config.num_gpus is not None else _gpus()
    amounts = {"CPU": cpus, "GPU": gpus, **config.resources}
    resources = {name: round(amount * RESOURCE_UNIT) for name, amount in amounts.items() if amount or name == "CPU"}
    resources["memory"] = (config.memory or int(machine.memory() * TASK_SHARE)) * RESOURCE_UNIT
    return resources


def _store_bytes() -> int:
    size = max(MIN_STORE, int(machine.memory() * STORE_SHARE))
    # To the kernel the store is a file.
    largest_file = machine.soft_limit("RLIMIT_FSIZE")
    return size if largest_file is None else max(1, min(size, largest_file))


def _gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1", "NoDevFiles")])
    devices = Path("/proc/driver/nvidia/gpus")
    return len(list(devices.iterdir())) if devices.is_dir() else 0
