"""One suite, three engines: ``--engine native`` (default), ``inline`` or ``ray`` (see README.md beside this file)."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ENGINES = ("native", "inline", "ray")
#: Seconds a test may take before it counts as hung.
TIMEOUT = 60
#: The same on Ray, which needs up to 10 s to start a session on a busy machine.
RAY_TIMEOUT = 240
_OUTCOME = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--engine", choices=ENGINES, default=None, help="what to run the conformance suite on")
    group.addoption("--list-better", action="store_true", help="list where Skate departs from Ray on purpose, and stop")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "better_than_ray(why): Skate on purpose does better; skipped on Ray")
    config.addinivalue_line("markers", "needs_processes(why): makes no sense in one thread; skipped on inline")
    engine = config.getoption("--engine", default=None)  # no option where this file is loaded late
    if engine is not None:
        os.environ["SKATE_ENGINE"] = engine
    if os.environ.get("SKATE_ENGINE") == "ray":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
        os.environ["RAY_AUTH_MODE"] = "disabled"
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the suite's own tests their timeout and skips, and make their modules travel to workers by value."""
    from tests.conformance.target import ENGINE, submodule  # only now is the engine chosen

    pickler = submodule("cloudpickle") if ENGINE == "ray" else importlib.import_module("cloudpickle")
    own = [item for item in items if HERE in item.path.parents]
    modules = {item.module for item in own if isinstance(item, pytest.Function)}
    for name in ("rendezvous", "target"):
        modules.add(importlib.import_module(f"tests.conformance.{name}"))
    for module in modules:
        pickler.register_pickle_by_value(module)
    for item in own:
        if ENGINE == "ray":
            item.add_marker(pytest.mark.timeout(RAY_TIMEOUT, method="signal"))
            item.add_marker(pytest.mark.filterwarnings("default"))
        elif item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))
        better = item.get_closest_marker("better_than_ray")
        processes = item.get_closest_marker("needs_processes")
        if better is not None and ENGINE == "ray":
            item.add_marker(pytest.mark.skip(reason=f"Skate does better: {better.args[0]}"))
        if processes is not None and ENGINE == "inline":
            item.add_marker(pytest.mark.skip(reason=f"needs processes: {processes.args[0]}"))


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Print the list instead of running anything, where ``--list-better`` asks for it."""
    if not session.config.getoption("--list-better", default=False):
        return None
    for item in session.items:
        better = item.get_closest_marker("better_than_ray")
        if better is not None:
            print(f"\n{item.nodeid}\n    {better.args[0]}", end="")
    print()
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    if report.when == "call":
        item.stash[_OUTCOME] = report.passed
    return report


@pytest.fixture(scope="module", autouse=True)
def _end_of_module() -> Iterator[None]:
    """End the session that the tests of a module shared."""
    from tests.conformance.target import ray

    yield
    ray.shutdown()


@pytest.fixture
def check_nothing_held() -> Callable[[], None]:
    """The check at the end of ``session``, for modules with a session of their own."""
    return _check_nothing_held


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[None]:
    """A session of four logical CPUs, shared by the tests of a module; afterwards nothing may be held.

    A test that failed may have left anything behind: its session is ended and the next test starts a fresh one.
    """
    from tests.conformance.target import LOGICAL_CPUS, SESSION_OPTIONS, ray

    if not ray.is_initialized():
        ray.init(num_cpus=LOGICAL_CPUS, **SESSION_OPTIONS)
    yield
    if request.node.stash.get(_OUTCOME, False):
        _check_nothing_held()
    else:
        ray.shutdown()


@pytest.fixture
def start_session() -> Iterator[Callable[..., Any]]:
    """A function that ends the present session and starts one with the given arguments of ``init``."""
    from tests.conformance.target import SESSION_OPTIONS, ray

    def start(**options: Any) -> Any:
        ray.shutdown()
        return ray.init(**(SESSION_OPTIONS | options))

    yield start
    ray.shutdown()


@pytest.fixture
def make_gate(tmp_path: Path) -> Callable[[str], Any]:
    """A function that makes a closed gate of the given name."""
    from tests.conformance.rendezvous import Gate

    return lambda name: Gate(str(tmp_path / f"{name}.gate"))


@pytest.fixture
def gate(make_gate: Callable[[str], Any]) -> Iterator[Any]:
    """A closed gate; it is opened at the end, so that no task of a failed test waits on."""
    gate = make_gate("gate")
    yield gate
    gate.open()


@pytest.fixture
def tally(tmp_path: Path) -> Any:
    """An empty tally."""
    from tests.conformance.rendezvous import Tally

    return Tally(str(tmp_path / "tally"))


def _check_nothing_held() -> None:
    """Wait until all that the test took of the session's resources is back."""
    from tests.conformance.rendezvous import wait_until
    from tests.conformance.target import ray

    def all_back() -> bool:
        gc.collect()
        total, available = ray.cluster_resources(), ray.available_resources()
        kept = {name for name in total if "memory" not in name}
        return all(available.get(name, 0.0) == total[name] for name in kept)

    if ray.is_initialized():
        wait_until(all_back, what="all resources to come back")
