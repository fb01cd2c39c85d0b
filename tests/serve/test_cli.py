"""The command ``serve run``, as people start it, and the commands that need no running Serve."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from tests.eventually import eventually
from tests.serve.commands import CODE, address_in, failed, in_foreground, serve, succeeded

# many processes start one after the other, which takes its time on a busy machine
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "cli_sample.py").write_text(CODE)
    return tmp_path


def test_it_serves_with_few_processes_until_interrupted(directory: Path) -> None:
    with in_foreground(directory, "cli_sample:app") as process:
        assert process.stdout is not None
        assert httpx.get(address_in(process.stdout.readline())).text == "hello"
        everybody = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        spare = psutil.cpu_count() or 1  # workers that core keeps ready for tasks
        assert len(everybody) <= 4 + spare  # driver with controller, daemon, zygote, replica
        admin = address_in(process.stdout.readline())
        assert "cli_sample:app" not in httpx.get(f"{admin}/api/ray/version").text
    assert process.returncode == 0
    assert not any(psutil.pid_exists(pid) for pid in everybody)


def test_arguments_build_the_application_and_an_operator_ends_it(directory: Path) -> None:
    with in_foreground(directory, "cli_sample:build", "times=3") as process:
        assert process.stdout is not None
        assert httpx.get(address_in(process.stdout.readline())).text == "hellohellohello"
        admin = address_in(process.stdout.readline())
        assert "Serve has ended." in succeeded(serve(directory, "shutdown", "--yes", "--address", admin))
        assert process.wait(120) == 0


def test_a_source_file_that_changes_is_deployed_again_at_the_same_port(directory: Path) -> None:
    (directory / "cli_words.py").write_text("GREETING = 'moin'\n")
    source = directory / "cli_sample.py"
    source.write_text(f"from cli_words import GREETING\n{CODE}".replace("return self.greeting", "return GREETING"))
    with in_foreground(directory, "cli_sample:app", "--reload") as process:
        assert process.stdout is not None
        address = address_in(process.stdout.readline())
        assert httpx.get(address).text == "moin"
        # of a module that the application's module imports
        (directory / "cli_words.py").write_text("GREETING = 1 / 0\n")
        assert process.stderr is not None
        eventually(lambda: "ZeroDivisionError" in (process.stderr.readline() if process.stderr else ""), timeout=120)
        assert httpx.get(address).text == "moin"
        (directory / "cli_words.py").write_text("GREETING = 'tach'\n")
        eventually(lambda: httpx.get(address).text == "tach", timeout=120)
    assert process.returncode == 0


def test_a_config_file_in_the_foreground(directory: Path) -> None:
    (directory / "app.yaml").write_text(
        "http_options: {root_path: /x}\n"
        "applications:\n"
        "- {name: a, route_prefix: /a, import_path: 'cli_sample:app'}\n"
        "- {name: b, route_prefix: /b, import_path: 'cli_sample:place', runtime_env: {env_vars: {PLACE: here}}}\n"
    )
    with in_foreground(directory, "app.yaml") as process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        assert (first.split()[0], second.split()[0]) == ("a", "b")
        assert httpx.get(f"{address_in(first)}/a").text == "hello"
        assert httpx.get(f"{address_in(second)}/b").text == "here"
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cli_sample:nothing"], "module 'cli_sample' has no attribute 'nothing'"),
        (["nowhere_at_all:app"], "No module named 'nowhere_at_all'"),
        (["cli_sample:build", "three"], "expected key=value, not 'three'"),
        (["none.yaml"], "No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_clear_line(directory: Path, arguments: list[str], message: str) -> None:
    complaint = failed(serve(directory, "run", *arguments, "--port", "0"))
    assert complaint.startswith("serve run: ")
    assert message in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "build"])
def test_an_error_in_the_code_is_shown_where_it_stands(directory: Path, command: str) -> None:
    complaint = failed(serve(directory, command, "cli_sample:fail"))
    assert complaint.startswith(f"serve {command}: cli_sample:fail cannot be imported: its code raised an error.")
    assert complaint.endswith("KeyError: 'no such model'\n")
    assert complaint.count("File ") == 1


def test_a_config_is_built_from_code_and_fits_its_schema(directory: Path) -> None:
    (directory / "more_sample.py").write_text(
        "import serve\n\n"
        "@serve.deployment(num_replicas='auto', max_ongoing_requests=7, user_config={'a': [1]})\n"
        "class Model:\n    pass\n\n"
        "@serve.deployment\nclass Front:\n    def __init__(self, model):\n        pass\n\n"
        "app = Front.bind(Model.bind())\n"
    )
    succeeded(serve(directory, "build", "more_sample:app", "cli_sample:place", "-o", "built.yaml"))
    first, second = yaml.safe_load((directory / "built.yaml").read_text())["applications"]
    assert (first["name"], first["route_prefix"], second["route_prefix"]) == ("app1", "/app1", "/app2")
    model = next(each for each in first["deployments"] if each["name"] == "Model")
    assert (model["num_replicas"], model["max_ongoing_requests"], model["user_config"]) == ("auto", 7, {"a": [1]})
    assert {"name": "Front", "num_replicas": 1} in first["deployments"]
    schema = json.loads(succeeded(serve(directory, "schema")))
    assert set(first) <= set(schema["$defs"]["ServeApplicationSchema"]["properties"])
    assert set(model) <= set(schema["$defs"]["DeploymentSchema"]["properties"])
