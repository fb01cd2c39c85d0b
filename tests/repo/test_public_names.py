"""The public face: exported, documented, and named in the reference."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest

import core
import core.exceptions
import core.util
import serve
import tune

ROOT = Path(__file__).parents[2]
REFERENCE = "\n".join(page.read_text() for page in sorted((ROOT / "docs/reference").glob("*.md")))
PUBLIC = sorted(set(core.__all__) - {"__version__"})


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(core, name)
    if not inspect.ismodule(value):
        assert re.search(rf"\bcore\.{name}\b|^{name}$", REFERENCE, re.MULTILINE), f"{name} is not in docs/reference"
    assert inspect.getdoc(value), f"{name} has no docstring"


@pytest.mark.parametrize("name", sorted(set(tune.__all__) - {"__version__"}))
def test_a_public_name_of_tune_is_there_and_documented(name: str) -> None:
    value = getattr(tune, name)
    if not inspect.ismodule(value):
        # a page of a whole module lists whatever is public and documented in it
        home = ".".join(value.__module__.split(".")[:2])
        named = rf"\btune\.{name}\b|^{name}$|automodule:: {re.escape(home)}$"
        assert re.search(named, REFERENCE, re.MULTILINE), f"{name} is not in docs/reference"
    assert inspect.getdoc(value), f"{name} has no docstring"


@pytest.mark.parametrize("name", sorted(set(serve.__all__) - {"__version__"}))
def test_a_public_name_of_serve_is_there_and_documented(name: str) -> None:
    value = getattr(serve, name)
    if not inspect.ismodule(value):
        home = ".".join(value.__module__.split(".")[:2])
        named = rf"\bserve\.{name}\b|automodule:: {re.escape(home)}$"
        assert re.search(named, REFERENCE, re.MULTILINE), f"{name} is not in docs/reference"
    assert inspect.getdoc(value), f"{name} has no docstring"


def test_the_package_tells_its_version() -> None:
    assert serve.__version__ == importlib.metadata.version("skate-serve")
    assert tune.__version__ == importlib.metadata.version("skate-tune")
    assert core.__version__ == importlib.metadata.version("skate-core")


def test_every_exception_is_in_the_reference() -> None:
    # automodule lists whatever is public and documented; so the page must use it, and all must be documented
    assert "automodule} core.exceptions" in REFERENCE or "automodule:: core.exceptions" in REFERENCE
    undocumented = [
        name
        for name, value in vars(core.exceptions).items()
        if inspect.isclass(value) and issubclass(value, core.exceptions.RayError) and not value.__doc__
    ]
    assert not undocumented


def test_util_names_are_in_the_reference() -> None:
    missing = [
        name
        for name in core.util.__all__
        if not re.search(rf"\bcore\.util\.(?:\w+\.)?{name}\b|^{name}$", REFERENCE, re.MULTILINE)
    ]
    assert not missing
