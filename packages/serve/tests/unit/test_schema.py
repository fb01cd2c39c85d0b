"""Config files: what is accepted, what is said about mistakes, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.schema import ConfigError, Problem, ServeDeploySchema, check, read, read_file

GOOD = """\
proxy_location: EveryNode
http_options:
  host: 127.0.0.1
  port: 0
grpc_options:
  port: 9001
logging_config:
  encoding: JSON
applications:
  - name: texts
    route_prefix: /texts
    import_path: texts.app:build
    runtime_env:
      working_dir: ./code
      env_vars: {MODE: fast}
    args:
      language: de
    deployments:
      - name: Model
        num_replicas: auto
        autoscaling_config: {min_replicas: 1, max_replicas: 3}
        user_config: {threshold: 0.5}
        ray_actor_options: {num_cpus: 1}
  - name: pictures
    route_prefix: /pictures
    import_path: pictures.app
"""


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as found:
        read(text, "app.yaml")
    return str(found.value)


def app(**fields: Any) -> dict[str, Any]:
    return {"applications": [{"import_path": "a:b", **fields}]}


def test_a_whole_config_is_read() -> None:
    config = read(GOOD).checkup.config
    texts, pictures = config.applications
    assert config.http_options.port == 0
    assert config.grpc_options.port == 9001
    assert texts.args == {"language": "de"}
    assert texts.runtime_env.env_vars == {"MODE": "fast"}
    assert texts.deployments[0].overrides() == {
        "num_replicas": "auto",
        "autoscaling_config": {"min_replicas": 1, "max_replicas": 3},
        "user_config": {"threshold": 0.5},
        "ray_actor_options": {"num_cpus": 1.0},
    }
    assert pictures.route_prefix == "/pictures"
    assert pictures.deployments == []


def test_what_was_written_is_kept_and_nothing_else() -> None:
    config = read(GOOD).checkup.config
    written = config.as_written()
    assert next(iter(written["applications"][0]["deployments"][0])) == "name"
    assert written["applications"][1] == {
        "name": "pictures",
        "route_prefix": "/pictures",
        "import_path": "pictures.app",
    }
    assert check(written).config == config


def test_relative_directories_are_those_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(GOOD)
    config = read_file(file).checkup.config
    assert config.applications[0].runtime_env.working_dir == str(tmp_path / "code")


def test_a_misspelt_option_is_shown_with_what_was_meant() -> None:
    text = "applications:\n  - import_path: a:b\n    deployments:\n      - name: A\n        num_replica: 2\n"
    assert complaint(text) == (
        "app.yaml:5:9: applications[0].deployments[0].num_replica: there is no such option; "
        "did you mean num_replicas?\n"
        "    5 |         num_replica: 2\n"
        "      |         ^^^^^^^^^^^"
    )


def test_an_option_like_no_other_gets_the_list() -> None:
    said = complaint("applications: []\nzebra: 1\n")
    assert said.startswith("app.yaml:2:1: zebra: there is no such option; expected one of applications, grpc_options")


def test_a_wrong_value_is_shown_where_it_stands() -> None:
    said = complaint("applications:\n  - import_path: a:b\n    route_prefix: models\n")
    first, line, mark = said.splitlines()
    assert first.startswith("app.yaml:3:19: applications[0].route_prefix: should begin with '/'")
    assert first.endswith("not 'models'")
    assert line[mark.index("^") :] == "models"
    assert mark.count("^") == len("models")


def test_the_members_of_a_choice_are_one_sentence() -> None:
    said = complaint("applications:\n- import_path: a:b\n  deployments:\n  - {name: A, num_replicas: many}\n")
    assert "num_replicas: should be a valid integer or 'auto', not 'many'" in said
    assert said.count("app.yaml:") == 1


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    said = complaint(
        "proxy_location: Nowhere\n"
        "applications:\n"
        "  - name: a b\n"
        "    import_path: nothing\n"
        "  - name: x\n"
        "    import_path: a:b\n"
        "    route_prefix: /x\n"
        "    deployments:\n"
        "      - name: A\n"
        "        autoscaling_config: {min_replicas: 3, max_replicas: 2}\n"
        "      - name: A\n"
        "  - name: x\n"
        "    import_path: a:b\n"
        "    route_prefix: /x/\n"
        "http_options: {ssl_keyfile: k}\n"
    )
    lines = [line for line in said.splitlines() if line.startswith("app.yaml:")]
    assert [line.split(": ")[0] for line in lines] == [
        "app.yaml:1:17",
        "app.yaml:3:11",
        "app.yaml:4:18",
        "app.yaml:10:29",
        "app.yaml:11:15",
        "app.yaml:12:11",
        "app.yaml:14:19",
        "app.yaml:15:15",
    ]
    assert "'A' is the name of applications[0].deployments[0] already" not in said
    assert "'A' is the name of applications[1].deployments[0] already" in said
    assert "TLS needs both" in lines[-1]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "app.yaml", "the file is empty"),
        ("applications: [", "app.yaml:1:16", "this is no YAML"),
        ("applications:\n\t- a", "app.yaml:2:1", "this is no YAML"),
        ("a: 1\na: 2\n", "app.yaml:2:1", "a is there twice"),
        ("- 1\n", "app.yaml:1:1", "should be a valid dictionary"),
        ("just words", "app.yaml:1:1", "should be a valid dictionary"),
        ("applications: 3\n", "app.yaml:1:15", "should be a valid list"),
        ("http_options: {}\n", "app.yaml:1:1", "applications is missing"),
        ("applications: [{name: a}]\n", "app.yaml:1:16", "import_path is missing"),
        ("!!python/object/apply:os.getcwd []\n", "app.yaml:1:1", "this is no YAML"),
    ],
)
def test_texts_that_are_no_config(text: str, place: str, message: str) -> None:
    said = complaint(text)
    assert said.startswith(f"{place}: ")
    assert message in said


def test_an_environment_is_checked_in_both_places() -> None:
    text = (
        "applications:\n"
        "- import_path: a:b\n"
        "  runtime_env: {env_vars: {PORT: 80}, pip: [numpy]}\n"
        "  deployments:\n"
        "  - name: A\n"
        "    ray_actor_options:\n"
        "      runtime_env: {workingdir: .}\n"
    )
    said = complaint(text)
    assert "applications[0].runtime_env.env_vars.PORT: should be a valid string, not 80" in said
    assert "applications[0].runtime_env.pip: is not supported; install what replicas need" in said
    assert "runtime_env.workingdir: there is no such option; did you mean working_dir?" in said


def test_archives_are_no_working_directories() -> None:
    said = complaint("applications: [{import_path: 'a:b', runtime_env: {working_dir: 's3://x/y.zip'}}]")
    assert "should be a local directory" in said


def test_rays_further_fields_are_left_out_with_a_warning_each() -> None:
    text = (
        "tracing_config: {enabled: true}\n"
        "applications:\n"
        "- import_path: a:b\n"
        "  deployments:\n"
        "  - name: A\n"
        "    max_surge_percent: 20\n"
        "    placement_group_bundles: [{CPU: 1}]\n"
        "    ray_actor_options: {label_selector: {a: b}}\n"
    )
    found = read(text, "app.yaml")
    assert [warning.split(": ")[:2] for warning in found.warnings] == [
        ["app.yaml:1:1", "tracing_config"],
        ["app.yaml:6:5", "applications[0].deployments[0].max_surge_percent"],
        ["app.yaml:7:5", "applications[0].deployments[0].placement_group_bundles"],
        ["app.yaml:8:25", "applications[0].deployments[0].ray_actor_options.label_selector"],
    ]
    assert found.checkup.config.applications[0].deployments[0].overrides() == {"ray_actor_options": {}}


def test_rays_fields_that_would_be_missed_are_errors() -> None:
    text = (
        "target_capacity: 50\n"
        "applications: [{import_path: 'a:b', deployments: [{name: A, gang_scheduling_config: {gang_size: 2}}]}]\n"
    )
    said = complaint(text)
    assert "target_capacity: is not supported" in said
    assert "gang_scheduling_config: is not supported" in said


def test_what_ray_writes_by_default_is_no_error() -> None:
    assert check({"target_capacity": None, **app(autoscaling_policy=None)}).warnings == ()


@pytest.mark.parametrize("prefix", ["/", "/a", "/a/b-c.d", "/a/", None])
def test_routes(prefix: str | None) -> None:
    found = check(app(route_prefix=prefix)).config.applications[0].route_prefix
    assert found == ("/a" if prefix == "/a/" else prefix)


@pytest.mark.parametrize("prefix", ["", "a", "/a b", "/{x}", "//", "/a?b=c", "/a//b", "/a#b"])
def test_texts_that_are_no_routes(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"applications\[0\].route_prefix: should begin with '/'"):
        check(app(route_prefix=prefix))


def test_the_models_alone_refuse_names_that_are_there_twice() -> None:
    with pytest.raises(ValueError, match="is the name of applications"):
        ServeDeploySchema.model_validate({"applications": [{"import_path": "a:b"}, {"import_path": "c:d"}]})


def test_aliases_and_merges_are_understood() -> None:
    text = (
        "applications:\n"
        "- &first {name: a, import_path: 'a:b', route_prefix: /a}\n"
        "- {<<: *first, name: b, route_prefix: /b, wrong: 1}\n"
    )
    assert complaint(text).startswith("app.yaml:3:43: applications[1].wrong: there is no such option")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["applications", "name", "import_path", "deployments", "runtime_env", "http_options", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def problems(data: Any) -> tuple[Problem, ...]:
    try:
        check(data)
    except ConfigError as error:
        return error.problems
    return ()


@given(JSON)
def test_whatever_is_sent_gets_an_answer_in_words(data: Any) -> None:
    found = problems(data)
    assert all(problem.message for problem in found)
    assert found or (isinstance(data, dict) and "applications" in data)


@given(st.text(max_size=60))
def test_whatever_is_written_is_no_config_and_the_answer_begins_with_the_name_of_the_file(text: str) -> None:
    assert complaint(text).startswith("app.yaml")
