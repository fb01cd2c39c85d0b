"""The status page in a real browser: what runs, how it does, why something does not, and nothing of others executed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import serve
from tests.eventually import eventually
from tests.serve.conftest import url
from tests.serve.load import Load

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: milliseconds that something may take to appear
PATIENCE = 30_000
SCRIPT = "<script>document.title = 'taken over'</script><img src=x onerror=\"document.title = 'taken over'\">"

BACKGROUND = "getComputedStyle(document.body).backgroundColor"

web = FastAPI()


@serve.deployment
class Model:
    async def __call__(self, number: int) -> int:
        return number


@serve.deployment
@serve.ingress(web)
class Front:
    def __init__(self, model: Any) -> None:
        self.model = model

    @web.get("/items/{number}")
    async def item(self, number: int) -> int:
        return await self.model.remote(number)

    @web.get("/boom")
    async def boom(self) -> None:
        raise ValueError(f"no luck {SCRIPT}")


@serve.deployment(max_constructor_retry_count=1)
class Broken:
    def __init__(self) -> None:
        raise OSError(f"disk on fire {SCRIPT}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def is_wrong(message: Any) -> bool:
    return message.type == "error" and not message.text.startswith("Failed to load resource")


@pytest.fixture
def page(quick_collector: None, apps: None, browser: Any) -> Iterator[Any]:
    """The page, in a window of its own; errors of its script fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if is_wrong(message) else None)
    page.goto(serve.status_page(port=0))
    yield page
    context.close()
    assert wrong == []


def application(page: Any, name: str) -> Any:
    """Return the part of an application, once it is there."""
    section = page.get_by_role("region", name=name, exact=True)
    section.wait_for()
    return section


def brightness(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_it_shows_what_runs_and_how_it_does(page: Any) -> None:
    serve.run(Front.bind(Model.bind()), name="shop")
    shop = application(page, "shop")
    shop.locator(".title .status", has_text="RUNNING").wait_for()
    assert shop.locator(".graph").get_attribute("aria-label") == "Deployments: Front, Model. Front calls Model."
    shop.get_by_role("row", name="Front HEALTHY").wait_for()
    rows = shop.get_by_role("table", name="Deployments").get_by_role("row")
    assert [row.split("\t")[0] for row in rows.all_inner_texts()] == ["name", "Front", "Model"]
    replicas = shop.get_by_role("table", name="Replicas").get_by_role("row")
    assert [row.split("\t")[0].rpartition("#")[0] for row in replicas.all_inner_texts()[1:]] == [
        "shop#Front",
        "shop#Model",
    ]
    rate = shop.locator("dd[data-figure=requests]")
    assert rate.inner_text() == "0"
    with Load(url("/items/1"), clients=1):
        rate.get_by_text("0", exact=True).wait_for(state="detached")
        page.wait_for_function("document.querySelector('dd[data-figure=p50]').textContent.endsWith(' ms')")
        drawn = shop.locator(".chart").first
        page.wait_for_function("document.querySelector('.chart .area').getAttribute('d').length > 20")
        assert "requests/s" in (drawn.get_attribute("aria-label") or "")
    rate.get_by_text("0", exact=True).wait_for()
    light = page.evaluate(BACKGROUND)
    page.set_viewport_size({"width": 360, "height": 700})
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "a phone has to scroll sideways"
    assert brightness(page.evaluate(BACKGROUND)) < 150 < 600 < brightness(light)
    serve.delete("shop")
    shop.wait_for(state="detached")
    page.get_by_text("No application is deployed").wait_for()


def test_why_something_does_not_run_is_text_and_nothing_else(page: Any) -> None:
    with pytest.raises(RuntimeError, match="disk on fire"):
        serve.run(Broken.bind(), name="broken <b>", route_prefix="/broken")
    broken = application(page, "broken <b>")
    broken.locator(".title .status", has_text="DEPLOY_FAILED").wait_for()
    message = broken.locator(".message").inner_text()
    assert "Traceback (most recent call last)" in message
    assert f"OSError: disk on fire {SCRIPT}" in message
    page.wait_for_function("document.title === '(1) Skate Serve'")
    assert page.locator("img, main script, b").count() == 0


def test_exceptions_of_requests_and_the_log_of_their_replica(page: Any) -> None:
    serve.run(Front.bind(Model.bind()), name="fails")
    for _ in range(4):
        assert httpx.get(url("/boom"), headers={"x-request-id": "order-1"}).status_code == 500
    fails = application(page, "fails")
    fails.get_by_role("button", name="1 earlier").click()
    fails.get_by_role("button", name="Latest only").wait_for()
    assert fails.locator("details:visible").count() == 4
    first = fails.locator("details").first
    first.locator("summary").click()
    assert "order-1" in first.inner_text()
    assert f"ValueError: no luck {SCRIPT}" in first.locator("pre").inner_text()
    fails.get_by_role("row", name="fails#Front").get_by_role("button", name="Log of fails#Front").click()
    log = page.get_by_role("dialog")
    log.get_by_text("GET /boom 500").wait_for()
    assert f"no luck {SCRIPT}" in log.locator("pre").inner_text()
    page.keyboard.press("Escape")
    log.wait_for(state="hidden")
    assert page.title() == "Skate Serve"
    assert page.locator("img, main script").count() == 0


def test_it_says_when_nobody_answers(page: Any) -> None:
    page.locator("#connection", has_text="live").wait_for()
    page.route("**/api/serve/live*", lambda route: route.fulfill(status=500, body=""))
    page.locator("#connection.lost").wait_for()
    page.unroute("**/api/serve/live*")
    page.locator("#connection", has_text="live").wait_for()


def test_nothing_is_loaded_from_elsewhere_and_no_other_page_may_frame_it(quick_collector: None, apps: None) -> None:
    address = serve.status_page(port=0)
    for path in ("/", "/page.js", "/page.css", "/charts.js", "/icon.svg"):
        answer = httpx.get(address + path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in answer.text.replace("http://www.w3.org/", "")
        assert "https://" not in answer.text
    assert "innerHTML" not in httpx.get(f"{address}/page.js").text


def test_the_page_asks_only_for_what_is_new(quick_collector: None, apps: None) -> None:
    serve.run(Model.bind(), name="new", route_prefix=None)
    address = serve.status_page(port=0)

    def points(since: float) -> list[list[float]]:
        live = httpx.get(f"{address}/api/serve/live", params={"since": since}).json()
        found: list[list[float]] = live["applications"][0]["deployments"][0]["points"]
        return found

    eventually(lambda: len(points(0)) > 2, timeout=30)
    known = points(0)
    assert all(point[0] > known[1][0] for point in points(known[1][0]))
    assert points(known[-1][0] + 3600) == []
