"""How pools and executors come by a session."""

from __future__ import annotations

import os

import core
from core.api.session import ADDRESS_VARIABLE


def join_session(processes: int | None, address: str | None = None) -> int:
    """Make sure that a session runs in this process; return its number of CPUs.

    Args:
        processes: how many CPUs a session started here gets; None for as many as the machine has.
        address: the session to join if none runs yet; default: what the environment says, else start one.
    """
    if not core.is_initialized():
        if address is not None or ADDRESS_VARIABLE in os.environ:
            core.init(address)
        else:
            core.init(num_cpus=processes)
    return int(core.cluster_resources().get("CPU", 0))
