"""The command ``serve`` as people start it, and applications for it to find."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CODE = """
import os

import serve
from pydantic import BaseModel


@serve.deployment
class Hello:
    def __init__(self, greeting: str = "hello") -> None:
        self.greeting = greeting

    def __call__(self) -> str:
        return self.greeting


@serve.deployment
class Broken:
    def __init__(self) -> None:
        raise OSError("disk on fire")

    def __call__(self) -> str:
        return "never"


@serve.deployment
class Place:
    def __call__(self) -> str:
        return os.environ.get("PLACE", "nowhere")


class Args(BaseModel):
    times: int = 1


app = Hello.bind()
broken = Broken.bind()
place = Place.bind()


def build(args: Args):
    return Hello.bind("hello" * args.times)


def crash(args):
    os._exit(7)


def fail(args):
    raise KeyError("no such model")
"""


def serve(
    directory: Path, *arguments: str, address: str | None = None, timeout: float = 200
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "serve", *arguments],
        cwd=directory,
        env=environment(address),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def environment(address: str | None = None) -> dict[str, str]:
    known = {
        name: value
        for name, value in os.environ.items()
        if name not in {"SKATE_SERVE_ADDRESS", "RAY_DASHBOARD_ADDRESS"}
    }
    return {**known, **({} if address is None else {"SKATE_SERVE_ADDRESS": address})}


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command printed; it is a failure if it failed."""
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command complained of; it is a failure if it succeeded, or had no words for what was wrong."""
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr.partition("\n")[0]
    return done.stderr


@contextmanager
def in_foreground(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``serve run`` on free ports until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serve", "run", *arguments, "--port", "0", "--admin-port", "0"],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def address_in(line: str) -> str:
    """Return the address that a line names."""
    found = re.search(r"http://[^\s:]+:\d+", line)
    assert found, line
    return found.group()


class Background:
    """Serve in the background, at an address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = f"http://127.0.0.1:{unused_port()}"
        self.pid = 0

    def serve(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command that talks to it."""
        done = serve(self.directory, *arguments, address=self.address)
        started = re.search(r"in the background \(process (\d+)\)", done.stdout)
        if started:
            self.pid = int(started.group(1))
        return done

    def end(self) -> None:
        """End it, whatever has become of it."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def unused_port() -> int:
    """Return a port that is free, and that the system gives to nobody who asks for any."""
    while True:
        port = random.randint(20_000, 30_000)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def listening() -> Iterator[int]:
    """Have somebody else answer at a port, with what is no answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
