"""What keeps web pages out of the REST API, and what a deploy says it would change."""

from __future__ import annotations

from typing import Any

import pytest

from serve.admin.guard import Guard
from serve.admin.plan import Change, compare, unchanged_as_they_run
from serve.specs import ApplicationSpec, DeploymentID, DeploymentSpec


def refusal(method: str = "GET", **headers: str) -> str | None:
    guard = Guard(None, "127.0.0.1")  # type: ignore[arg-type]  # nothing gets through to it
    return guard.refusal(method, [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()])


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8265", "localhost:8265", "LOCALHOST", "[::1]:8265", "10.0.0.7:1", "localhost:9999"]
)
def test_this_machine_is_who_it_says(host: str) -> None:
    assert refusal(host=host) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8265", "localhost.evil.example:8265", "", "127.0.0.1.nip.io"]
)
def test_other_names_are_refused(host: str) -> None:
    assert "which is not this server" in str(refusal(host=host))


def test_pages_of_others_are_refused_and_ours_are_not() -> None:
    assert refusal("PUT", host="localhost:8265", origin="http://localhost:8265") is None
    assert refusal("PUT", host="localhost:8265", origin="https://localhost:8265") is None
    for origin in ("http://evil.example", "http://localhost:3000", "null", "http://localhost"):
        assert "sent by a page of" in str(refusal("PUT", host="localhost:8265", origin=origin))
        assert "sent by a page of" in str(refusal("GET", host="localhost:8265", origin=origin))


def test_browsers_that_name_no_origin_still_tell_the_site() -> None:
    assert "another site" in str(refusal("DELETE", host="localhost", sec_fetch_site="cross-site"))
    assert "another site" in str(refusal("POST", host="localhost", sec_fetch_site="same-site"))
    assert refusal("DELETE", host="localhost", sec_fetch_site="same-origin") is None
    assert refusal("GET", host="localhost", sec_fetch_site="cross-site") is None


def deployment(name: str, version: str = "1", blob: bytes = b"", **config: Any) -> DeploymentSpec:
    return DeploymentSpec(DeploymentID(name, "app"), version, blob, config)


def application(*deployments: DeploymentSpec, **fields: Any) -> ApplicationSpec:
    return ApplicationSpec("app", deployments[0].id.name, deployments, **fields)


def test_each_deployment_has_its_own_change() -> None:
    old = application(
        deployment("same", blob=b"drawn by chance"),
        deployment("options", a=1, b=2),
        deployment("code", "1", ray_actor_options={"runtime_env": {"py_modules": ["/copies/1/a.py"]}}),
        deployment("actor", "1", ray_actor_options={"num_cpus": 1}),
        deployment("gone"),
        revision=3,
    )
    new = application(
        deployment("same"),
        deployment("options", a=1, b=3, c=4),
        deployment("code", "2", ray_actor_options={"runtime_env": {"py_modules": ["/copies/2/a.py"]}}),
        deployment("actor", "2", ray_actor_options={"num_cpus": 2}),
        deployment("new"),
    )
    found = compare(old, new)
    assert found.change is Change.UPDATED
    assert {name: (each.change, each.options) for name, each in found.deployments.items()} == {
        "same": (Change.UNCHANGED, []),
        "options": (Change.RECONFIGURED, ["b", "c"]),
        "code": (Change.RESTARTED, ["code"]),
        "actor": (Change.RESTARTED, ["ray_actor_options"]),
        "new": (Change.CREATED, []),
        "gone": (Change.DELETED, []),
    }


def test_applications_come_and_go() -> None:
    spec = application(deployment("a"))
    assert compare(None, spec).change is Change.CREATED
    assert compare(spec, None).change is Change.DELETED
    assert compare(spec, spec).change is Change.UNCHANGED


def test_what_says_nothing_new_is_handed_in_as_it_runs() -> None:
    running = application(deployment("a", blob=b"1"), revision=4, deployed_at=17.0)
    again = application(deployment("a", blob=b"2"))
    other = application(deployment("a", "2"))
    assert unchanged_as_they_run([again], {"app": running}) == [running]
    assert unchanged_as_they_run([other], {"app": running}) == [other]
    assert unchanged_as_they_run([again], {}) == [again]
