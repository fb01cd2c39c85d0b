"""The REST API: config files, scaling, revisions, rollback, and what it refuses."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import serve
from tests.eventually import eventually
from tests.serve.commands import CODE
from tests.serve.conftest import url

APPLICATIONS = "/api/serve/applications/"
# replicas start one after the other, which takes its time on a busy machine
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def rest(apps: None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve.status_page(port=0), timeout=120) as client:
        yield client


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "rest_sample.py").write_text(CODE)
    return tmp_path


def application(directory: Path, attribute: str = "app", **fields: Any) -> dict[str, Any]:
    return {"import_path": f"rest_sample:{attribute}", "app_dir": str(directory), **fields}


def put(rest: httpx.Client, *apps: dict[str, Any], **params: Any) -> Any:
    response = rest.put(APPLICATIONS, json={"applications": list(apps)}, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["detail"])


def state(rest: httpx.Client, name: str, revision: int) -> dict[str, str]:
    path = f"/api/v1/applications/{name}/revisions/{revision}"

    def decided() -> dict[str, str] | None:
        found: dict[str, str] = rest.get(path, params={"timeout_s": 30}).json()
        return None if found.get("state") == "DEPLOYING" else found

    return eventually(decided, timeout=120)


def deploy(rest: httpx.Client, *apps: dict[str, Any]) -> None:
    for name, revision in put(rest, *apps)["revisions"].items():
        assert state(rest, name, revision) == {"state": "RUNNING", "message": ""}


def test_who_answers(rest: httpx.Client) -> None:
    found = rest.get("/api/ray/version").json()
    assert found["ray_version"] == serve.__version__
    assert found["session_name"].startswith("session")
    assert rest.get("/-/healthz").text == "success"


def test_a_config_is_exactly_what_runs_of_configs(rest: httpx.Client, directory: Path) -> None:
    @serve.deployment
    class Mine:
        def __call__(self) -> str:
            return "mine"

    serve.run(Mine.bind(), name="mine", route_prefix="/mine")
    one = application(directory, name="one", deployments=[{"name": "Hello", "max_ongoing_requests": 3}])
    two = application(directory, "build", name="two", route_prefix="/two", args={"times": "2"})
    deploy(rest, one, two)
    assert httpx.get(url("/")).text == "hello"
    assert httpx.get(url("/two")).text == "hellohello"

    found = rest.get(APPLICATIONS).json()["applications"]
    assert {name: app["source"] for name, app in found.items()} == {
        "mine": "imperative",
        "one": "declarative",
        "two": "declarative",
    }
    assert found["one"]["deployed_app_config"] == one
    hello = found["one"]["deployments"]["Hello"]
    assert (hello["status"], hello["deployment_config"]["max_ongoing_requests"]) == ("HEALTHY", 3)
    assert [replica["state"] for replica in hello["replicas"]] == ["RUNNING"]

    changes = put(rest, two)["changes"]
    assert {name: change["change"] for name, change in changes.items()} == {"two": "unchanged", "one": "deleted"}
    eventually(lambda: set(serve.status().applications) == {"two", "mine"}, timeout=120)
    assert httpx.get(url("/mine")).text == "mine"
    assert serve.status().applications["two"].revision == 1


def test_what_would_change_is_told_without_a_change(rest: httpx.Client, directory: Path) -> None:
    deploy(rest, application(directory, name="app"))
    options = [{"name": "Hello", "user_config": None, "max_queued_requests": 5}]
    found = put(rest, application(directory, name="app", deployments=options), dry_run=True)
    assert found["changes"]["app"] == {
        "change": "updated",
        "deployments": {"Hello": {"change": "reconfigured", "options": ["max_queued_requests"]}},
    }
    assert found["revisions"] == {}
    assert len(rest.get("/api/v1/applications/app/revisions").json()) == 1


def test_changed_code_restarts_and_a_rollback_brings_the_old_code_back(rest: httpx.Client, directory: Path) -> None:
    deploy(rest, application(directory, name="app"))
    (directory / "rest_sample.py").write_text(CODE.replace('"hello"', '"moin"'))
    found = put(rest, application(directory, name="app"), dry_run=True)
    assert found["changes"]["app"]["deployments"]["Hello"] == {"change": "restarted", "options": ["code"]}
    deploy(rest, application(directory, name="app"))
    assert httpx.get(url("/")).text == "moin"
    assert rest.post("/api/v1/applications/app/rollback").json() == {"name": "app", "revision": 3}
    assert state(rest, "app", 3)["state"] == "RUNNING"
    eventually(lambda: httpx.get(url("/")).text == "hello", timeout=120)
    revisions = rest.get("/api/v1/applications/app/revisions").json()
    assert [(each["revision"], each["current"]) for each in revisions] == [(3, True), (2, False), (1, False)]
    assert rest.post("/api/v1/applications/app/rollback", json={"revision": 2}).json()["revision"] == 4
    assert state(rest, "app", 4)["state"] == "RUNNING"
    eventually(lambda: httpx.get(url("/")).text == "moin", timeout=120)


def test_an_application_has_its_environment_until_it_is_deleted(rest: httpx.Client, directory: Path) -> None:
    environment = {"working_dir": str(directory), "env_vars": {"PLACE": "here"}}
    deploy(rest, {"import_path": "rest_sample:place", "name": "app", "runtime_env": environment})
    assert httpx.get(url("/")).text == "here"
    assert rest.delete("/api/v1/applications/app").json() == {"deleted": ["app"]}
    assert serve.status().applications == {}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("fail", {}, "KeyError: 'no such model'"),
    ("crash", {}, "ended the process that imported it"),
    ("none", {}, "has no attribute 'none'"),
    ("build", {"args": {"times": "x"}}, "times: Input should be a valid integer"),
    ("app", {"deployments": [{"name": "Helo"}]}, "has no deployment 'Helo'; did you mean Hello?"),
    ("app", {"app_dir": "/nowhere"}, "working_dir"),
    ("app", {"route_prefix": "/taken"}, "belongs to application 'other'"),
]


def test_what_cannot_be_deployed_changes_nothing(rest: httpx.Client, directory: Path) -> None:
    @serve.deployment
    class Other:
        def __call__(self) -> str:
            return "other"

    serve.run(Other.bind(), name="other", route_prefix="/taken")
    before = serve.status()
    fine = application(directory, name="fine", route_prefix="/fine")
    for attribute, fields, said in WRONG:
        body = {"applications": [fine, {**application(directory, attribute, name="wrong"), **fields}]}
        assert said in refused(rest.put(APPLICATIONS, json=body))
    assert serve.status() == before


def test_what_cannot_start_leaves_the_old_one(rest: httpx.Client, directory: Path) -> None:
    deploy(rest, application(directory, name="app"))
    assert put(rest, application(directory, "broken", name="app"))["revisions"] == {"app": 2}
    found = state(rest, "app", 2)
    assert found["state"] == "DEPLOY_FAILED"
    assert "disk on fire" in found["message"]
    assert httpx.get(url("/")).text == "hello"
    assert state(rest, "app", 1)["state"] == "RUNNING"


def test_a_wrong_config_is_answered_with_all_that_is_wrong(rest: httpx.Client) -> None:
    apps = [{"import_path": "a:b", "nam": "x"}, {"name": "y", "route_prefix": "/y"}]
    body = {"applications": apps, "max_surge_percent": 1}
    response = rest.put(APPLICATIONS, json=body)
    assert "did you mean name?" in refused(response)
    assert [problem["location"] for problem in response.json()["problems"]] == [
        "applications[0].nam",
        "applications[1]",
        "max_surge_percent",
    ]


def test_yaml_is_as_good_as_json(rest: httpx.Client) -> None:
    content = {"content": "applications: []\ntracing_config: {}\n", "headers": {"content-type": "application/yaml"}}
    found = rest.put(APPLICATIONS, **content).json()
    assert found["changes"] == {}
    assert "tracing_config: has no effect" in found["warnings"][0]
    assert "application/json" in refused(rest.put(APPLICATIONS, content="applications: []"))


def test_a_body_beyond_all_measure_is_refused(rest: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    assert "no config" in refused(rest.put(APPLICATIONS, content=b" " * 11_000_000, headers=headers), 413)


def test_options_that_come_too_late_are_named(rest: httpx.Client) -> None:
    found = rest.put(APPLICATIONS, json={"applications": [], "http_options": {"root_path": "/x", "port": 0}}).json()
    (warning,) = found["warnings"]
    assert warning.startswith("http_options.root_path stays ''")


def test_the_number_of_replicas(rest: httpx.Client, directory: Path) -> None:
    deploy(rest, application(directory, name="app"))
    path = "/api/v1/applications/app/deployments/Hello/scale"
    assert rest.post(path, json={"target_num_replicas": 2}).status_code == 200

    def replicas() -> Any:
        return rest.get(APPLICATIONS).json()["applications"]["app"]["deployments"]["Hello"]["replica_states"]

    eventually(lambda: replicas() == {"RUNNING": 2}, timeout=120)
    assert "greater than or equal to 0" in refused(rest.post(path, json={"target_num_replicas": -1}))
    assert "no deployment 'Bye'" in refused(
        rest.post(path.replace("Hello", "Bye"), json={"target_num_replicas": 1}), 404
    )


def test_two_revisions_share_the_requests(rest: httpx.Client, directory: Path) -> None:
    deploy(rest, application(directory, name="app"))
    deploy(rest, application(directory, "build", name="app", args={"times": 2}))
    path = "/api/v1/applications/app/traffic"
    assert [each["revision"] for each in rest.put(path, json={"weights": {"2": 3, "1": 1}}).json()] == [2, 1]

    def shares() -> list[tuple[int, float]]:
        traffic = rest.get(APPLICATIONS).json()["applications"]["app"]["traffic"]
        return [(each["revision"], each["weight"]) for each in traffic]

    eventually(lambda: shares() == [(2, 0.75), (1, 0.25)], timeout=120)  # once both run
    eventually(lambda: {httpx.get(url("/")).text for _ in range(20)} == {"hello", "hellohello"}, timeout=120)
    assert rest.post("/api/v1/applications/app/promote").json()["revision"] == 1
    eventually(lambda: {httpx.get(url("/")).text for _ in range(20)} == {"hello"}, timeout=120)
    assert "no revision 9" in refused(rest.put(path, json={"weights": {"9": 1}}))


def test_a_config_may_come_as_a_canary(rest: httpx.Client, directory: Path) -> None:
    old, new = (application(directory, "build", name="app", args={"times": times}) for times in (1, 2))
    deploy(rest, old)
    assert put(rest, new, canary=0.5)["revisions"] == {"app": 2}
    assert state(rest, "app", 2)["state"] == "RUNNING"
    eventually(lambda: {httpx.get(url("/")).text for _ in range(20)} == {"hello", "hellohello"}, timeout=120)
    assert put(rest, old)["changes"]["app"]["change"] == "unchanged"
    assert serve.status().applications["app"].traffic == ()
    eventually(lambda: {httpx.get(url("/")).text for _ in range(20)} == {"hello"}, timeout=120)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "revisions"),
        ("GET", "revisions/1"),
        ("POST", "rollback"),
        ("POST", "promote"),
        ("DELETE", ""),
    ],
)
def test_an_application_that_is_not_there(rest: httpx.Client, method: str, path: str) -> None:
    response = rest.request(method, f"/api/v1/applications/none/{path}".rstrip("/"))
    assert "there is no application 'none'" in refused(response, 404)


def test_configs_at_the_same_time_are_carried_out_one_after_the_other(rest: httpx.Client, directory: Path) -> None:
    results: list[dict[str, int]] = []
    apps = [application(directory, "build", name="app", args={"times": times}) for times in (1, 2)]
    threads = [threading.Thread(target=lambda app=app: results.append(put(rest, app)["revisions"])) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["app"] for result in results) == [1, 2]
    assert state(rest, "app", 2)["state"] == "RUNNING"


def test_pages_of_others_cannot_deploy(rest: httpx.Client) -> None:
    body = {"applications": []}
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert refused(rest.put(APPLICATIONS, json=body, headers=headers), 403)
    assert rest.put(APPLICATIONS, json=body, headers={"origin": str(rest.base_url).rstrip("/")}).status_code == 200


def test_the_api_describes_itself(rest: httpx.Client) -> None:
    described = rest.get("/api/openapi.json").json()
    assert set(described["paths"][APPLICATIONS]) == {"get", "put", "delete"}
    schemas = described["components"]["schemas"]
    references = set(re.findall(r"#/components/schemas/(\w+)", str(described)))
    assert references <= set(schemas)
    assert "num_replicas" in schemas["DeploymentSchema"]["properties"]
