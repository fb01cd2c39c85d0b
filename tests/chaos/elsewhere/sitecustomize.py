"""Runs first in every interpreter that has this directory on ``PYTHONPATH``, and takes away what only Linux has.

What remains is about what macOS has, with ``poll`` in the place of ``kqueue``.
"""

from __future__ import annotations

import builtins
import fcntl
import io
import mmap
import os
import select
import sys
from collections.abc import Callable
from typing import Any

#: Names that start so are taken out of these modules.
ABSENT: dict[Any, tuple[str, ...]] = {
    select: ("epoll", "EPOLL"),
    os: (
        *(
            "eventfd",
            "memfd_create",
            "pidfd_open",
            "pipe2",
            "posix_fallocate",
            "process_cpu_count",
            "sched_getaffinity",
        ),
        *("sched_", "sendfile", "splice", "waitid", "EFD_", "MFD_", "O_TMPFILE", "P_ALL", "P_P", "SCHED_", "SPLICE_"),
    ),
    mmap: ("MADV_", "MAP_POPULATE"),
    fcntl: ("F_ADD_SEALS", "F_GETPIPE_SZ", "F_SETPIPE_SZ"),
}
SOCKET = ("SO_PEERCRED", "SO_PASSCRED", "MSG_CMSG_CLOEXEC", "MSG_NOSIGNAL", "SOCK_CLOEXEC", "SOCK_NONBLOCK")
#: Places that are not there.
HIDDEN = ("/proc", "/sys", "/dev/shm")


def take_away(module: Any, prefixes: tuple[str, ...]) -> None:
    """Remove names from a module."""
    for name in [name for name in vars(module) if name.startswith(prefixes)]:
        delattr(module, name)


def without_hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of paths that finds nothing in the hidden places."""

    def look(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        if not isinstance(path, int) and os.fsdecode(path).startswith(HIDDEN):
            raise FileNotFoundError(2, "No such file or directory", path)
        return function(path, *args, **kwargs)

    return look


sys.platform = "darwin"
for holder, names in ABSENT.items():
    take_away(holder, names)

import socket  # noqa: E402 - it chooses among what is there by then

take_away(socket, SOCKET)
for opener in ("open", "stat", "statvfs", "listdir", "scandir"):
    setattr(os, opener, without_hidden(getattr(os, opener)))
io.open = builtins.open = without_hidden(io.open)  # type: ignore[assignment]
