"""Start a node daemon from a driver, and see to it that nothing of it remains."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from core.node import session
from core.node.config import ENOUGH_DESCRIPTORS, NodeConfig
from core.protocol import NODE_SOCKET

_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_PLACE = str(Path(msgspec.__file__).absolute().parents[1])
#: Seconds a daemon has to end by itself before it is killed.
KILL_SECONDS = 0.5
#: Seconds from the end of its connections to its own within which a daemon is asked how it ended.
LAST_WORDS_SECONDS = 0.2


class NodeStartError(RuntimeError):
    """The daemon did not come up; the message carries the end of its log."""


class NodeProcess:
    """A daemon started by this process.

    Attributes:
        session_dir: its directory; ``node.sock`` in it accepts connections once :meth:`wait_ready` returned.
        pid: its process id.
    """

    def __init__(self, session_dir: Path, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.session_dir = session_dir
        self.pid = process.pid
        self._process = process
        self._control = control

    @property
    def socket_path(self) -> str:
        """Path of the daemon's socket."""
        return str(self.session_dir / NODE_SOCKET)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until the daemon listens.

        Raises:
            NodeStartError: it exited, or is not ready within ``timeout`` seconds. It is gone then.
        """
        poller = select.poll()  # `select` cannot look at descriptors above 1,023
        poller.register(self._control, select.POLLIN)
        ready = poller.poll(timeout * 1000)
        if ready and self._control.recv(1, socket.MSG_PEEK) == b"\n":
            self._control.recv(1)
            return
        log = self.log_tail()
        what = "exited while it started" if ready else f"was not ready within {timeout:g} s"
        self.kill()
        raise NodeStartError(f"the node daemon (pid {self.pid}) {what}\n{log}".rstrip())

    def log_tail(self, lines: int = 20) -> str:
        """Return why the daemon failed, if it could tell, else the last lines of its log."""
        self._control.setblocking(False)
        try:
            text = self._control.recv(65536).decode(errors="replace")
        except OSError:
            text = ""
        if not text:
            try:
                text = (self.session_dir / "node.log").read_text(errors="replace")
            except OSError:
                return ""
        return "\n".join(text.splitlines()[-lines:])

    def last_words(self) -> str:
        """Say how the daemon ended and what it told of the reason; "" if it lives or ended as it should."""
        try:
            code = self._process.wait(LAST_WORDS_SECONDS)
        except subprocess.TimeoutExpired:
            return ""
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"it was killed by signal {-code} ({names.get(-code, 'of no name')})"
        self._control.setblocking(False)
        try:
            text = self._control.recv(65536).decode(errors="replace")
        except OSError:
            text = ""
        return f"it failed:\n{text.rstrip()}" if text else ""

    def wait_gone(self, timeout: float) -> bool:
        """Wait until the daemon has exited; return whether it did within ``timeout`` seconds. Cleans up if so."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._clean_up()
        return True

    def kill(self) -> None:
        """End the daemon (its workers end with it) and remove what it leaves. Idempotent.

        A daemon that still starts fails as soon as it wants to say that it is ready, and tidies up by itself, also if
        this process is ended before it could; so it gets a moment.
        """
        if self._process.poll() is None:
            self._control.close()
            try:
                self._process.wait(KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()
        self._clean_up()

    def _clean_up(self) -> None:
        self._control.close()
        # The zygote removes the directory too; whoever is last finds nothing.
        deadline = time.monotonic() + 1.0
        while self.session_dir.exists() and time.monotonic() < deadline:
            session.remove(self.session_dir)


def start(config: NodeConfig, session_parent: Path | None = None) -> NodeProcess:
    """Start a daemon and return at once; call :meth:`NodeProcess.wait_ready` before connecting.

    The daemon ends when this process dies, or when its driver's connection ends.

    Args:
        config: ``session_dir`` and the descriptors are filled in here.
        session_parent: directory that holds session directories; by default ``<tmp>/skate-<uid>``.

    Raises:
        SessionDirError: the directory for sessions belongs to somebody else.
        OSError: no process can be started.
    """
    _fill_standard_descriptors()
    _raise_descriptor_limit()
    parent = session_parent if session_parent is not None else session.default_parent()
    session.secure_parent(parent)
    session.sweep(parent)
    directory, locks = session.create(parent)
    ours, theirs = socket.socketpair()
    log = os.open(directory / "node.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    config = msgspec.structs.replace(
        config,
        session_dir=str(directory),
        driver_pid=config.driver_pid or os.getpid(),
        control_fd=theirs.fileno(),
    )
    try:
        process = subprocess.Popen(
            [sys.executable, *_isolation(), "-P", str(_BOOTSTRAP), msgspec.json.encode(config).decode(), _PLACE],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(theirs.fileno(), *locks),  # locked as long as the daemon or its zygote lives
            start_new_session=True,
        )
    except (OSError, ValueError):
        ours.close()
        session.remove(directory)
        raise
    finally:
        theirs.close()
        for descriptor in (log, *locks):
            os.close(descriptor)
    return NodeProcess(directory, process, ours)


def _isolation() -> list[str]:
    """Return those of this interpreter's options that keep modules of the environment or of the user out."""
    flags = sys.flags
    given = {"-I": flags.isolated, "-E": flags.ignore_environment, "-s": flags.no_user_site}
    return [option for option, value in given.items() if value]


def _fill_standard_descriptors() -> None:
    """Open those of the first three descriptors that are closed (``program <&-``), or sockets of ours would get them.

    Whatever writes to standard output or error below Python would then write into our messages.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return


def _raise_descriptor_limit() -> None:
    """Let this process and those that it starts open more files, as far as the system allows and workers may need.

    A driver has a connection to every worker, the daemon three descriptors for each; common limits are 256 (macOS) and
    1,024.
    """
    import resource  # noqa: PLC0415 - only Unix has it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a limit below the one that it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
