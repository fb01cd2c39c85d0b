"""Systems under test as processes: started, awaited, weighed, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Ask for ``/`` over a connection of its own."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return client.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@dataclass
class System:
    """A system that serves on a port."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def family(self) -> list[psutil.Process]:
        """Return all of its processes."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the CPU time that its living processes have used."""
        total = 0.0
        for member in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(member.cpu_times()[:2])
        return total

    def pss_mb(self) -> float:
        """Return its memory, shared pages divided among those that share them."""
        return sum(member.memory_full_info().pss for member in self.family()) / 1e6

    def await_answer(self, timeout_s: float = 120.0) -> None:
        """Wait until it answers.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + timeout_s
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not answer")
            time.sleep(0.002)


@contextlib.contextmanager
def running(name: str, command: list[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[System]:
    """Start a system; the block's end is its end. Its output goes to ``out/serve-NAME.log``."""
    out = ROOT / "out"
    out.mkdir(exist_ok=True)
    with (out / f"serve-{name.replace(' ', '-')}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        system = System(name, port, process)
        try:
            yield system
        finally:
            family = system.family() if process.poll() is None else []
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait(30)


def bare(port: int) -> list[str]:
    """Return the command of uvicorn with the bare application."""
    options = ["--log-level", "warning", "--no-access-log", "--port", str(port)]
    return [sys.executable, "-m", "uvicorn", "benchmarks.serve.apps:bare", *options]


def served(port: int, proxies: int) -> list[str]:
    """Return the command of Serve: with a proxy, or with direct ingress."""
    return [sys.executable, "-m", "benchmarks.serve.apps", str(port), str(proxies)]


def ray(python: str, port: int, max_ongoing: int) -> list[str]:
    """Return the command of Ray Serve; with 0 its default limit of ongoing requests."""
    return [python, "-P", str(Path(__file__).with_name("ray_app.py")), str(port), str(max_ongoing)]


def serve_run(port: int) -> list[str]:
    """Return ``serve run`` of the least application."""
    return [str(Path(sys.executable).with_name("serve")), "run", "benchmarks.serve.noop:app", "--port", str(port)]
