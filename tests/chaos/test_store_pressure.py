"""More objects than memory, more than disk, and objects whose file is gone.

``tests/integration/test_store_session.py`` has the quiet cases: spilling, reading back, objects in use.
"""

from __future__ import annotations

import gc
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.util.state import list_objects
from tests.chaos.driver import SOON, Driver
from tests.eventually import eventually

MIB = 1 << 20
small_store = pytest.mark.init(num_cpus=2, object_store_memory=64 * MIB)


@core.remote
def digest(*arrays: Any) -> int:
    return sum(int(array.sum()) for array in arrays)


@core.remote
def random_bytes(seed: int, size: int, tally: Path | None = None) -> Any:
    if tally is not None:
        with tally.open("a") as file:
            file.write(f"{seed}\n")
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def files(session: Any) -> list[Path]:
    """The spilled objects of a session."""
    return [path for path in Path(session.address_info["session_dir"], "spill").glob("*") if path.is_file()]


@small_store
def test_300_mb_through_a_store_of_64_come_back_exactly(session: Any) -> None:
    arrays = [np.random.default_rng(seed).integers(0, 256, 5 * MIB, np.uint8) for seed in range(60)]
    started = time.perf_counter()
    refs = [core.put(array) for array in arrays]
    spilled = time.perf_counter()
    for ref, array in zip(refs, arrays, strict=True):
        assert np.array_equal(core.get(ref, timeout=SOON), array)
    restored = time.perf_counter()
    # For people who look (pytest -s); how fast is benchmarks' business.
    print(f"put through spilling {315 / (spilled - started):.0f} MB/s, read {315 / (restored - spilled):.0f} MB/s")
    assert files(session)
    # From a worker too, and in another order.
    sums = core.get([digest.remote(ref) for ref in reversed(refs)], timeout=SOON)
    assert sums == [int(array.sum()) for array in reversed(arrays)]


@small_store
def test_arguments_and_results_larger_than_the_store(session: Any) -> None:
    big = np.random.default_rng(1).integers(0, 256, 100 * MIB, np.uint8)
    assert core.get(digest.remote(big), timeout=SOON) == int(big.sum())
    result = core.get(random_bytes.remote(2, 100 * MIB), timeout=SOON)
    assert np.array_equal(result, np.random.default_rng(2).integers(0, 256, 100 * MIB, np.uint8))


@small_store
def test_what_is_read_stays_valid_when_its_reference_is_gone(session: Any) -> None:
    views = [core.get(core.put(np.full(4 * MIB, number, np.uint8))) for number in range(6)]
    # Everything else in the store is replaced several times.
    for number in range(60):
        core.put(np.full(4 * MIB, number, np.uint8))
    assert [(int(view.min()), int(view.max())) for view in views] == [(number, number) for number in range(6)]


@small_store
def test_room_comes_back_when_references_go(session: Any) -> None:
    for _ in range(5):
        refs = [core.put(np.zeros(4 * MIB, np.uint8)) for _ in range(40)]
        del refs
        gc.collect()
    eventually(lambda: not files(session), SOON, "the files are gone")
    eventually(lambda: not core.util.state.list_objects(), SOON, "no object is left")


@small_store
@pytest.mark.parametrize("reader", ["driver", "tasks"])
def test_a_lost_file_of_a_result_is_made_again_and_that_of_a_put_is_one_clear_error(
    session: Any, reader: str, tmp_path: Path
) -> None:
    results = [random_bytes.remote(seed, 5 * MIB, tmp_path / "runs") for seed in range(10)]
    puts = [core.put(np.full(5 * MIB, number, np.uint8)) for number in range(10)]
    sums = core.get([digest.remote(ref) for ref in results], timeout=SOON)
    more = [core.put(np.zeros(5 * MIB, np.uint8)) for _ in range(20)]
    found = files(session)
    assert len(found) >= 20
    for path in found:
        path.unlink()
    if reader == "driver":
        assert [int(core.get(ref, timeout=SOON).sum()) for ref in results] == sums
    else:
        assert core.get([digest.remote(ref) for ref in results], timeout=SOON) == sums
    runs = Counter((tmp_path / "runs").read_text().split())
    assert max(runs.values()) == 2, "once, and once again"
    told = []
    for number, ref in enumerate(puts):
        try:
            assert int(core.get(ref, timeout=SOON)[0]) == number
        except core.exceptions.ObjectReconstructionFailedError as error:
            told.append(str(error))
    assert told, "no file of a put object was among the lost ones"
    assert all("put" in text for text in told)
    assert len(more) == 20
    assert core.get(digest.remote(np.ones(10, np.uint8)), timeout=SOON) == 10


@core.remote
def add_one(array: Any, *others: Any) -> Any:
    return array + 1


@small_store
def test_a_step_after_the_other_keeps_the_last_value_only_and_makes_lost_ones_again(session: Any) -> None:
    first = add_one.remote(random_bytes.remote(0, 5 * MIB))
    start = int(core.get(first)[0])
    other = value = first
    for _ in range(20):
        # The same argument twice, another one that many share, and one inside of a list: all are kept for lineage.
        value = add_one.remote(value, value, first, [other])
        other = value
    del first, other
    identifier = value.hex()
    core.wait([value], timeout=SOON)
    eventually(lambda: [row["object_id"] for row in list_objects()] == [identifier])
    filler: list[Any] = []

    def is_on_disk() -> bool:
        filler.append(core.put(np.zeros(5 * MIB, np.uint8)))
        return [row["location"] for row in list_objects() if row["object_id"] == identifier] != ["memory"]

    eventually(is_on_disk)
    for path in files(session):
        path.unlink()
    assert int(core.get(value, timeout=SOON)[0]) == (start + 20) % 256
    del value
    filler.clear()
    eventually(lambda: not list_objects())


def may_mount() -> bool:
    """Tell whether this user may make a namespace of mounts here."""
    try:
        return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(
    not may_mount(), reason="needs the right to mount a small disk (unshare --mount): root, or a sandbox"
)
def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(tmp_path: Path) -> None:
    with Driver("fills_disk", str(tmp_path), prefix=("unshare", "--mount")) as driver:
        assert driver.wait() == 0, driver.stderr
        out = driver.stdout
        errors = [line for line in out.splitlines() if line.startswith("error:")]
        assert len(errors) == 3
        assert all("disk" in line for line in errors), errors
        kept = re.search(r"kept (\d+)", out)
        assert kept is not None
        assert int(kept[1]) >= 30, "64 MiB of memory and 96 MiB of disk"
        lines = re.search(r"log lines: (\d+)", out)
        assert lines is not None
        assert int(lines[1]) <= 5
        assert "left on the disk: []" in out
        assert driver.stderr == ""
        driver.assert_nothing_remains()
