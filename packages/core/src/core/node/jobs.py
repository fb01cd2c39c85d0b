"""Jobs: one per driver, with what its workers start with."""

from __future__ import annotations

import os

from msgspec import Struct

from core import ids
from core.node.logs import LogBatch
from core.protocol.to_node import Hello


class Job(Struct, eq=False):
    """A driver and what its workers start with; kept after its end for the sake of detached actors."""

    job_id: bytes
    address: bytes
    namespace: str
    sys_path: tuple[str, ...]
    cwd: str
    log_to_driver: bool
    logs: LogBatch


def new_job(number: int, hello: Hello) -> Job:
    """Return the ``number``-th job of the session, for the driver that says ``hello``."""
    return Job(
        number.to_bytes(ids.JOB_ID_BYTES, "little"),
        hello.address,
        hello.namespace or _anonymous_namespace(),
        tuple(hello.sys_path),
        hello.cwd,
        hello.log_to_driver,
        LogBatch(),
    )


def _anonymous_namespace() -> str:
    """Return a fresh name in the shape of a UUID, Ray's default namespace."""
    digits = os.urandom(16).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
