"""The zygote: a single-threaded process that forks warm workers on request and reports their deaths.

It is forked from the node daemon before that does anything else, imports the worker runtime once, freezes its objects
(``gc.freeze``, so that collections in children do not touch, and thus copy, shared pages), and then serves one
socketpair. A child never returns into this module's loop: it runs the worker entry and leaves by ``os._exit``.

Deaths: a child's death wakes the zygote by SIGCHLD. The daemon's death shows as end-of-file on the socketpair and, if
the zygote is busy importing, as SIGTERM (PDEATHSIG); the zygote then ends its children, removes the session directory
and leaves. The zygote's own death ends the children by SIGKILL (PDEATHSIG). The driver's death is the daemon's affair;
but a daemon that is stopped (SIGSTOP, a debugger) cannot see to it, so after a moment the zygote ends it too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from math import inf
from pathlib import Path
from types import FrameType
from typing import NoReturn

from core.node import numerics, process, session
from core.protocol import framing
from core.protocol.from_node import FromNode
from core.protocol.peer import FromPeer
from core.protocol.zygote import Exited, Fork, Forked, ForkFailed, Kill, Preload, ToZygote, WorkerStart

logger = logging.getLogger(__name__)

Entry = Callable[[WorkerStart], NoReturn]

#: Seconds spent on reaping what was ended.
REAP_SECONDS = 1.0
#: Seconds the daemon has after the driver's death.
NODE_SECONDS = 0.7


class Zygote:
    """The zygote's loop.

    Args:
        node: this end of the socketpair to the daemon.
        session_dir: removed when the daemon is gone.
        entry: the module whose ``run(start)`` a worker executes.
        driver_pid: the session ends with this process; 0 for none.
    """

    def __init__(self, node: socket.socket, session_dir: str, entry: str, driver_pid: int = 0) -> None:
        self._node = node
        self._session_dir = session_dir
        self._entry_module = entry
        self._entry: Entry | None = None
        self._decoder: framing.Decoder[ToZygote] = framing.Decoder(ToZygote)
        self._children: set[int] = set()
        self._node_pid = os.getppid()
        self._driver_pid = driver_pid

    def run(self) -> NoReturn:
        """Serve until the daemon is gone."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        process.die_with_parent(signal.SIGTERM, self._node_pid)
        # What a worker started and left behind comes here, so that it ends with the session even if the daemon is gone.
        process.adopt_orphans()
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        gc.disable()
        _execute_package()
        module = importlib.import_module(self._entry_module)
        self._entry = module.run
        # What the first connections of every worker need.
        framing.prepare(FromNode, FromPeer)
        gc.freeze()
        poller = select.poll()
        poller.register(self._node.fileno(), select.POLLIN)
        poller.register(wake_read, select.POLLIN)
        driver = self._watch_driver()
        if driver >= 0:
            poller.register(driver, select.POLLIN)
        due = inf
        while True:
            for fd, _ in poller.poll(None if due == inf else max(0.0, due - time.monotonic()) * 1000):
                if fd == wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                    self._reap()
                elif fd == driver:
                    poller.unregister(fd)
                    due = time.monotonic() + NODE_SECONDS
                else:
                    self._receive()
            if time.monotonic() >= due:
                self._end_node()

    def _watch_driver(self) -> int:
        """Return a descriptor that is readable when the driver is dead; -1 if that cannot be seen here."""
        if not self._driver_pid or not hasattr(os, "pidfd_open"):
            return -1
        try:
            return os.pidfd_open(self._driver_pid)
        except OSError:
            return -1

    def _end_node(self) -> NoReturn:
        """The driver is dead, and the daemon has not done anything about it."""
        if os.getppid() == self._node_pid:
            os.kill(self._node_pid, signal.SIGKILL)
        self._end_session()

    def _receive(self) -> None:
        try:
            data = self._node.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._end_session()
        for message in self._decoder.feed(data):
            if isinstance(message, Fork):
                self._fork(message.start)
            elif isinstance(message, Kill):
                if message.pid in self._children:
                    os.kill(message.pid, message.signal)
            else:
                self._preload(message)

    def _send(self, message: Forked | ForkFailed | Exited, fds: list[int]) -> None:
        try:
            frame = framing.encode([message])
            sent = socket.send_fds(self._node, [frame], fds)
            self._node.sendall(memoryview(frame)[sent:])
        except OSError:
            self._end_session()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid not in self._children:
                continue  # an orphan, adopted
            self._children.discard(pid)
            self._send(Exited(pid, os.waitstatus_to_exitcode(status)), [])

    def _preload(self, message: Preload) -> None:
        for name in message.modules:
            try:
                importlib.import_module(name)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code must not end the zygote
                logger.warning("module %r is not preloaded: %r", name, error)
        gc.freeze()

    def _fork(self, start: WorkerStart) -> None:
        pipes: list[int] = []
        zygote = os.getpid()
        # A terminate signal must not run the zygote's handler in the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
            for fd in pipes:
                os.close(fd)
            self._send(ForkFailed(start.token, f"cannot fork a worker: {error}"), [])
            return
        out_read, out_write, err_read, err_write = pipes
        if pid == 0:
            self._become_worker(start, zygote, out_write, err_write)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        os.close(out_write)
        os.close(err_write)
        self._children.add(pid)
        self._send(Forked(start.token, pid), [out_read, err_read])
        os.close(out_read)
        os.close(err_read)

    def _become_worker(self, start: WorkerStart, zygote: int, stdout: int, stderr: int) -> NoReturn:
        """In the child: make the process a worker and run it."""
        code = 1
        try:
            _reset_signals()
            process.die_with_parent(signal.SIGKILL, zygote)
            self._node.detach()
            _replace_streams(stdout, stderr)
            _apply_environment(start)
            gc.enable()
            assert self._entry is not None
            self._entry(start)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # noqa: BLE001 - the outermost shell of the worker process
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _on_terminate(self, signum: int, frame: FrameType | None) -> None:
        self._end_session()

    def _end_session(self) -> NoReturn:
        """The daemon is gone: end the brood, remove what is left of the session, leave."""
        # Those that cannot know of the descendants (no /proc) still know their children.
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.end_descendants(REAP_SECONDS)
        session.remove(Path(self._session_dir))
        os._exit(0)


def _execute_package() -> None:
    """Execute the package's ``__init__``, which the daemon skipped (see :mod:`core.node.bootstrap`)."""
    package = sys.modules["core"]
    spec = package.__spec__
    if not hasattr(package, "init") and spec is not None and spec.loader is not None:
        spec.loader.exec_module(package)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Exists so that SIGCHLD is delivered, and thus wakes the poll."""


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


def _replace_streams(stdout: int, stderr: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    process.close_descriptors(3)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    # The thread that crashed only: the stacks of the others would push its last words out of the tail that is kept.
    faulthandler.enable(2, all_threads=False)


def _apply_environment(start: WorkerStart) -> None:
    environment = start.runtime_env
    os.environ.update(environment.env_vars)
    if environment.working_dir:
        os.chdir(environment.working_dir)
    elif start.cwd:
        # The driver's directory may have been removed; the worker stays where the zygote is then.
        with contextlib.suppress(OSError):
            os.chdir(start.cwd)
    paths = [*environment.py_modules]
    if environment.working_dir:
        paths.append(environment.working_dir)
    # What an interpreter, or the C library, looks at once, when it starts.
    variables = dict(environment.env_vars)
    paths += [entry for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if "TZ" in variables:
        time.tzset()
    sys.path[:] = list(dict.fromkeys((*paths, *start.sys_path, *sys.path)))
    # Legacy numpy random state was seeded in the zygote: without this all workers would draw the same numbers.
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
    numerics.set_threads(variables)
