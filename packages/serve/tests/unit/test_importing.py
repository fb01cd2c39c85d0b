"""From import paths to applications."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.api.importing import load

CODE = """
from pydantic import BaseModel

import serve


@serve.deployment
class Model:
    def __init__(self, size: int = 1) -> None:
        self.size = size


class Args(BaseModel):
    size: int = 3


class Nested:
    app = Model.bind(9)


app = Model.bind(2)
number = 5


def typed(args: Args) -> serve.Application:
    return Model.bind(args.size)


def plain(args):
    return Model.bind(args["size"])


def nothing():
    return Model.bind()


def two(a, b):
    return Model.bind()


def wrong(args):
    return args
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path) -> Iterator[None]:
    package = tmp_path / "importing_sample"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "apps.py").write_text(CODE)
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("importing_sample")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("importing_sample.apps:app", (2,)),
        ("importing_sample.apps.app", (2,)),
        ("importing_sample.apps:Nested.app", (9,)),
        ("importing_sample.apps:Model", ()),
        ("importing_sample.apps:nothing", ()),
        ("importing_sample.apps:typed", (3,)),
    ],
)
def test_what_may_be_named(path: str, arguments: tuple[int, ...]) -> None:
    assert load(path).args == arguments


def test_arguments_are_converted_by_the_model_of_the_function() -> None:
    assert load("importing_sample.apps:typed", {"size": "7"}).args == (7,)
    assert load("importing_sample.apps:plain", {"size": "7"}).args == ("7",)


@pytest.mark.parametrize(
    ("path", "args", "error", "message"),
    [
        ("nowhere_at_all:app", {}, ModuleNotFoundError, "nowhere_at_all"),
        ("importing_sample.apps:none", {}, AttributeError, "none"),
        ("app", {}, ValueError, "expected module:attribute"),
        ("importing_sample.apps:", {}, ValueError, "expected module:attribute"),
        ("importing_sample.apps:number", {}, TypeError, "gives 5, which is no application"),
        ("importing_sample.apps:wrong", {}, TypeError, "which is no application"),
        ("importing_sample.apps:app", {"a": 1}, TypeError, "is no function, so it takes no arguments; given were a"),
        ("importing_sample.apps:nothing", {"a": 1}, TypeError, "has no parameters"),
        ("importing_sample.apps:two", {}, TypeError, "has 2 parameters"),
        ("importing_sample.apps:typed", {"size": "big"}, ValueError, "size: Input should be a valid integer"),
    ],
)
def test_what_may_not(path: str, args: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(path, args)
