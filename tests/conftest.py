"""What all tests share: a temporary directory of their own, the leak check, and a session.

Set before anything imports ``core``, and inherited by every process the tests start:

* ``TMPDIR``: a fresh directory, so that every session directory found in it is one of ours;
* ``SKATE_TEST_RUN``: the mark by which the leak check finds descendants, orphans included;
* ``SKATE_FORBID_PICKLE``: the node daemon dies at once if anything in it is unpickled.
"""

from __future__ import annotations

import compileall
import gc
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks


def _on_ray() -> bool:
    """Tell the oracle's run of the conformance suite: Ray keeps threads and descriptors, which is not ours to check.

    Asked late, because the suite's option ``--engine`` sets the variable after this module is imported.
    """
    return os.environ.get("SKATE_ENGINE") == "ray"


# Short, and beside that of the process that started this one, not in it: socket paths have a limit of about 100 bytes.
_BESIDE = Path(os.environ["TMPDIR"]).parent if "PYTEST_XDIST_WORKER" in os.environ else None
_TEMPORARY = tempfile.mkdtemp(prefix="sk-", dir=_BESIDE)
os.environ["TMPDIR"] = _TEMPORARY
tempfile.tempdir = None  # forget the cached answer
os.environ[leaks.MARK] = uuid.uuid4().hex
os.environ["SKATE_FORBID_PICKLE"] = "1"
# Shells ignore SIGINT for what they start in the background, and programs inherit that. Tests send it and mean it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The run starts hundreds of sessions of several processes. Where PYTHONDONTWRITEBYTECODE is set, each of them would
# compile the package anew, 0.1 s at a time; pip does this once for a package that is not editable.
compileall.compile_dir(Path(__file__).parents[1] / "packages", quiet=1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the collector what lives to the end anyway: tests collect after each one, among 500,000 objects else."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove this run's temporary directory."""
    shutil.rmtree(_TEMPORARY, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _no_leaks() -> Iterator[None]:
    """After the tests of a module nothing of them is left.

    Being the first fixture of a module it is torn down last, so a session that a module shares has ended by then.
    A session must therefore not outlive its module.
    """
    if _on_ray():
        yield
        return
    gc.collect()
    gc.freeze()  # what modules before this one imported and made, see above
    before = leaks.take()
    yield
    gc.collect()
    found = leaks.leaks(before)
    assert not found, "left behind by this module:\n  " + "\n  ".join(found)


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_at_the_end() -> Iterator[None]:
    """At the end of the whole run no process and no session directory of it is left, whichever module made it."""
    before = leaks.take()
    yield
    if not _on_ray():
        found = leaks.leaks(before, but=("thread", "descriptor"))
        assert not found, "left behind by the run:\n  " + "\n  ".join(found)


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[object]:
    """A running session of two CPUs, ended after the test; ``@pytest.mark.init(num_cpus=4)`` passes other options."""
    import core  # here, not above: tests of the repository itself must run where core cannot be imported

    marker = request.node.get_closest_marker("init")
    options = {"num_cpus": 2, **(marker.kwargs if marker else {})}
    context = core.init(**options)
    try:
        yield context
    finally:
        core.shutdown()
