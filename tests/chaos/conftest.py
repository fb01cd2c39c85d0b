"""Fault tests: the modules here travel to workers by value, so that no worker has to import pytest."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import pytest

from tests.conformance.rendezvous import Gate, Tally

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make what the tests define travel by value."""
    modules = {item.module for item in items if isinstance(item, pytest.Function) and item.path.parent == HERE}
    modules |= {importlib.import_module("tests.conformance.rendezvous")}
    modules |= {module for name, module in sys.modules.items() if name.startswith("tests.chaos.")}
    for module in modules:
        cloudpickle.register_pickle_by_value(module)


@pytest.fixture
def make_gate(tmp_path: Path) -> Callable[[str], Gate]:
    """A function that makes a closed gate of the given name."""
    return lambda name: Gate(str(tmp_path / f"{name}.gate"))


@pytest.fixture
def gate(make_gate: Callable[[str], Gate]) -> Gate:
    """A closed gate."""
    return make_gate("gate")


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    """An empty tally."""
    return Tally(str(tmp_path / "tally"))
