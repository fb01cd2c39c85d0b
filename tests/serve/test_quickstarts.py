"""Ray Serve's own first programs, with nothing but their imports changed, as real processes.

Written after the documented API; models that are downloaded there have a stand-in here. With ``from ray import serve``
in place of ``import serve`` (and ``ray.serve.handle``) the same files run on Ray.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "quickstarts").glob("*.py"))
#: seconds that a program may take; each takes about two
LIMIT = 110


def free_port() -> int:
    """Return a port that nobody listens on, below those that the system gives away for 0."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)):
                return port


def test_there_are_programs() -> None:
    assert {program.stem for program in PROGRAMS} >= {"hello", "translator", "composition", "batching", "streaming"}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_quickstart_runs(program: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        env={**os.environ, "PORT": str(free_port())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
