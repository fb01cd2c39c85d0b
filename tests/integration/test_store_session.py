"""The object store under a whole session: driver, daemon, workers."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core import current, ids
from core.util.state import list_objects
from tests.eventually import eventually

MIB = 1 << 20

small_store = pytest.mark.init(num_cpus=2, object_store_memory=100 * MIB)


def spilled_files(session: Any) -> list[Path]:
    directory = Path(session.address_info["session_dir"]) / "spill"
    return list(directory.iterdir()) if directory.exists() else []


@core.remote
def make(number: int) -> Any:
    return np.full(MIB, number, np.float64)


@core.remote
def check(array: Any, number: int) -> bool:
    return bool((array == number).all()) and not array.flags.writeable


@small_store
def test_results_and_puts_beyond_the_store_are_spilled_read_and_removed(session: Any) -> None:
    made = [make.remote(number) for number in range(15)] + [
        core.put(np.full(MIB, number, np.float64)) for number in range(15, 30)
    ]
    assert core.get([check.remote(ref, number) for number, ref in enumerate(made)]) == [True] * 30
    assert spilled_files(session)
    assert [core.get(ref)[-1] for ref in made] == list(range(30))
    made.clear()
    gc.collect()
    eventually(lambda: not spilled_files(session))


@small_store
def test_arrays_in_use_are_safe_and_what_has_no_room_beside_them_goes_through_a_file(session: Any) -> None:
    held = [core.get(core.put(np.full(2 * MIB, number, np.float64))) for number in range(6)]
    beyond = core.put(np.full(3 * MIB, 3.0))
    assert len(spilled_files(session)) == 1
    assert core.get(check.remote(beyond, 3))
    with pytest.raises(core.exceptions.ObjectStoreFullError, match="object store is full of objects in use"):
        core.empty((3 * MIB,), np.float64)
    assert [set(array[:: MIB // 4]) for array in held] == [{float(number)} for number in range(6)]
    held.clear()
    assert core.get(core.put(np.ones(3 * MIB)))[7] == 1.0


@small_store
def test_a_put_larger_than_the_store_goes_through_a_file(session: Any) -> None:
    ref = core.put(np.full(20 * MIB, 3.0))
    assert core.get(check.remote(ref, 3))
    del ref
    eventually(lambda: not spilled_files(session))


@small_store
def test_a_killed_worker_gives_its_room_back(session: Any) -> None:
    @core.remote(max_retries=0)
    def hoard() -> None:
        kept = [core.put(np.zeros(MIB)) for _ in range(8)]
        views = core.get(kept)
        assert len(views) == 8
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):
        with pytest.raises(core.exceptions.WorkerCrashedError):
            core.get(hoard.remote())
    # views of all the room at once can only be had if nothing of the dead is in the way
    held = [core.get(core.put(np.full(MIB, number, np.float64))) for number in range(11)]
    assert [array[0] for array in held] == list(range(11))
    assert not spilled_files(session)


def test_the_spill_directory_of_one_session_is_not_the_next_ones(tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    options = {"num_cpus": 1, "object_store_memory": 80 * MIB}
    with core.init(object_spilling_directory=str(elsewhere), **options):
        kept = [core.put(np.full(MIB, number, np.float64)) for number in range(15)]
        (made,) = elsewhere.iterdir()
        assert list(made.iterdir())
        assert [int(core.get(ref)[0]) for ref in kept] == list(range(15))
        del kept
    assert not list(elsewhere.iterdir())
    with core.init(**options) as session:
        kept = [core.put(np.full(MIB, number, np.float64)) for number in range(15)]
        assert spilled_files(session)
        assert not list(elsewhere.iterdir())
        del kept


@core.remote(max_retries=0)
def seal_and_die(object_id: bytes) -> None:
    """Be a process that dies after it has made an object and before it has told the owner of it."""
    runtime = current.engine.runtime  # type: ignore[union-attr]
    runtime.store.create(object_id, MIB)[:] = bytes(MIB)
    runtime.store.seal(object_id)
    with runtime.lock:
        runtime.exchange.announce()
    assert object_id.hex() in [row.object_id for row in list_objects()]
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_process_made_and_could_not_tell_of_goes_with_it(session: Any) -> None:
    runtime = current.engine.runtime  # type: ignore[union-attr]
    for index in range(2):
        with pytest.raises(core.exceptions.WorkerCrashedError):
            core.get(seal_and_die.remote(ids.object_id(runtime.next_task_id(), index)))
    eventually(lambda: not list_objects())
