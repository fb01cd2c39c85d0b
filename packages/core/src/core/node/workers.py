"""Worker processes: started through the zygote, recognised by token, watched, ended, and their deaths explained."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from core.node.logs import WorkerOutput
from core.node.loop import Loop
from core.node.zygote_client import ZygoteClient
from core.protocol.records import DeathCause
from core.protocol.zygote import Exited, Fork, Forked, ForkFailed, Kill, WorkerStart
from core.specs import RuntimeEnv

#: Seconds a process has from fork to ``Hello``.
START_SECONDS = 60.0
#: Seconds a process may live on after its connection to the daemon broke.
DISCONNECTED_SECONDS = 1.0
#: Why there is no worker when this process may open no more files.
NO_DESCRIPTORS = "the node daemon has too many files open, three for each worker (see `ulimit -n`)"


class WorkerProcess(Struct, eq=False):
    """One process, from the request to fork it until its death."""

    address: bytes
    token: bytes
    job_id: bytes
    pid: int = 0
    #: name for log lines: the actor's class
    name: str = ""
    #: it has said ``Hello``
    joined: bool = False
    #: it said that it leaves, and why
    leaving: str | None = None
    #: why it was ended by us; decides the cause of its death
    doom: DeathCause | None = None
    output: WorkerOutput | None = None
    #: when it will be ended unless something happens first (monotonic seconds)
    deadline: float | None = None
    deadline_cause: DeathCause | None = None


class WorkerProcesses:
    """All processes forked for this node.

    Args:
        loop: the daemon's loop.
        zygote: forks them.
        on_lines: called with (process, stream, lines, name of the task or "") of what they print.
        on_failed: called with (address, kind, reason) when a process cannot be started.
        on_gone: called with (process, status as in ``Exited``) after a process that was started has died.
        on_lost: called when the zygote is gone.
    """

    def __init__(
        self,
        loop: Loop,
        zygote: ZygoteClient,
        on_lines: Callable[[WorkerProcess, int, list[str], str], None],
        on_failed: Callable[[bytes, str, str], None],
        on_gone: Callable[[WorkerProcess, int], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._zygote = zygote
        self._on_lines = on_lines
        self._on_failed = on_failed
        self._on_gone = on_gone
        self.by_address: dict[bytes, WorkerProcess] = {}
        self._by_pid: dict[int, WorkerProcess] = {}
        self._by_token: dict[bytes, WorkerProcess] = {}
        zygote.attach(loop, self._forked, self._fork_failed, self._exited, on_lost)

    def start(self, start: WorkerStart) -> None:
        """Fork a worker; ``start.token`` is filled in here."""
        problem = _environment_problem(start.runtime_env)
        if problem:
            self._loop.post(lambda: self._on_failed(start.address, "runtime_env", problem))
            return
        token = os.urandom(16)
        process = WorkerProcess(start.address, token, start.job_id)
        cause = DeathCause("start", detail=f"did not register within {START_SECONDS:g} s")
        process.deadline, process.deadline_cause = time.monotonic() + START_SECONDS, cause
        self.by_address[start.address] = process
        self._by_token[token] = process
        fields = {name: getattr(start, name) for name in start.__struct_fields__} | {"token": token}
        self._zygote.send(Fork(WorkerStart(**fields)))

    def join(self, address: bytes, token: bytes, pid: int) -> WorkerProcess | None:
        """Return the process that says ``Hello`` so, None if it is not one of ours."""
        process = self.by_address.get(address)
        if process is None or process.joined or process.token != token:
            return None
        if process.pid and pid and process.pid != pid:
            return None
        process.joined = True
        process.pid = process.pid or pid
        process.deadline = None
        return process

    def kill(self, address: bytes, cause: DeathCause) -> None:
        """End a process at once; the first cause given is the one told."""
        process = self.by_address.get(address)
        if process is None or process.doom is not None:
            return
        process.doom = cause
        if process.pid in self._by_pid:
            self._zygote.send(Kill(process.pid, signal.SIGKILL))

    def read_output(self, job_id: bytes) -> None:
        """Read what the processes of a job have printed so far."""
        for process in self.by_address.values():
            if process.job_id == job_id and process.output is not None:
                process.output.read()

    def disconnected(self, address: bytes) -> None:
        """Its connection ended: it is dying, or it closed the socket and will be ended soon."""
        process = self.by_address.get(address)
        if process is not None:
            cause = DeathCause("disconnected", detail="closed its connection to the node daemon")
            process.deadline, process.deadline_cause = time.monotonic() + DISCONNECTED_SECONDS, cause

    @property
    def deadline(self) -> float | None:
        """When :meth:`expire` has something to do."""
        return min((p.deadline for p in self.by_address.values() if p.deadline is not None), default=None)

    def expire(self, now: float) -> None:
        """End the processes whose time is over."""
        for process in list(self.by_address.values()):
            if process.deadline is not None and process.deadline <= now:
                process.deadline = None
                assert process.deadline_cause is not None
                self.kill(process.address, process.deadline_cause)

    def _forked(self, message: Forked, stdout: int, stderr: int) -> None:
        process = self._by_token.pop(message.token, None)
        if stdout < 0:
            self._zygote.send(Kill(message.pid, signal.SIGKILL))
            if process is not None:
                del self.by_address[process.address]
                self._on_failed(process.address, "start", NO_DESCRIPTORS)
            return
        if process is None:
            os.close(stdout)
            os.close(stderr)
            return
        process.pid = message.pid
        self._by_pid[message.pid] = process
        process.output = WorkerOutput(
            self._loop, stdout, stderr, lambda stream, lines, name: self._on_lines(process, stream, lines, name)
        )
        if process.doom is not None:
            self._zygote.send(Kill(message.pid, signal.SIGKILL))

    def _fork_failed(self, message: ForkFailed) -> None:
        process = self._by_token.pop(message.token, None)
        if process is not None:
            del self.by_address[process.address]
            self._on_failed(process.address, "start", message.reason)

    def _exited(self, message: Exited) -> None:
        process = self._by_pid.pop(message.pid, None)
        if process is not None:
            self._on_gone(process, message.status)

    def forget(self, process: WorkerProcess, status: int) -> DeathCause:
        """Remove a dead process and return the cause of its death."""
        if process.output is not None:
            process.output.finish()
        self.by_address.pop(process.address, None)
        return _cause(process, status)


def _cause(process: WorkerProcess, status: int) -> DeathCause:
    tail = process.output.tail if process.output is not None else ""
    code = abs(status)
    if process.doom is not None:
        doom = process.doom
        return DeathCause(doom.kind, doom.code, doom.detail, tail, process.pid)
    if status < 0:
        # Kind and code say it all; the text is for what they do not say.
        detail = "" if process.joined else f"ended by {_signal_name(code)} before it was ready"
        return DeathCause("signal", code, detail, tail, process.pid)
    if process.leaving is not None:
        return DeathCause("intended", code, process.leaving, tail, process.pid)
    kind = "exit" if process.joined else "start"
    detail = "" if process.joined else f"exited with code {code} before it was ready"
    return DeathCause(kind, code, detail, tail, process.pid)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a signal"


def _environment_problem(environment: RuntimeEnv) -> str:
    for directory in (environment.working_dir, *environment.py_modules):
        if directory and not Path(directory).exists():
            return f"runtime_env names {directory!r}, which does not exist"
    return ""
