"""What the daemon needs from the operating system about processes, with fallbacks where Linux alone has it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from core.node.config import ENOUGH_DESCRIPTORS

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(signum: int, parent: int) -> None:
    """Ask the kernel to send ``signum`` to this process when its parent ``parent`` dies.

    Does nothing but the check where the kernel cannot do it; end-of-file on a socket must tell then.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        # It died before the request was in place.
        signal.raise_signal(signum)


def adopt_orphans() -> None:
    """Make orphaned descendants children of this process, so that it can end and reap them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def close_descriptors(first: int) -> None:
    """Close all descriptors of this process from ``first`` on."""
    for listing in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(listing):  # noqa: PTH208 - after a fork, with as little as possible
                if int(name) >= first:
                    with contextlib.suppress(OSError):
                        os.close(int(name))
            return
    # The limit may be a thousand million, and trying all of them takes minutes.
    os.closerange(first, min(os.sysconf("SC_OPEN_MAX"), ENOUGH_DESCRIPTORS))


def children(pid: int) -> list[int]:
    """Return the process ids of the living children of ``pid``; [] where that cannot be known."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def end_child(pid: int, patience: float) -> None:
    """Ask a child to end (SIGTERM) and reap it; wait for that at most ``patience`` seconds."""
    deadline = time.monotonic() + patience
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.001)


def end_descendants(patience: float) -> None:
    """End and reap every descendant of this process, which must have called :func:`adopt_orphans`.

    A child subreaper inherits the children of those it ends, so this goes round by round, at most ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for pid in children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            # Never blocking: the list of children may have missed one that was just inherited.
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(0.001)


def anonymous_bytes(pid: int) -> int:
    """Return the private (not shared) resident memory of a process in bytes; 0 if it is gone."""
    try:
        _, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def reap_orphans(zygote: int) -> None:
    """Reap descendants that came to this process when their worker died, but leave the zygote's status alone."""
    if not hasattr(os, "waitid"):
        return  # macOS, where nobody can adopt orphans either
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == zygote:
            return
        os.waitpid(found.si_pid, os.WNOHANG)
