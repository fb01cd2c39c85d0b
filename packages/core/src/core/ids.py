"""Identifiers: fixed-length byte strings whose structure says who made them.

Every process of a session (driver or worker) has an *address*: 12 random bytes, also the name of its socket. A task
id starts with the address of the process that submitted it, an object id starts with the id of the task that makes
it; so the owner of any object can be found from its id alone, with no table and no round trip.

====================  =====  =======================================================
id                    bytes  layout
====================  =====  =======================================================
address               12     random
job                   4      counter of the session
task                  24     address (12) + counter (8, big endian) + job (4)
object                28     task (24) + index (4, big endian)
actor                 16     address of the creator (12) + low half of the counter (4)
node, worker          28     random; a worker's starts with its address
placement group       18     random
====================  =====  =======================================================

The lengths are those Ray shows to its users (hexadecimal, twice as many characters).
"""

from __future__ import annotations

import os

ADDRESS_BYTES = 12
JOB_ID_BYTES = 4
TASK_ID_BYTES = 24
OBJECT_ID_BYTES = 28
NODE_ID_BYTES = 28
PLACEMENT_GROUP_ID_BYTES = 18

#: Index of a task's first return object.
FIRST_INDEX = (0).to_bytes(4, "big")
#: "Index" of the object that holds a task's arguments when they are too large for a message.
ARGUMENTS_INDEX = b"args"


def new_address() -> bytes:
    """Return a fresh process address (12 bytes)."""
    return os.urandom(ADDRESS_BYTES)


def new_node_id() -> bytes:
    """Return a fresh node id (28 bytes)."""
    return os.urandom(NODE_ID_BYTES)


def new_placement_group_id() -> bytes:
    """Return a fresh placement-group id (18 bytes)."""
    return os.urandom(PLACEMENT_GROUP_ID_BYTES)


def task_id(address: bytes, counter: int, job_id: bytes) -> bytes:
    """Return the id of the ``counter``-th task submitted by the process at ``address``."""
    return address + counter.to_bytes(8, "big") + job_id


def object_id(task: bytes, index: int) -> bytes:
    """Return the id of the ``index``-th object made by ``task``."""
    return task + index.to_bytes(4, "big")


def owner_of(identifier: bytes) -> bytes:
    """Return the address of the process that owns a task, object or actor."""
    return identifier[:ADDRESS_BYTES]


def task_of(object_identifier: bytes) -> bytes:
    """Return the id of the task that makes an object."""
    return object_identifier[:TASK_ID_BYTES]


def actor_id(creation_task: bytes) -> bytes:
    """Return the actor id that belongs to a creation task."""
    return creation_task[:ADDRESS_BYTES] + creation_task[16:20]


def creation_object(actor: bytes, job_id: bytes) -> bytes:
    """Return the id of the object whose reference count is the number of handles of ``actor``."""
    return actor[:ADDRESS_BYTES] + b"\0\0\0\0" + actor[ADDRESS_BYTES:] + job_id + FIRST_INDEX


def worker_id(address: bytes) -> bytes:
    """Return the public 28-byte worker id of the process at ``address``."""
    return address + b"\xff" * (NODE_ID_BYTES - ADDRESS_BYTES)
