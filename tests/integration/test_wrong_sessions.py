"""Starting and ending sessions the wrong way: what ``init`` refuses, and what is said where no session runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import core
from core.exceptions import RaySystemError
from core.util.multiprocessing import Pool


@core.remote
def echo(value: Any = None) -> Any:
    return value


@core.remote
class Holder:
    def get(self) -> int:
        return 1


def test_a_pool_that_outlives_its_session_can_be_joined() -> None:
    core.init(num_cpus=2)
    pool = Pool(2)
    assert pool.map(abs, [-1]) == [1]
    core.shutdown()
    pool.close()
    pool.join()


INIT_ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "logging_level must be", {"logging_level": None}),
    (TypeError, "log_to_driver must be", {"log_to_driver": "no"}),
    (TypeError, "_temp_dir must be a path", {"_temp_dir": 5}),
    (OSError, "cannot use _temp_dir", {"_temp_dir": "/proc/none"}),
    (OSError, "cannot use object_spilling_directory", {"object_spilling_directory": "/proc/none"}),
    (ValueError, "more than this machine's memory", {"object_store_memory": 10**14}),
    (ValueError, "num_cpus must be at most", {"num_cpus": 1e300}),
]


@pytest.mark.parametrize(("kind", "says", "options"), INIT_ERRORS, ids=[str(case[2]) for case in INIT_ERRORS])
def test_wrong_option_of_init(kind: type[Exception], says: str, options: dict[str, Any]) -> None:
    with pytest.raises(kind, match=says):
        core.init(**options)
    assert not core.is_initialized()


def test_a_directory_that_is_missing_is_made(tmp_path: Path) -> None:
    core.init(engine="inline", object_spilling_directory=tmp_path / "a" / "b")
    assert os.access(tmp_path / "a" / "b", os.W_OK)
    core.shutdown()


def test_without_a_session_it_says_how_to_get_one() -> None:
    with pytest.raises(RaySystemError, match=r"nodes\(\) needs a running session.*call core.init\(\) first"):
        core.nodes()


def test_a_call_with_a_reference_of_an_ended_session_starts_none() -> None:
    core.init(engine="inline")
    ref, handle = core.put(1), Holder.remote()
    core.shutdown()
    for argument in (ref, handle):
        with pytest.raises(RaySystemError, match=r"Calling .*echo with a reference needs a running session"):
            echo.remote(argument)
    with pytest.raises(RaySystemError, match="needs a running session"):
        echo.remote(value=ref)
    assert not core.is_initialized()


@pytest.mark.parametrize("engines", [("native", "inline"), ("inline", "native")])
def test_functions_and_classes_go_from_engine_to_engine(engines: tuple[str, str]) -> None:
    for engine in engines:
        core.init(num_cpus=1, engine=engine)
        assert core.get([echo.remote(1), Holder.remote().get.remote()]) == [1, 1]
        core.shutdown()
