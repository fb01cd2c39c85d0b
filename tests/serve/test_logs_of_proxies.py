"""The log of a proxy: who asked, and who answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

import core
import serve
from serve import session
from tests.eventually import eventually
from tests.serve.conftest import url
from tests.serve.test_logs import Shop, lines_with, read


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[None]:
    """Serve of its own, with a proxy that logs JSON."""
    core.init(num_cpus=2, _preloaded_modules=session.PRELOADED)  # replicas start at once
    serve.start({"port": 0, "num_proxies": 1}, logging_config={"encoding": "JSON", "logs_dir": str(tmp_path)})
    try:
        yield
    finally:
        serve.shutdown()
        core.shutdown()


def test_a_proxy_logs_who_answered_and_the_end_of_its_log_can_be_read(proxied: None, tmp_path: Path) -> None:
    serve.run(Shop.options(logging_config={"logs_dir": str(tmp_path)}).bind(), name="one", route_prefix="/one")
    assert httpx.get(url("/one/items/7"), headers={"x-request-id": "order-4"}).json() == 7
    assert httpx.get(url("/two"), headers={"x-request-id": "order-5"}).status_code == 404
    entry, missed = (json.loads(line) for line in lines_with(tmp_path, "order-", 2, "proxy_*.log"))
    assert entry["component_name"] == "proxy"
    assert (entry["application"], entry["route"], entry["path"]) == ("one", "/one", "/one/items/7")
    assert entry["replica"].startswith("one#Shop#")
    assert (entry["request_id"], entry["status"], entry["bytes"]) == ("order-4", 200, 1)
    assert (missed["request_id"], missed["status"], missed["application"]) == ("order-5", 404, "")
    (said,) = lines_with(tmp_path, "item 7")
    assert " order-4 -- " in said
    assert not [line for line in read(tmp_path) if "GET" in line]  # the proxy has logged it

    address = url("/one/echo").replace("http:", "ws:")
    with connect(address, additional_headers={"x-request-id": "call-1"}) as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
    (call,) = (json.loads(line) for line in lines_with(tmp_path, "call-1", 1, "proxy_*.log"))
    assert (call["method"], call["path"], call["status"]) == ("WEBSOCKET", "/one/echo", 101)
    assert call["replica"] == entry["replica"]

    page = serve.status_page(port=0)

    def with_logs() -> list[str]:
        return [proxy["name"] for proxy in httpx.get(f"{page}/api/serve/live").json()["proxies"] if proxy["log"]]

    names = eventually(with_logs, timeout=30)
    tail = httpx.get(f"{page}/api/serve/logs", params={"name": names[0], "lines": 1})
    assert json.loads(tail.text)["request_id"] == "call-1"
    assert httpx.get(f"{page}/api/serve/logs", params={"name": "../../etc/passwd"}).status_code == 404
