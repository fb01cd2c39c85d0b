"""Facts about the machine this process runs on."""

from __future__ import annotations

import core


def get_node_ip_address() -> str:
    """Return the address under which this process's node is known in the cluster (``127.0.0.1`` when embedded)."""
    here = core.get_runtime_context().get_node_id()
    for node in core.nodes():
        if node["NodeID"] == here:
            return str(node["NodeManagerAddress"])
    return "127.0.0.1"
