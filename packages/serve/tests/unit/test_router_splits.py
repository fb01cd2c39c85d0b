"""The router while two revisions share requests, and when a deployment has no replica at all."""

from __future__ import annotations

import msgspec
import pytest

from serve.context import RequestContext
from serve.errors import DeploymentUnavailableError
from serve.handle import traffic
from serve.handle.router import Router, Wish
from serve.specs import DeploymentID, ReplicaInfo, RequestMeta, Split, Targets

A = DeploymentID("a")
B = DeploymentID("b")


def replica(name: str, deployment: DeploymentID, version: str) -> ReplicaInfo:
    return ReplicaInfo(name, deployment, version, name, "", 0, "", 1)


def targets(number: int, *replicas: ReplicaInfo, shared: bool = True, **config: object) -> Targets:
    found: dict[str, tuple[ReplicaInfo, ...]] = {str(A): (), str(B): ()}
    for each in replicas:
        found[str(each.deployment)] += (each,)
    splits = (
        Split(1, A, "a1", 0.5, versions={"a": "a1", "b": "b1"}),
        Split(2, A, "a2", 0.5, ("x-beta", "1"), versions={"a": "a2", "b": "b2"}),
    )
    return Targets(number, (), found, {str(A): config, str(B): config}, {"default": splits} if shared else {})


def test_a_request_of_a_revision_gets_a_replica_of_it_alone() -> None:
    router = Router(seed=1)
    router.update(targets(1, replica("r1", A, "a1"), replica("r2", A, "a2")))
    for _ in range(10):
        chosen = router.try_acquire(Wish(A, "a2"))
        assert chosen is not None
        assert chosen.replica_id == "r2"
        assert router.try_acquire(Wish(A, "a2")) is None
        router.release(chosen)


def test_nobody_waits_for_a_revision_that_was_taken_out() -> None:
    router = Router(seed=1)
    router.update(targets(1, replica("r1", A, "a1")))
    served: list[ReplicaInfo | None] = []
    router.enqueue(Wish(A, "a2"), served.append)
    assert served == []
    router.update(targets(2, replica("r1", A, "a1"), shared=False))
    assert [each.replica_id for each in served if each is not None] == ["r1"]


def test_a_request_that_waits_for_one_revision_holds_the_other_ones_up_no_longer_than_it_must() -> None:
    router = Router(seed=1)
    router.update(targets(1, replica("r1", A, "a1")))
    second: list[ReplicaInfo | None] = []
    first: list[ReplicaInfo | None] = []
    router.enqueue(Wish(A, "a2"), second.append)
    router.enqueue(Wish(A, "a1"), first.append)
    assert len(first) == 1
    assert not second


def test_a_deployment_without_replicas_is_named_once_for_each_publication() -> None:
    woken: list[DeploymentID] = []
    router = Router(starved=woken.append)
    router.update(targets(1, scales=True))
    for _ in range(3):
        router.enqueue(Wish(A), lambda _: None)
    assert woken == [A]
    router.update(targets(2, scales=True))
    router.enqueue(Wish(A), lambda _: None)
    assert woken == [A, A]
    router.update(targets(3, replica("r1", B, "b1"), scales=True))
    router.enqueue(Wish(B), lambda _: None)
    assert woken == [A, A]
    fixed = Router(starved=woken.append)
    fixed.update(targets(1, scales=False))
    fixed.enqueue(Wish(A), lambda _: None)
    assert woken == [A, A]


def test_nobody_waits_for_what_cannot_start() -> None:
    router = Router()
    router.update(targets(1))
    served: list[ReplicaInfo | None] = []
    router.enqueue(Wish(A), served.append)
    router.update(targets(2, unavailable="deployment default#a cannot start"))
    assert served == [None]
    with pytest.raises(DeploymentUnavailableError, match="cannot start"):
        router.enqueue(Wish(A), served.append)


# -- calls through handles --------------------------------------------------------------------------------------------


def directed(
    deployment: DeploymentID, context: RequestContext, published: Targets | None = None, **options: object
) -> tuple[Wish, RequestMeta]:
    meta = msgspec.structs.replace(RequestMeta("id"), **options)
    return traffic.direct(Wish(deployment), meta, published or targets(1), context), meta


def test_a_call_from_outside_goes_by_the_weights_and_notes_its_revision() -> None:
    seen = {(wish.version, meta.revision) for wish, meta in (directed(A, RequestContext()) for _ in range(100))}
    assert seen == {("a1", 1), ("a2", 2)}


def test_a_session_always_gets_the_same_revision() -> None:
    for number in range(20):
        assert len({directed(A, RequestContext(), session_id=f"s{number}")[0].version for _ in range(5)}) == 1


@pytest.mark.parametrize(("revision", "version"), [(1, "b1"), (2, "b2")])
def test_a_call_inside_stays_in_its_revision(revision: int, version: str) -> None:
    for _ in range(20):
        wish, meta = directed(B, RequestContext(app_name="default", revision=revision))
        assert (wish.version, meta.revision) == (version, revision)


def test_a_call_of_another_application_is_from_outside() -> None:
    seen = {directed(A, RequestContext(app_name="other", revision=2))[0].version for _ in range(100)}
    assert seen == {"a1", "a2"}


def test_a_revision_can_be_asked_for_and_one_that_is_gone_is_no_error() -> None:
    assert {directed(A, RequestContext(), revision=2)[0].version for _ in range(20)} == {"a2"}
    assert {directed(A, RequestContext(), revision=9)[0].version for _ in range(100)} == {"a1", "a2"}
    wish, meta = directed(A, RequestContext(), targets(1, shared=False), revision=2)
    assert wish.version is None
    assert meta.revision == 2
    headers = RequestContext(app_name="other", headers={"x-beta": "1"})
    assert {directed(A, headers)[0].version for _ in range(20)} == {"a2"}


def test_an_ingress_of_another_name_is_followed() -> None:
    splits = (Split(1, A, "a1", 0.0, versions={"a": "a1"}), Split(2, B, "b2", 1.0, versions={"b": "b2"}))
    published = Targets(1, (), {}, {}, {"default": splits})
    wish, _ = directed(A, RequestContext(), published)
    assert (wish.deployment, wish.version) == (B, "b2")
