"""The report of a real sweep in a real browser: drawn, sortable, readable in the dark, calling nobody."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tune
from tune.html_report import HtmlReportCallback

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
    "--virtual-time-budget=20000",
)

#: What a reader does, and what they see then; the page itself is as the sweep wrote it.
READER = """
<script>
window.addEventListener("load", () => {
  const seen = {};
  const all = (selector) => [...document.querySelectorAll(selector)];
  const texts = (selector) => all(selector).map((each) => each.textContent);
  const rows = () => all("#trials tbody tr:not(.error)").map((row) => row.cells[0].textContent);
  const press = (title) => all("#trials th button").find((each) => each.textContent === title).click();
  seen.headings = texts("h1, h2");
  seen.drawn = all(".plot").filter((plot) => plot.querySelector("svg.main-svg")).map((plot) => plot.id);
  seen.labelled = all(".plot").every((plot) => plot.getAttribute("aria-label"));
  seen.best = rows();
  press("#");
  seen.ascending = rows();
  press("#");
  seen.descending = rows();
  seen.sorted = all("#trials th[aria-sort]").map((each) => [each.textContent, each.getAttribute("aria-sort")]);
  const filter = document.getElementById("filter");
  filter.value = "odd one";
  filter.dispatchEvent(new Event("input"));
  seen.filtered = rows();
  seen.traceback = texts("#trials pre");
  seen.caption = document.getElementById("shown").textContent;
  seen.bold = all("#trials td b, h1 b").length;
  seen.background = getComputedStyle(document.body).backgroundColor;
  const loaded = performance.getEntriesByType("resource").map((each) => each.name);
  seen.resources = loaded.filter((name) => !name.startsWith("data:"));
  document.body.dataset.seen = JSON.stringify(seen);
});
</script>
"""


def objective(config: dict[str, Any]) -> None:
    if config["index"] == 7:
        raise ValueError("the odd one <b>out</b>")
    for step in range(1, 6):
        tune.report({"loss": config["index"] + 1 / step, "size": 10.0 - config["index"]})


class Watcher(tune.Callback):
    """Sees which pages there are while the sweep runs."""

    def __init__(self) -> None:
        self.running: list[bool] = []
        self.path = Path()

    def setup(self, *args: Any, **info: Any) -> None:
        self.path = Path(info["experiment_path"], "report.html")

    def on_step_end(self, *args: Any, **info: Any) -> None:
        if self.path.exists():
            self.running.append(embedded(self.path)["running"])


def embedded(path: Path) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    assert match
    data: dict[str, Any] = json.loads(match[1])
    return data


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Watcher]:
    """A sweep of ten trials, one of which fails, and who watched it."""
    import core

    watcher = Watcher()
    core.init(num_cpus=2)
    try:
        analysis = tune.run(
            objective,
            name="digits <b>sweep",
            config={"index": tune.grid_search(list(range(10))), "lr": tune.loguniform(1e-5, 1e-1)},
            metric=["loss", "size"],
            mode=["min", "min"],
            storage_path=str(tmp_path_factory.mktemp("results")),
            callbacks=[HtmlReportCallback(pause=0), watcher],
            raise_on_failed_trial=False,
            verbose=0,
        )
    finally:
        core.shutdown()
    return Path(analysis.experiment_path, "report.html"), watcher


def test_the_page_is_there_while_the_sweep_runs_and_finished_afterwards(sweep: tuple[Path, Watcher]) -> None:
    path, watcher = sweep
    assert True in watcher.running
    data = embedded(path)
    assert data["running"] is False
    assert len(data["table"]["rows"]) == 10
    assert set(data["figures"]) == {"history", "pareto", "curves", "importance", "parallel"}


class Body(HTMLParser):
    """The attributes of the body."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self.attributes = dict(attrs)


def read_in_browser(path: Path, directory: Path, *flags: str) -> dict[str, Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    page = directory / "page.html"
    page.write_text(path.read_text().replace("</body>", READER + "</body>"))
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={directory / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    body = Body()
    body.feed(done.stdout)
    assert body.attributes.get("data-drawn") == "yes"
    seen: dict[str, Any] = json.loads(body.attributes["data-seen"] or "{}")
    return seen


@pytest.fixture(scope="module")
def seen(sweep: tuple[Path, Watcher], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return read_in_browser(sweep[0], tmp_path_factory.mktemp("browser"))


@pytest.mark.timeout(180)
def test_a_browser_draws_it(seen: dict[str, Any]) -> None:
    assert seen["headings"][0] == "digits <b>sweep"
    assert seen["drawn"] == [f"plot-{name}" for name in ("history", "pareto", "curves", "importance", "parallel")]
    assert seen["labelled"]
    assert seen["resources"] == []
    assert seen["bold"] == 0


@pytest.mark.timeout(180)
def test_a_reader_sorts_filters_and_reads_errors(seen: dict[str, Any]) -> None:
    assert seen["best"] == ["0", "1", "2", "3", "4", "5", "6", "8", "9", "7"]
    assert seen["ascending"] == [str(index) for index in range(10)]
    assert seen["descending"] == seen["ascending"][::-1]
    assert seen["sorted"] == [["#", "descending"]]
    assert seen["filtered"] == ["7"]
    assert "ValueError: the odd one <b>out</b>" in seen["traceback"][0]
    assert seen["caption"] == "1 of 1 trials"


@pytest.mark.timeout(180)
def test_it_is_dark_where_the_reader_wants_it_dark(
    sweep: tuple[Path, Watcher], seen: dict[str, Any], tmp_path: Path
) -> None:
    dark = read_in_browser(sweep[0], tmp_path, "--blink-settings=preferredColorScheme=0")
    brightness = [sum(map(int, re.findall(r"\d+", each["background"]))) for each in (dark, seen)]
    assert brightness[0] < 150 < 600 < brightness[1]
