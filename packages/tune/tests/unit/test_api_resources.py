"""What a trial needs, as people write it."""

from __future__ import annotations

import pytest

from tune.api.resources import PlacementGroupFactory, resource_request
from tune.trial import ResourceRequest


def test_a_dict_in_rays_spellings() -> None:
    request = resource_request({"cpu": 2, "gpu": 0.5, "memory": 1e9, "custom_resources": {"tpu": 1}, "other": 3})
    assert request.bundles == ({"CPU": 2.0, "GPU": 0.5, "memory": 1e9, "tpu": 1.0, "other": 3.0},)
    assert request.strategy == "PACK"


def test_nothing_is_asked_for_by_zero() -> None:
    assert resource_request({"cpu": 0, "GPU": 0}).bundles == ({},)


def test_bundles() -> None:
    factory = PlacementGroupFactory([{}, {"CPU": 2}, {"CPU": 2}], strategy="SPREAD")
    assert factory.head_bundle_is_empty
    assert factory.head_cpus == 0
    assert factory.required_resources == {"CPU": 4.0}
    assert resource_request(factory) == ResourceRequest(({}, {"CPU": 2.0}, {"CPU": 2.0}), "SPREAD")
    assert factory == PlacementGroupFactory([{}, {"cpu": 2}, {"cpu": 2}], "SPREAD")
    assert len({factory, PlacementGroupFactory([{}, {"CPU": 2}, {"CPU": 2}], "SPREAD")}) == 1
    assert "SPREAD" in repr(factory)


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda: resource_request(3), "resources must be a dict"),
        (lambda: resource_request({"cpu": -1}), "'cpu'"),
        (lambda: resource_request({"cpu": "2"}), "'cpu'"),
        (lambda: resource_request({1: 2}), "named by strings"),
        (lambda: resource_request({"custom_resources": 1}), "bundle"),
        (lambda: PlacementGroupFactory([]), "at least one"),
        (lambda: PlacementGroupFactory({"CPU": 1}), "list of dicts"),
        (lambda: PlacementGroupFactory([{"CPU": 1}], "PAKC"), "Did you mean 'PACK'"),
    ],
)
def test_mistakes(make, say) -> None:
    with pytest.raises((TypeError, ValueError), match=say):
        make()
