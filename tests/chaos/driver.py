"""Driver programs as processes of their own, and what is left of them, found from outside.

Every process that a driver starts inherits a mark in its environment, so orphans are found too, whoever adopted them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.eventually import eventually

PROGRAMS = Path(__file__).parent / "driver_programs"
MARK = "SKATE_TEST_MARK"
#: Seconds that something may take to end. No test measures speed; only a failing one waits so long.
SOON = 20.0


class Driver:
    """A running driver program and everything it started.

    Args:
        program: a file in ``driver_programs``, without its suffix.
        arguments: of the program.
        prefix: a command that runs the program.
        environment: variables besides this process's own.
    """

    def __init__(
        self,
        program: str,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.program = str(PROGRAMS / f"{program}.py")
        self.mark = uuid.uuid4().hex
        self.tmp = Path(tempfile.mkdtemp(prefix="d-"))
        self._out, self._err = (self.tmp.with_name(self.tmp.name + end) for end in (".out", ".err"))
        given = {**os.environ, **(environment or {}), MARK: self.mark, "TMPDIR": str(self.tmp)}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, self.program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=given,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is left, so that a failure here is no failure of the next test."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()
        self.process.wait()

    @property
    def stdout(self) -> str:
        """What it printed so far."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """What it wrote to stderr so far."""
        return self._err.read_text()

    def wait_until_it_prints(self, word: str) -> str:
        """Return what it printed once that has a line starting with ``word``."""

        def printed() -> str:
            text = self.stdout
            found = any(line.startswith(word) for line in text.splitlines())
            assert found or self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.stderr}"
            return text if found else ""

        return eventually(printed, SOON, f"the driver prints {word!r}")

    def wait(self) -> int:
        """Wait until the driver itself has ended; return its exit status (negative: the signal)."""
        try:
            return self.process.wait(SOON)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver does not end\n{self.stdout}\n{self.stderr}") from None

    def processes(self) -> list[psutil.Process]:
        """Living processes that carry the mark, the driver among them."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def find(self, word: str) -> psutil.Process:
        """Return the oldest process with an argument that ends in ``word``."""
        found = [process for process in self.processes() if any(part.endswith(word) for part in command(process))]
        return min(found, key=lambda process: process.create_time())

    @property
    def daemon(self) -> psutil.Process:
        """The node daemon."""
        return self.find("bootstrap.py")

    @property
    def zygote(self) -> psutil.Process:
        """The zygote: the daemon's child."""
        return self.daemon.children()[0]

    def leftovers(self, besides: frozenset[int] = frozenset()) -> list[str]:
        """Return what there still is: processes, files, sockets, shared memory with a name."""
        found = [
            f"process {process.pid}: {' '.join(command(process))[:120]}"
            for process in self.processes()
            if process.pid not in besides
        ]
        # The directory of all sessions of this user stays; what is in it must not.
        # (os.walk, since directories vanish while they are looked at.)
        for place, directories, files in os.walk(self.tmp):
            if Path(place) != self.tmp:
                found += [os.path.join(place, name) for name in (*directories, *files)]
        found += [str(path) for path in Path("/dev/shm").glob("*skate*")]
        return found

    def assert_nothing_remains(self, besides: frozenset[int] = frozenset()) -> None:
        """Wait until everything is gone."""
        try:
            eventually(lambda: not self.leftovers(besides), SOON)
        except AssertionError:
            found = self.leftovers(besides)
            assert not found, "something remains:\n  " + "\n  ".join(found)


def command(process: psutil.Process) -> list[str]:
    """Return a process's arguments; [] when it is gone meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal, at once."""
    os.kill(process.pid, number)
