"""The command ``serve run``, as people start it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

APP = """
import serve
from fastapi import FastAPI

api = FastAPI()


@serve.deployment
@serve.ingress(api)
class Hello:
    def __init__(self, greeting: str = "hello") -> None:
        self.greeting = greeting

    @api.get("/")
    async def root(self) -> str:
        return self.greeting


app = Hello.bind()


def build(arguments: dict[str, str]) -> serve.Application:
    return Hello.bind(arguments["greeting"])
"""


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    (directory / "hello.py").write_text(APP)
    return subprocess.Popen(
        [sys.executable, "-m", "serve", "run", *arguments, "--port", "0"],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line
    return found.group()


def test_it_serves_with_few_processes_until_interrupted(tmp_path: Path) -> None:
    process = start(tmp_path, "hello:app")
    try:
        assert httpx.get(address(process)).json() == "hello"
        everybody = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        assert len(everybody) == 4  # driver with controller, daemon, zygote, replica
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert not any(psutil.pid_exists(pid) for pid in everybody)


def test_arguments_build_the_application(tmp_path: Path) -> None:
    process = start(tmp_path, "hello:build", "greeting=moin")
    try:
        assert httpx.get(address(process)).json() == "moin"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_wrong_path_is_one_clear_line(tmp_path: Path) -> None:
    process = start(tmp_path, "hello:nothing")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.startswith("serve run: module 'hello' has no attribute 'nothing'"), errors
