"""Serve in the background, and the commands that talk to it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from tests.eventually import eventually
from tests.serve import commands
from tests.serve.commands import CODE, Background, failed, succeeded

# many processes start one after the other, which takes its time on a busy machine
pytestmark = pytest.mark.timeout(300)

CONFIG = """\
http_options: {port: 0}
applications:
  - name: app
    import_path: deploy_sample:build
    args: {times: 1}
    deployments:
      - name: Hello
        num_replicas: 1
"""


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Background]:
    (tmp_path / "deploy_sample.py").write_text(CODE)
    (tmp_path / "app.yaml").write_text(CONFIG)
    background = Background(tmp_path)
    try:
        yield background
    finally:
        background.end()


def edit(background: Background, before: str, after: str, file: str = "app.yaml") -> None:
    path = background.directory / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def answer(background: Background) -> str:
    port = httpx.get(f"{background.address}/api/serve/applications/").json()["http_options"]["port"]
    return httpx.get(f"http://127.0.0.1:{port}/").text


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def kill_the_controller(background: Background) -> None:
    def controller() -> int:
        try:
            return int(httpx.get(f"{background.address}/api/ray/version", timeout=30).json()["controller_pid"])
        except httpx.HTTPError:
            return 0

    pid = controller()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: controller() not in {0, pid}, timeout=120, what="another controller takes over")


def session_of(done: str) -> Path:
    log = Path(done.partition("log in ")[2].partition("\n")[0].rstrip("."))
    assert log.name == "serve.log"
    return log.parent


def test_the_life_of_a_config_file(background: Background) -> None:
    assert "Serve does not run" in failed(background.serve("status"))
    shown = succeeded(background.serve("deploy", "app.yaml", "--dry-run", "--diff"))
    assert "Nothing runs at" in shown
    assert "+  import_path: deploy_sample:build" in shown
    assert "Application app: would be created" in shown

    first = succeeded(background.serve("deploy", "app.yaml", "--wait"))
    assert "Serve runs in the background" in first
    assert "Application app runs: revision 1." in first
    assert answer(background) == "hello"
    processes = family(background.pid)

    edit(background, "times: 1", "times: 2")
    kill_the_controller(background)
    shown = succeeded(background.serve("deploy", "app.yaml", "--diff", "--wait"))
    assert "-    times: 1\n+    times: 2\n" in shown
    assert "  Hello: restarted (code)" in shown
    assert answer(background) == "hellohello"

    edit(background, "import_path: deploy_sample:build\n    args: {times: 2}", "import_path: deploy_sample:broken")
    edit(background, "name: Hello", "name: Broken")
    complaint = failed(background.serve("deploy", "app.yaml", "--wait"))
    assert complaint.startswith("serve deploy: application 'app' cannot be deployed; revision 2 goes on.")
    assert "OSError: disk on fire" in complaint
    assert answer(background) == "hellohello"

    status = yaml.safe_load(succeeded(background.serve("status", "--name", "app")))
    assert (status["status"], status["revision"]) == ("RUNNING", 2)
    assert "disk on fire" in status["message"]
    assert json.loads(succeeded(background.serve("status", "--json")))["applications"]["app"]["revision"] == 2
    assert yaml.safe_load(succeeded(background.serve("config")))["applications"][0]["args"] == {"times": 2}

    assert "revision 4" in succeeded(background.serve("rollback", "app", "--wait"))
    assert answer(background) == "hello"
    history = succeeded(background.serve("history", "app")).splitlines()
    assert [line.split()[0] for line in history] == ["revision", "4", "3", "2", "1"]

    assert "confirm with --yes" in failed(background.serve("shutdown"))
    session = session_of(first)
    assert session.is_dir()
    assert succeeded(background.serve("shutdown", "-y")) == "Serve has ended.\n"
    eventually(lambda: gone(processes), timeout=120)
    assert not session.exists()


def test_what_the_commands_say_when_they_fail(background: Background) -> None:
    (background.directory / "wrong.yaml").write_text("applications:\n  - import_path: a:b\n    nam: c\n")
    complaint = failed(background.serve("deploy", "wrong.yaml"))
    assert "wrong.yaml:3:5: applications[0].nam: there is no such option; did you mean name?" in complaint
    assert background.pid == 0, "a wrong file starts nothing"

    port = background.address.rpartition(":")[2]
    started = succeeded(background.serve("start", "--http-port", "0", "--admin-port", port))
    processes = family(background.pid)
    assert "Serve runs already" in succeeded(background.serve("start", "--admin-port", port))

    edit(background, "deploy_sample:build", "deploy_sample:fail")
    complaint = failed(background.serve("deploy", "app.yaml"))
    assert "KeyError: 'no such model'" in complaint
    assert "deploy_sample.py" in complaint
    for command in ("delete", "rollback", "history", "promote"):
        assert "there is no application 'none'" in failed(background.serve(command, "none"))
    assert "there is no application 'none'" in failed(background.serve("status", "-n", "none"))
    assert "expected REVISION=SHARE" in failed(background.serve("traffic", "none", "much"))

    os.kill(background.pid, signal.SIGKILL)
    eventually(lambda: gone(processes), timeout=120, what="the death of the process that holds Serve ends all of it")
    session = session_of(started)
    eventually(lambda: not session.exists(), timeout=120)


def test_a_taken_port_is_a_clear_message(background: Background) -> None:
    with commands.listening() as port:
        complaint = failed(background.serve("start", "--admin-port", str(port)))
    assert f"127.0.0.1:{port} is no Serve" in complaint
