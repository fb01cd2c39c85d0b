"""What type checkers are told of the options is what there is; mistakes at the call site are named there."""

from __future__ import annotations

import socket

import pytest

import serve
from serve.api.options import DeploymentOptions
from serve.config import DeploymentConfig
from serve.http.server import bind


def test_the_options_that_type_checkers_see_are_those_there_are() -> None:
    assert set(DeploymentOptions.__annotations__) == set(DeploymentConfig.model_fields)


@serve.deployment
class Model:
    def __init__(self, size: int = 1) -> None:
        self.size = size

    def predict(self, row: int) -> int:
        return row


@serve.deployment
def function() -> str:
    return ""


class Plain: ...


def test_what_is_no_application_is_refused_with_advice() -> None:
    for given, advice in (
        (Model, r"bind its arguments first: Model\.bind\(\.\.\.\)"),
        (Plain, r"decorate Plain with @serve\.deployment, then pass Plain\.bind"),
        (Plain.__init__, "expected an application"),
        (serve.DeploymentHandle("Model"), "runs already; call it with .remote"),
        (3, "not 3$"),
    ):
        with pytest.raises(TypeError, match=advice):
            serve.run(given, local_testing_mode=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must begin with '/'"):
        serve.run(Model.bind(), route_prefix="model", local_testing_mode=True)


def test_calls_before_it_runs_are_refused_with_advice() -> None:
    with pytest.raises(AttributeError, match=r"does not run yet; serve\.run\(Model\.bind"):
        Model.predict.remote(1)
    with pytest.raises(AttributeError, match="does not run yet"):
        Model.remote(1)
    with pytest.raises(AttributeError, match=r"does not run yet.*serve\.run\(app\)"):
        Model.bind().predict.remote(1)
    with pytest.raises(AttributeError, match="has no attribute 'predicted'"):
        _ = Model.predicted
    with pytest.raises(TypeError, match=r"cannot be called here: use \.bind\(\)"):
        Model(1)
    assert Model.func_or_class(3).predict(2) == 2


def test_arguments_are_checked_where_they_are_bound() -> None:
    with pytest.raises(TypeError, match=r"does not fit Model\(size: 'int' = 1\): too many"):
        Model.bind(1, 2)
    with pytest.raises(TypeError, match=r"is not bound itself; write Model\.bind"):
        Model.bind(Model)
    with pytest.raises(TypeError, match=r"is a function, so \.bind\(\) takes no arguments"):
        function.bind(1)


def test_options_are_checked_where_they_are_given() -> None:
    with pytest.raises(ValueError, match=r"unknown option 'num_replica'; expected one of .*num_replicas"):
        serve.deployment(num_replica=1)(Plain)
    with pytest.raises(ValueError, match=r"route_prefix belongs to serve\.run"):
        serve.deployment(route_prefix="/x")(Plain)
    with pytest.raises(ValueError, match=r"max_ongoing_requests.*not 0"):
        Model.options(max_ongoing_requests=0)
    with pytest.raises(ValueError, match=r"unknown option 'streaming' of a handle; expected one of .*stream"):
        serve.DeploymentHandle("Model").options(streaming=True)
    with pytest.raises(TypeError, match="stream is a bool"):
        serve.DeploymentHandle("Model").options(stream="yes")


def test_a_port_that_is_taken_is_refused_with_advice() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"choose another port: --port of the commands, or serve\.start"):
            bind("127.0.0.1", taken.getsockname()[1], shared=False)
