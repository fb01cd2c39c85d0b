"""Options of config files over those in the code, and versions that say what has to restart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import serve
from serve.api.build import Settings, build
from serve.specs import ApplicationSpec


@serve.deployment(max_ongoing_requests=7, ray_actor_options={"runtime_env": {"env_vars": {"A": "code", "B": "code"}}})
class Model:
    pass


@serve.deployment
class Front:
    def __init__(self, *models: object) -> None:
        self.models = models


def built(settings: Settings | None = None) -> ApplicationSpec:
    return build(Front.bind(Model.bind(), Model.bind()), "app", "/", settings=settings)


def configs(spec: ApplicationSpec) -> dict[str, dict[str, Any]]:
    return {each.id.name: each.config for each in spec.deployments}


def test_a_file_has_the_last_word_and_the_code_the_first() -> None:
    settings = Settings(options={"Model": {"max_queued_requests": 3}, "Model_1": {"max_ongoing_requests": 9}})
    found = configs(built(settings))
    assert (found["Model"]["max_ongoing_requests"], found["Model"]["max_queued_requests"]) == (7, 3)
    assert (found["Model_1"]["max_ongoing_requests"], found["Model_1"]["max_queued_requests"]) == (9, -1)


def test_defaults_are_for_those_that_say_nothing() -> None:
    settings = Settings(defaults={"max_ongoing_requests": 50})
    found = configs(built(settings))
    assert found["Model"]["max_ongoing_requests"] == 7
    assert found["Front"]["max_ongoing_requests"] == 50


def test_environments_are_merged() -> None:
    settings = Settings(runtime_env={"working_dir": "/w", "env_vars": {"A": "file", "C": "file"}})
    found = configs(built(settings))
    environment = found["Model"]["ray_actor_options"]["runtime_env"]
    assert environment == {"working_dir": "/w", "env_vars": {"A": "code", "B": "code", "C": "file"}}
    assert found["Front"]["ray_actor_options"]["runtime_env"]["env_vars"] == {"A": "file", "C": "file"}


def test_a_number_of_replicas_ends_autoscaling_of_the_code() -> None:
    scaled = serve.deployment(autoscaling_config={"max_replicas": 4})(type("Scaled", (), {}))
    spec = build(scaled.bind(), "app", None, settings=Settings(options={"Scaled": {"num_replicas": 2}}))
    (config,) = configs(spec).values()
    assert (config["num_replicas"], config["autoscaling_config"]) == (2, None)


def test_options_for_nobody_are_refused() -> None:
    with pytest.raises(ValueError, match=r"application 'app' has no deployment 'Modell'; did you mean Model_?1?\?"):
        built(Settings(options={"Modell": {}}))


def test_only_what_needs_a_restart_changes_the_version() -> None:
    def version(**options: Any) -> str:
        return built(Settings(options={"Front": options})).deployments[-1].version

    assert version(num_replicas=3, user_config={"a": 1}, max_ongoing_requests=4) == version()
    assert version(ray_actor_options={"num_cpus": 1}) != version()


PROGRAM = """
import serve
from serve.api.build import build

@serve.deployment
class Model:
    def __init__(self, names):
        self.names = names

    def __call__(self):
        return len(self.names)

print([each.version for each in build(Model.bind({"a": 1}), "app", "/").deployments])
"""


def test_the_same_code_has_the_same_version_in_every_process(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program)]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second
    program.write_text(PROGRAM.replace("len(self.names)", "1 + len(self.names)"))
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout != first
