"""The public face: exported, documented, and named in the reference."""

from __future__ import annotations

import importlib
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
from core import option_checks

ROOT = Path(__file__).parents[2]
REFERENCE = "\n".join(page.read_text() for page in sorted((ROOT / "docs/reference").glob("*.md")))
OPTIONS_PAGE = (ROOT / "docs/reference/options.md").read_text()
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


@pytest.mark.parametrize("module", ["core.actor", "core.runtime_context"])
def test_the_names_of_rays_modules_are_in_the_reference(module: str) -> None:
    names = importlib.import_module(module).__all__
    assert [name for name in names if not re.search(rf"\bcore\.(?:\w+\.)?{name}\b", REFERENCE)] == []


def test_every_option_is_in_the_reference() -> None:
    options = {*option_checks.TASK_OPTIONS, *option_checks.ACTOR_OPTIONS, *option_checks.METHOD_OPTIONS}
    assert {name for name in options if f"`{name}`" not in OPTIONS_PAGE} == set()


def test_every_environment_variable_is_in_the_reference() -> None:
    sources = (ROOT / "packages/core/src").rglob("*.py")
    read = {name for source in sources for name in re.findall(r"\bSKATE_\w+", source.read_text())}
    assert {name for name in read if not re.search(rf"`{name}(?:=\w+)?`", OPTIONS_PAGE)} == set()


def test_util_names_are_in_the_reference() -> None:
    missing = [
        name
        for name in core.util.__all__
        if not re.search(rf"\bcore\.util\.(?:\w+\.)?{name}\b|^{name}$", REFERENCE, re.MULTILINE)
    ]
    assert not missing
