"""The joblib backend."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import joblib
import numpy as np
import pytest

from core.util.joblib import register_ray, register_skate

pytestmark = pytest.mark.usefixtures("session")


def square(x: int) -> int:
    return x * x


def reciprocal(x: int) -> float:
    return 1 / x


def describe(array: Any) -> tuple[float, bool, int]:
    return float(array.sum()), bool(array.flags.writeable), os.getpid()


@pytest.mark.parametrize("name", ["ray", "skate"])
def test_parallel_runs_in_workers(name: str) -> None:
    register_ray()
    with joblib.parallel_config(backend=name):
        results = joblib.Parallel(n_jobs=2)(joblib.delayed(square)(x) for x in range(50))
        pids = set(joblib.Parallel(n_jobs=-1)(joblib.delayed(os.getpid)() for _ in range(8)))
    assert results == [x * x for x in range(50)]
    assert os.getpid() not in pids


def test_large_arrays_arrive_read_only_and_whole() -> None:
    register_skate()
    array = np.ones(100_000)
    with joblib.parallel_config(backend="skate"):
        results = joblib.Parallel(n_jobs=2)(joblib.delayed(describe)(array) for _ in range(4))
    assert {result[:2] for result in results} == {(100_000.0, False)}
    assert os.getpid() not in {result[2] for result in results}


def test_errors_are_raised_and_the_backend_stays_usable() -> None:
    register_skate()
    with joblib.parallel_config(backend="skate"):
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel(n_jobs=2)(joblib.delayed(reciprocal)(x) for x in range(10))
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(square)(x) for x in range(3)) == [0, 1, 4]


def test_results_as_they_come() -> None:
    register_skate()
    with joblib.parallel_config(backend="skate"):
        results = joblib.Parallel(n_jobs=2, return_as="generator")(joblib.delayed(square)(x) for x in range(10))
        assert list(results) == [x * x for x in range(10)]


def test_nested_parallel() -> None:
    register_skate()

    def outer(x: int) -> list[int]:
        inner: list[int] = joblib.Parallel(n_jobs=2)(joblib.delayed(square)(x + y) for y in range(3))
        return inner

    with joblib.parallel_config(backend="skate"):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(outer)(x) for x in range(3)) == [
            [0, 1, 4],
            [1, 4, 9],
            [4, 9, 16],
        ]


def test_without_joblib_the_error_names_the_extra() -> None:
    # A None in sys.modules makes the import fail as if the package were not installed.
    program = (
        "import sys; sys.modules['joblib'] = None\n"
        "from core.util.joblib import register_ray\n"
        "try:\n    register_ray()\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'skate-core[joblib]'" in done.stdout
