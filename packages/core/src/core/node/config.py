"""What the driver that starts a node daemon tells it."""

from __future__ import annotations

from msgspec import Struct

from core.specs import RESOURCE_UNIT

#: Open files that a process of a session may want (Ray's figure).
ENOUGH_DESCRIPTORS = 65_536


class NodeConfig(Struct, frozen=True):
    """The daemon's only command-line argument, as JSON. No secret belongs here: everybody can read argument lists."""

    session_dir: str
    #: resource amounts in units of 1/10,000: CPU, GPU, memory, object_store_memory, custom ones
    resources: dict[str, int]
    #: size of the object store in bytes
    object_store_bytes: int
    #: the session ends with this process; 0 for none
    driver_pid: int = 0
    node_name: str = "127.0.0.1"
    node_ip: str = "127.0.0.1"
    labels: dict[str, str] = {}
    #: parent directory of spilled objects; empty for what ``SKATE_SPILL_DIR`` says
    spill_parent: str = ""
    #: idle workers that are kept ready; None for one per CPU
    prestarted_workers: int | None = None
    #: module whose ``run(start)`` a forked worker executes
    worker_entry: str = "core.worker.main"
    #: descriptor of the launcher's control socket
    control_fd: int = -1

    @property
    def node_resources(self) -> dict[str, int]:
        """All that the node offers: the configured resources and one unit of each name that only this node has."""
        own = (f"node:{self.node_ip}", "node:__internal_head__")
        return {**self.resources, **dict.fromkeys(own, RESOURCE_UNIT)}
