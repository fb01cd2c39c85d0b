"""Logs of replicas and proxies that run: requests, user code, and nothing that clients made up."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket

import core
import serve
from serve.controller import collector
from tests.eventually import eventually
from tests.serve.conftest import url

web = FastAPI()


@serve.deployment
@serve.ingress(web)
class Shop:
    @web.get("/items/{number}")
    async def item(self, number: int, note: str = "") -> int:
        logging.getLogger("ray.serve").info("item %d %s", number, note)
        return number

    @web.websocket("/echo")
    async def echo(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    @web.get("/thread")
    def in_a_thread(self) -> str:
        logging.getLogger("serve").warning("in a thread", extra={"shape": [1, 2]})
        return "done"

    @web.get("/boom")
    async def boom(self) -> None:
        raise ValueError("no luck")

    async def called(self) -> str:
        logging.getLogger("ray.serve").debug("called")
        return "called"


@pytest.fixture
def deploy(apps: None, tmp_path: Path) -> Callable[..., Any]:
    """Deploy `Shop` with a logging_config whose files are in ``tmp_path``."""

    def run(name: str, **config: Any) -> Any:
        return serve.run(Shop.options(logging_config={"logs_dir": str(tmp_path), **config}).bind(), name=name)

    return run


def read(directory: Path, pattern: str = "replica_*.log") -> list[str]:
    return [line for path in sorted(directory.glob(pattern)) for line in path.read_text().splitlines()]


def lines_with(directory: Path, text: str, count: int = 1, pattern: str = "replica_*.log") -> list[str]:
    """Wait for so many lines that contain a text; they are written a moment after their request."""

    def found() -> list[str]:
        lines = [line for line in read(directory, pattern) if text in line]
        assert len(lines) <= count, lines
        return lines if len(lines) == count else []

    return eventually(found, timeout=30, what=f"{count} lines with {text!r}")


def test_text(deploy: Callable[..., Any], tmp_path: Path) -> None:
    deploy("text")
    answer = httpx.get(url("/items/5"), headers={"x-request-id": "order-1"})
    (replica,) = (path.stem.rpartition("_")[2] for path in eventually(lambda: list(tmp_path.iterdir())))
    (access,) = lines_with(tmp_path, "GET /items/5")
    assert access.startswith("INFO 20")
    assert f" replica text#Shop#{replica} order-1 -- GET /items/5 200 " in access
    assert access.endswith(" /items/{number}")
    assert answer.headers["x-request-id"] == "order-1"
    (said,) = lines_with(tmp_path, "item 5")
    assert said.startswith("INFO 20")
    assert " order-1 -- item 5" in said


def test_json(deploy: Callable[..., Any], tmp_path: Path) -> None:
    deploy("json", encoding="JSON", additional_log_standard_attrs=["name"])
    httpx.get(url("/thread"), headers={"x-request-id": "order-2"})
    said, access = (json.loads(line) for line in lines_with(tmp_path, "order-2", 2))
    who = {"application": "json", "deployment": "Shop", "request_id": "order-2", "component_name": "replica"}
    assert who.items() <= said.items()
    assert who.items() <= access.items()
    assert said["replica"] == access["replica"] == access["component_id"]
    assert (said["message"], said["levelname"], said["name"]) == ("in a thread", "WARNING", "serve")
    assert said["shape"] == [1, 2]
    assert (access["method"], access["path"], access["status"], access["route"]) == ("GET", "/thread", 200, "/thread")
    assert access["bytes"] == len('"done"')
    assert access["client"].startswith("127.0.0.1:")
    assert access["latency_ms"] > 0


def test_what_code_raises_is_there_with_its_request(
    deploy: Callable[..., Any], tmp_path: Path, raw: Callable[[bytes], bytes]
) -> None:
    deploy("raises", encoding="JSON")
    answers = raw(
        b"GET /boom HTTP/1.1\r\nhost: a\r\nx-request-id: order-3\r\n\r\n"
        b"GET /items/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    )
    assert answers.count(b"HTTP/1.1 500") == answers.count(b"HTTP/1.1 200") == 1  # the connection lives on
    lines_with(tmp_path, "order-3", 2)
    error = next(json.loads(line) for line in read(tmp_path) if "exc_text" in line)
    assert error["request_id"] == "order-3"
    assert error["exc_text"].endswith("ValueError: no luck")


def test_clients_forge_no_lines(deploy: Callable[..., Any], tmp_path: Path, raw: Callable[[bytes], bytes]) -> None:
    deploy("forged")
    forged = "\nINFO 2026-01-01 00:00:00,000 replica forged#Shop#0 id -- forged"
    assert httpx.get(url("/items/1"), params={"note": forged}).status_code == 200
    path = b"/items/2%0AINFO%20forged"
    assert raw(b"GET " + path + b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").startswith(b"HTTP/1.1 422")
    fields = b"host: a\r\nx-request-id: a -- \xc2\x85INFO forged\r\nconnection: close\r\n\r\n"
    assert raw(b"GET /items/3 HTTP/1.1\r\n" + fields).startswith(b"HTTP/1.1 200")
    assert raw(b"GET /\x0bforged HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400")
    lines_with(tmp_path, "GET /items/", 3)
    lines_with(tmp_path, " 400 ")
    for line in read(tmp_path):
        assert not line.startswith("INFO 2026-01-01")
        assert "forged" not in line or line.startswith(("INFO 20", "    INFO"))


def test_levels_and_the_access_log_can_be_set_and_changed_without_a_restart(
    deploy: Callable[..., Any], tmp_path: Path
) -> None:
    handle = deploy("changes", enable_access_log=False, log_level="DEBUG")
    httpx.get(url("/items/1"))
    assert handle.called.remote().result() == "called"
    lines_with(tmp_path, "called")
    (before,) = tmp_path.glob("replica_*.log")
    deploy("changes", encoding="JSON", log_level="ERROR")

    def logged() -> bool:
        httpx.get(url("/items/2"))
        return "/items/2" in before.read_text()

    eventually(logged, timeout=30, what="the replica logs accesses")
    assert handle.called.remote().result() == "called"
    assert [path.name for path in tmp_path.iterdir()] == [before.name]
    lines = before.read_text()
    assert "GET /items/1" not in lines
    assert "item 2" not in lines
    assert lines.count(" -- called") == 1


def test_logs_are_in_the_sessions_directory_by_default_those_of_the_last_replicas(
    apps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "ENDED", 0)
    serve.run(Shop.bind(), name="default")
    httpx.get(url("/items/1"))
    directory = Path(core.get_runtime_context().get_temp_dir(), "logs")
    lines_with(directory, "GET /items/1", pattern="replica_default_*.log")
    (before,) = directory.glob("replica_default_*.log")
    serve.run(Shop.options(ray_actor_options={"runtime_env": {"env_vars": {"NEW": "1"}}}).bind(), name="default")
    eventually(lambda: not before.exists(), timeout=30, what="the log of the ended replica is deleted")
    httpx.get(url("/items/2"))
    lines_with(directory, "GET /items/2", pattern="replica_default_*.log")
