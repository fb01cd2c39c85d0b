"""What the node daemon and its zygote exchange, over a socketpair.

The zygote is a process forked from the daemon before the daemon does anything else. It imports the worker runtime once
and forks a warm worker on request, so that a worker costs a fork instead of an interpreter start.
"""

from __future__ import annotations

from msgspec import Struct

from core.specs import RuntimeEnv


class _Msg(Struct, array_like=True, tag=True):
    pass


class WorkerStart(Struct, array_like=True, frozen=True):
    """All a forked worker needs to find its session: the argument of ``core.worker.main.run``.

    The fork has already applied what belongs to the process: standard streams, working directory, ``sys.path``,
    environment variables, signal dispositions.
    """

    #: secret to present in ``Hello``; proves that the daemon asked for this process
    token: bytes
    #: the address the worker must use, also the name of its socket
    address: bytes
    session_dir: str
    node_id: bytes
    job_id: bytes
    namespace: str
    #: the driver's ``sys.path`` and working directory
    sys_path: tuple[str, ...] = ()
    cwd: str = ""
    runtime_env: RuntimeEnv = RuntimeEnv()
    #: whether printed lines are wanted by the driver (they reach the daemon either way)
    log_to_driver: bool = True


class Fork(_Msg):
    """Fork a worker. Answered by ``Forked`` or ``ForkFailed``."""

    start: WorkerStart


class Kill(_Msg):
    """Send ``signal`` to a child. Only the zygote reaps its children, so the process id cannot have been reused."""

    pid: int
    signal: int


class Preload(_Msg):
    """Import these modules now, so that later forks have them already; those that fail are skipped with a log line."""

    modules: list[str]


class Forked(_Msg):
    """Two descriptors travel with it (SCM_RIGHTS): the read ends of the worker's stdout and stderr."""

    token: bytes
    pid: int


class ForkFailed(_Msg):
    """The operating system refused the fork (process or descriptor limit)."""

    token: bytes
    reason: str


class Exited(_Msg):
    """A child is gone. ``status`` is the exit code, or the negative number of the signal that ended it."""

    pid: int
    status: int


ToZygote = Fork | Kill | Preload

FromZygote = Forked | ForkFailed | Exited
