"""with_parameters and with_resources, without a session: values are bound, nothing is changed, mistakes are told."""

from __future__ import annotations

import functools
import pickle

import cloudpickle
import pytest

from tune.api.resources import PlacementGroupFactory
from tune.api.wrappers import resources_of, trainable_name, with_parameters, with_resources
from tune.trainable import Trainable


def objective(config, data=None, scale=1):
    return config["x"] + sum(data) * scale


class Model(Trainable):
    def setup(self, config, data=None):
        self.got = (config, data)

    def step(self):
        return {}


def test_a_function_gets_its_parameters() -> None:
    bound = with_parameters(objective, data=[1, 2])
    assert bound({"x": 1}) == 4
    assert with_parameters(bound, scale=10)({"x": 0}) == 30
    assert bound.__name__ == "objective"


def test_a_class_gets_them_in_setup() -> None:
    bound = with_parameters(Model, data=[1])
    model = bound()
    model.setup({"x": 1})
    assert model.got == ({"x": 1}, [1])
    assert issubclass(bound, Model)
    assert bound.__name__ == "Model"
    assert bound is not Model


def test_resources_are_found_again() -> None:
    assert resources_of(objective) is None
    assert resources_of(with_resources(objective, {"cpu": 3})).total == {"CPU": 3.0}
    assert resources_of(with_resources(Model, PlacementGroupFactory([{"CPU": 2}]))).total == {"CPU": 2.0}
    by_config = with_resources(Model, lambda config: {"cpu": config["n"]})
    assert resources_of(by_config)({"n": 5}) == {"cpu": 5}
    assert not hasattr(Model, "_tune_resources")


def test_both_in_either_order() -> None:
    for wrapped in (
        with_parameters(with_resources(objective, {"cpu": 2}), data=[1]),
        with_resources(with_parameters(objective, data=[1]), {"cpu": 2}),
    ):
        assert wrapped({"x": 1}) == 2
        assert resources_of(wrapped).total == {"CPU": 2.0}
    for bound in (
        with_parameters(with_resources(Model, {"cpu": 2}), data=[1]),
        with_resources(with_parameters(Model, data=[1]), {"cpu": 2}),
    ):
        model = bound()
        model.setup({})
        assert model.got == ({}, [1])
        assert resources_of(bound).total == {"CPU": 2.0}


def test_wrapped_trainables_pickle() -> None:
    bound = pickle.loads(cloudpickle.dumps(with_parameters(objective, data=[1, 2])))
    assert bound({"x": 1}) == 4
    model = pickle.loads(
        cloudpickle.dumps(with_resources(with_parameters(Model, data=[7]), lambda config: {"cpu": 1}))
    )()
    model.setup({})
    assert model.got == ({}, [7])


def test_bound_methods_and_partials_are_functions_too() -> None:
    assert with_resources(functools.partial(objective, data=[1]), {"cpu": 1})({"x": 1}) == 2
    assert trainable_name(functools.partial(objective)) == "objective"
    assert trainable_name(lambda config: None) == "lambda"
    assert trainable_name(Model()) == "Model"


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda: with_parameters(3, a=1), "takes a function"),
        (lambda: with_parameters(int, a=1), "takes a function of a config or a tune.Trainable"),
        (lambda: with_parameters(objective, dta=1), "no parameter 'dta'"),
        (lambda: with_parameters(Model, dta=1), "Model.setup takes no parameter 'dta'"),
        (lambda: with_resources(objective, 3), "resources must be"),
        (lambda: with_resources(objective, {"cpu": -1}), "'cpu'"),
    ],
)
def test_mistakes(make, say) -> None:
    with pytest.raises((TypeError, ValueError), match=say):
        make()
