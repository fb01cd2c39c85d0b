"""The object store over real sockets: several clients, a node, files."""

from __future__ import annotations

import errno
import gc
import logging
import os
import random
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from core import ids
from core.exceptions import ObjectStoreFullError, OutOfDiskError
from core.store.arena import copy_into
from core.store.client import HEADROOM
from tests import pending_interrupt
from tests.eventually import eventually
from tests.integration.store_node import StoreNode, StoreProcess

MIB = 1 << 20
CAPACITY = 64 * MIB


@pytest.fixture
def node(tmp_path: Path) -> Any:
    with StoreNode(tmp_path, CAPACITY) as running:
        yield running


def filled(process: StoreProcess, count: int, size: int) -> list[bytes]:
    made = [process.put(bytes([number]) * size) for number in range(count)]
    process.store.announce()
    return made


def everything_is_free(node: StoreNode, *processes: StoreProcess) -> bool:
    for process in processes:
        process.store.announce()
    stats = node.stats()
    return stats["objects"] == stats["spilled"] == 0


# -- writing and reading --


def test_bytes_written_here_are_read_there(node: StoreNode) -> None:
    writer, reader = node.connect(), node.connect()
    for size in (0, 1, 63, 64, 65, 100_000, 5 * MIB):
        data = random.Random(size).randbytes(size)
        made = writer.put(data)
        own = writer.store.read(made)
        assert own == data
        writer.store.announce()
        view = reader.store.read(made)
        assert view == data
        assert own.readonly
        assert view.readonly


def test_an_object_on_its_way_is_waited_for(node: StoreNode) -> None:
    writer, reader = node.connect(), node.connect()
    made = writer.new_id()
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(reader.store.read(made)))
    waiting.start()
    eventually(lambda: "Pin" in reader.sent)
    writer.put(b"late", made)
    writer.store.announce()
    waiting.join(10)
    assert [bytes(view) for view in got] == [b"late"]


def test_what_nobody_made_is_lost(node: StoreNode) -> None:
    assert node.connect().store.read(b"x" * ids.OBJECT_ID_BYTES) is None


def test_a_known_place_costs_no_message(node: StoreNode) -> None:
    writer, reader = node.connect(), node.connect()
    made = writer.put(b"again")
    writer.store.announce()
    for _ in range(3):
        assert reader.store.read(made) == b"again"
        assert writer.store.read(made) == b"again"
    assert reader.sent == ["Pin"]
    assert "Pin" not in writer.sent


def test_an_aborted_object_leaves_its_room(node: StoreNode) -> None:
    process = node.connect()
    made = process.new_id()
    first = process.store.create(made, 1000)
    process.store.abort(made)
    again = process.store.create(made, 1000)
    assert np.frombuffer(first, np.uint8).ctypes.data == np.frombuffer(again, np.uint8).ctypes.data


# -- pins --


@pytest.mark.parametrize("make", ["view", "slice", "numpy", "numpy of a slice", "arrow"])
def test_a_pin_lives_as_long_as_anything_made_of_the_view(node: StoreNode, make: str) -> None:
    writer, reader = node.connect(), node.connect()
    made = writer.put(b"abc" * 1000)
    writer.store.announce()
    view = reader.store.read(made)
    if make == "slice":
        kept: Any = view[10:20]
    elif make == "numpy":
        kept = np.frombuffer(view, np.uint8)[5:].reshape(-1, 1)
    elif make == "numpy of a slice":
        kept = np.frombuffer(view[64:128], np.float64)
    elif make == "arrow":
        kept = pytest.importorskip("pyarrow").py_buffer(view).slice(3)
    else:
        kept = view
    del view
    writer.store.free(made)
    reader.store.forget(made)
    writer.store.announce()
    reader.store.announce()
    node.stats()
    assert not everything_is_free(node, reader)
    del kept
    eventually(lambda: everything_is_free(node, reader))


def test_a_forgotten_and_read_again_object_stays_pinned(node: StoreNode) -> None:
    writer, reader = node.connect(), node.connect()
    made = writer.put(b"abc")
    writer.store.announce()
    reader.store.read(made)
    reader.store.forget(made)
    view = reader.store.read(made)  # Unpin goes before Pin
    writer.store.free(made)
    writer.store.announce()
    assert not everything_is_free(node, reader)
    assert view == b"abc"


def test_own_views_keep_the_room_of_a_freed_object(node: StoreNode) -> None:
    for announced in (False, True):
        process = node.connect()
        made = process.put(b"a" * 1000)
        if announced:
            process.store.announce()
        view = process.store.read(made)
        process.store.free(made)
        process.store.announce()
        for _ in range(3):
            process.put(b"b" * 1000)
            node.stats()  # lets Reclaimed come
        assert view == b"a" * 1000


def test_the_end_of_a_view_is_noticed_though_an_interrupt_is_pending(node: StoreNode) -> None:
    process, other = node.connect(), node.connect()
    (made,) = filled(process, 1, 1000)
    views = [other.store.read(made)]
    pending_interrupt.call(pending_interrupt.of_a_cancellation(), views.clear)
    other.store.forget(made)
    process.store.free(made)
    process.store.announce()
    eventually(lambda: everything_is_free(node, process, other))


def test_a_freed_object_nobody_knows_costs_no_message_and_its_room_is_used_next(node: StoreNode) -> None:
    process = node.connect()
    process.store.free(process.put(b"x" * 100))
    before = len(process.sent)
    places = set()
    for _ in range(100):
        made = process.new_id()
        view = process.store.create(made, 100)
        places.add(np.frombuffer(view, np.uint8).ctypes.data)
        process.store.seal(made)
        process.store.free(made)
    process.store.announce()
    assert len(places) == 1
    assert len(process.sent) == before


def test_a_result_freed_by_its_owner_comes_back_to_its_maker(node: StoreNode) -> None:
    owner, worker = node.connect(), node.connect()
    made = worker.new_id(owner=owner.address)
    worker.put(b"r" * 1000, made)
    worker.store.announce()
    view = worker.store.read(made)
    assert owner.store.read(made) == b"r" * 1000
    owner.store.free(made)
    owner.store.announce()
    eventually(lambda: everything_is_free(node, owner))
    # the range is the worker's again, but something there still looks at it
    for _ in range(3):
        worker.put(b"s" * 1000)
    assert view == b"r" * 1000


def test_the_same_object_made_twice_is_readable_and_goes(node: StoreNode) -> None:
    owner, first, second = node.connect(), node.connect(), node.connect()
    made = owner.new_id()
    for worker in (first, second, first):
        worker.put(b"same", made)
        worker.store.announce()
    assert owner.store.read(made) == b"same"
    owner.store.free(made)
    eventually(lambda: everything_is_free(node, owner))
    for worker in (first, second):
        assert worker.put(b"x") is not None


def test_made_again_after_its_owner_gave_up_the_lost_copy(node: StoreNode) -> None:
    owner, worker = node.connect(), node.connect()
    made = owner.new_id()
    assert owner.store.read(made) is None
    owner.store.free(made)
    owner.store.announce()
    worker.put(b"rebuilt", made)
    worker.store.announce()
    assert owner.store.read(made) == b"rebuilt"


# -- blocks --


def test_an_array_made_in_the_store_becomes_an_object_without_a_copy(node: StoreNode) -> None:
    process, reader = node.connect(), node.connect()
    block, view = process.store.allocate_block(8 * 1000)
    array = np.frombuffer(view, np.float64)
    del view
    array[:] = np.arange(1000)
    raw = memoryview(array).cast("B")
    assert process.store.find_block(raw) is block
    assert process.store.find_block(raw[8:]) is None
    assert process.store.find_block(memoryview(bytearray(8000))) is None
    made = process.new_id()
    process.store.adopt_block(made, block, b"head", 128)
    process.store.announce()
    there = reader.store.read(made)
    assert bytes(there[:4]) == b"head"
    assert np.array_equal(np.frombuffer(there[128:], np.float64), array)
    array[0] = 7.0  # the very same memory
    assert np.frombuffer(there[128:136], np.float64)[0] == 7.0
    assert np.frombuffer(process.store.read(made)[128:136], np.float64)[0] == 7.0
    assert process.store.find_block(raw) is None
    with pytest.raises(ValueError, match="already"):
        process.store.adopt_block(process.new_id(), block, b"", 0)
    # the array keeps the room even when the object is gone
    del there
    process.store.free(made)
    reader.store.forget(made)
    eventually(lambda: everything_is_free(node, process, reader))
    process.put(b"z" * 9000)
    assert np.array_equal(array[1:], np.arange(1, 1000))


def test_an_array_that_is_never_put_leaves_its_room(node: StoreNode) -> None:
    process = node.connect()
    places = []
    for _ in range(50):
        block, view = process.store.allocate_block(20 * MIB)  # three of them do not fit
        places.append(block.start)
        del view
    assert set(places) == {places[0]}


@pytest.mark.parametrize(("head", "offset"), [(b"", HEADROOM + 64), (b"", 100), (b"x" * 65, 64)])
def test_a_head_that_does_not_fit_is_refused(node: StoreNode, head: bytes, offset: int) -> None:
    process = node.connect()
    block, _view = process.store.allocate_block(100)
    with pytest.raises(ValueError, match="do not fit"):
        process.store.adopt_block(process.new_id(), block, head, offset)


# -- spilling --


def test_more_than_the_store_spills_and_reads_back(node: StoreNode, tmp_path: Path) -> None:
    writer, reader = node.connect(), node.connect()
    made = filled(writer, 30, 5 * MIB)
    assert node.stats()["spilled"] >= 30 * 5 * MIB - CAPACITY
    files = list((tmp_path / "spill").iterdir())
    assert oct((tmp_path / "spill").stat().st_mode & 0o777) == "0o700"
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}
    for process in (reader, writer):
        for number, object_id in enumerate(made):
            view = process.store.read(object_id)
            assert view.nbytes == 5 * MIB
            assert view.readonly
            assert (view[0], view[-1]) == (number, number)
    del view
    for object_id in made:
        reader.store.forget(object_id)
        writer.store.free(object_id)
    eventually(lambda: everything_is_free(node, reader, writer))
    eventually(lambda: not list((tmp_path / "spill").iterdir()))


def test_another_processes_idle_room_and_idle_pins_make_way(node: StoreNode) -> None:
    writer, reader = node.connect(), node.connect()
    made = filled(writer, 8, 7 * MIB)
    for object_id in made:
        reader.store.read(object_id)  # cached there, but nothing looks at them
    assert len(filled(reader, 8, 7 * MIB)) == 8
    assert [reader.store.read(object_id)[3] for object_id in made] == list(range(8))


def test_objects_in_use_are_never_moved_and_a_full_store_takes_files(node: StoreNode, tmp_path: Path) -> None:
    process, other = node.connect(), node.connect()
    made = filled(process, 9, 7 * MIB)
    views = [(process if number % 2 else other).store.read(object_id) for number, object_id in enumerate(made)]
    beyond = other.put(b"x" * 10 * MIB)
    (file,) = (tmp_path / "spill").iterdir()
    assert file.stat().st_size >= 10 * MIB
    assert process.store.read(beyond)[5] == ord("x")
    with pytest.raises(ObjectStoreFullError, match=r"contiguous bytes are needed.*66,060,288 hold 9 obj"):
        other.store.allocate_block(10 * MIB)  # an array in shared memory cannot be in a file
    assert [view[-1] for view in views] == list(range(9))
    del views[:4]
    gc.collect()
    other.put(b"x" * 10 * MIB)  # room again
    assert [view[-1] for view in views] == list(range(4, 9))


def test_a_process_that_does_not_answer_costs_little(node: StoreNode) -> None:
    busy, other = node.connect(), node.connect()
    filled(busy, 5, 7 * MIB)
    busy.listening.clear()  # as if its code never let go of the interpreter
    made = filled(other, 12, 7 * MIB)  # half a second once, not once per object
    assert [other.store.read(object_id)[0] for object_id in made] == list(range(12))
    assert node.stats()["objects"] >= 5 * 7 * MIB


def test_an_object_larger_than_the_store_goes_through_a_file(node: StoreNode) -> None:
    writer, reader = node.connect(), node.connect()
    data = random.Random(0).randbytes(MIB) * 100
    made = writer.put(data)
    assert reader.store.read(made) == data
    assert writer.store.read(made) == data
    reader.store.forget(made)
    writer.store.free(made)
    eventually(lambda: everything_is_free(node, reader, writer))
    # given up half-way: no file stays
    half = writer.new_id()
    writer.store.create(half, 100 * MIB)
    writer.store.abort(half)
    spill = node.service._files.path
    eventually(lambda: not list(spill.iterdir()))


def test_a_file_too_large_for_the_disk_is_refused_at_once(node: StoreNode) -> None:
    with pytest.raises(OutOfDiskError, match=r"does not fit on the disk.*bytes are free there"):
        node.connect().store.create(b"o" * 28, 1 << 60)


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_damaged_spill_file_means_lost_and_can_be_made_again(
    node: StoreNode, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer, reader = node.connect(), node.connect()
    made = filled(writer, 20, 5 * MIB)
    file = next(file for file in (tmp_path / "spill").iterdir() if file.name.startswith(made[0].hex()))
    if damage == "missing":
        file.unlink()
    else:
        os.truncate(file, 100)
    with caplog.at_level(logging.WARNING):
        assert reader.store.read(made[0]) is None
    assert "missing or cut short" in caplog.text
    assert reader.store.read(made[1])[0] == 1
    writer.store.free(made[0])
    writer.store.announce()
    reader.put(b"rebuilt", made[0])
    reader.store.announce()
    assert writer.store.read(made[0]) == b"rebuilt"


def test_a_full_disk_keeps_what_was_spilled_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is a real one, full by the process's own limit on file sizes: the kernel fails the write half-way."""
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with StoreNode(tmp_path, CAPACITY) as node, caplog.at_level(logging.WARNING):
            writer, reader = node.connect(), node.connect()
            made = filled(writer, 20, 5 * MIB)
            before = node.stats()["spilled"]
            assert before
            resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, limits[1]))
            for _ in range(2):
                with pytest.raises(OutOfDiskError, match=r"cannot be moved to disk \(File too large\)"):
                    for _ in range(20):
                        made.append(writer.put(bytes([len(made)]) * (5 * MIB)))
            writer.store.announce()
            for number, object_id in enumerate(made):
                assert reader.store.read(object_id)[7] == number
                reader.store.forget(object_id)
            assert len([record for record in caplog.records if "cannot be moved" in record.message]) == 1
            sizes = {file.stat().st_size for file in (tmp_path / "spill").iterdir()}
            assert sizes == {5 * MIB}  # no partial file stayed
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

            def room_again() -> bool:
                try:
                    writer.put(b"x" * 10 * MIB)
                except OutOfDiskError:
                    return False
                return True

            eventually(room_again)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)


def test_the_spill_directory_can_lie_elsewhere_and_goes_with_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, session = tmp_path / "disk", tmp_path / "session"
    elsewhere.mkdir()
    session.mkdir()
    monkeypatch.setenv("SKATE_SPILL_DIR", str(elsewhere))
    with StoreNode(session, CAPACITY) as node:
        filled(node.connect(), 20, 5 * MIB)
        (made,) = elsewhere.iterdir()
        assert list(made.iterdir())
        assert (session / "spill").resolve() == made
    assert not list(elsewhere.iterdir())
    assert not list(session.iterdir())


# -- death --


def test_a_killed_process_gives_everything_back(node: StoreNode) -> None:
    owner = node.connect()
    kept = owner.put(b"k" * MIB)
    owner.store.announce()
    child, _address = node.spawn(
        f"""
views = [me.store.read(bytes.fromhex("{kept.hex()}"))]
views += [me.store.read(me.put(bytes(5 << 20))) for _ in range(4)]
result = me.put(b"result", me.new_id(bytes.fromhex("{owner.address.hex()}")))
big = me.new_id()
me.store.create(big, 80 << 20)
me.store.announce()
tell(result.hex())
wait()
"""
    )
    result = bytes.fromhex(child.stdout.readline())
    assert node.stats()["objects"] > 20 * MIB
    child.kill()
    eventually(lambda: node.stats()["objects"] < 2 * MIB)
    assert owner.store.read(result) == b"result"
    assert owner.store.read(kept)[0] == ord("k")
    owner.store.free(result)
    owner.store.free(kept)
    eventually(lambda: everything_is_free(node, owner))
    eventually(lambda: not list(node.service._files.path.iterdir()))  # the file that was never finished
    assert len(filled(owner, 6, 10 * MIB)) == 6


def test_too_many_open_files_are_an_error_and_no_object_is_taken_for_lost(node: StoreNode) -> None:
    process, reader = node.connect(), node.connect()
    made = filled(process, 20, 5 * MIB)
    assert node.stats()["spilled"] > 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    problems = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        for object_id in made:
            try:
                reader.store.read(object_id)
            except OSError as error:
                problems.append(error.errno)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(problems) == {errno.EMFILE}
    assert [reader.store.read(object_id)[9] for object_id in made] == list(range(20))


def test_a_stopped_process_does_not_stop_the_others(node: StoreNode) -> None:
    import signal

    child, _ = node.spawn("made = [me.put(bytes(5 << 20)) for _ in range(10)]\nme.store.announce()\ntell('ok')\nwait()")
    assert child.stdout.readline() == "ok\n"
    child.send_signal(signal.SIGSTOP)
    eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    other = node.connect()
    views = [other.put(b"x" * MIB)]
    assert (node.stats()["objects"], node.stats()["spilled"]) == (50 * MIB, 0)
    with pytest.raises(ObjectStoreFullError):
        other.store.allocate_block(20 * MIB)  # its objects cannot be moved: it might look at them
    views.append(other.put(b"x" * 20 * MIB))  # this one is a file
    child.send_signal(signal.SIGCONT)
    made = other.put(b"y" * 20 * MIB)
    assert other.store.read(made)[5] == ord("y")
    assert views


# -- several at once --

STRESS = """
import random
rng = random.Random({seed})
mine, views = [], []
for step in range(150):
    tag = rng.randrange(256)
    size = rng.choice([100, 5000, 300_000, 2 << 20, 6 << 20])
    made = me.put(bytes([tag]) * size)
    mine.append((made, tag, size))
    if rng.random() < 0.5:
        made, tag, size = rng.choice(mine)
        view = me.store.read(made)
        assert view is not None and len(view) == size and view[0] == view[-1] == tag, "wrong bytes"
        views.append((view, tag))
    if len(views) > 2:
        view, tag = views.pop(rng.randrange(len(views)))
        assert view[0] == view[len(view) // 2] == view[-1] == tag, "bytes changed under a view"
        del view
    if len(mine) > 20:
        me.store.free(mine.pop(rng.randrange(len(mine)))[0])
    me.store.patrol(step * 0.2)
for made, tag, size in mine:
    view = me.store.read(made)
    assert len(view) == size and view[0] == view[-1] == tag
    del view
    me.store.free(made)
views.clear()
me.store.announce()
tell("fine")
wait()
"""


def test_several_processes_in_a_store_too_small_for_them(node: StoreNode) -> None:
    children = [node.spawn(STRESS.format(seed=seed))[0] for seed in range(3)]
    assert [child.stdout.readline() for child in children] == ["fine\n"] * 3
    eventually(lambda: everything_is_free(node))


def test_threads_of_one_process(node: StoreNode) -> None:
    process, reader = node.connect(), node.connect()
    problems: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            size = rng.choice([10, 1000, 200_000, 3 * MIB])
            made = process.put(bytes([seed]) * size, ids.object_id(process.address + rng.randbytes(12), 0))
            process.store.announce()
            for who in (process, reader):
                view = who.store.read(made)
                if view is None or view.nbytes != size or {view[0], view[-1]} != {seed}:
                    problems.append(f"{seed}: {view!r}")
                del view
            reader.store.forget(made)
            process.store.free(made)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    eventually(lambda: everything_is_free(node, process, reader))


# -- the rest --


def test_idle_room_goes_back_to_the_node_and_then_to_the_system(
    node: StoreNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.node.objects.IDLE_SECONDS", 0.0)
    process = node.connect()
    process.store.patrol(100.0)
    process.store.free(process.put(b"x" * 30 * MIB))
    assert os.fstat(node.service.arena_fd).st_blocks * 512 >= 30 * MIB
    process.store.patrol(101.0)
    process.store.patrol(102.0)
    assert node.stats()["lent"] >= 30 * MIB
    process.store.patrol(120.0)
    eventually(lambda: node.stats()["lent"] == 0)
    eventually(lambda: os.fstat(node.service.arena_fd).st_blocks == 0)


def test_objects_are_announced_after_a_while_without_being_asked(node: StoreNode) -> None:
    process = node.connect()
    made = process.put(b"x")
    process.store.patrol(1000.0)
    assert "Sealed" not in process.sent
    process.store.patrol(1001.0)
    eventually(lambda: len(node.ask(node.service.list_objects)) == 1)
    (record,) = node.ask(node.service.list_objects)
    assert record["object_id"] == made.hex()
    assert (record["location"], record["object_size"], record["owner"]) == ("memory", 1, process.address.hex())


def test_the_store_works_without_memfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    shared = Path("/dev/shm")
    before = set(shared.iterdir()) if shared.is_dir() else set()
    with StoreNode(tmp_path, CAPACITY) as node:
        writer, reader = node.connect(), node.connect()
        made = filled(writer, 15, 5 * MIB)
        assert [reader.store.read(object_id)[9] for object_id in made] == list(range(15))
        assert (set(shared.iterdir()) if shared.is_dir() else set()) == before


def test_views_outlive_the_store(node: StoreNode) -> None:
    process = node.connect()
    view = process.store.read(process.put(b"still here"))
    array = np.frombuffer(view, np.uint8)
    node.disconnect(process)
    assert array.tobytes() == b"still here"


def test_a_copy_of_any_format_is_exact() -> None:
    source = np.arange(3 * MIB // 2, dtype=np.float64)
    target = bytearray(source.nbytes + 10)
    copy_into(memoryview(target), memoryview(source))
    assert bytes(target[: source.nbytes]) == source.tobytes()
    copy_into(memoryview(target), memoryview(np.arange(6).reshape(2, 3)))
    assert bytes(target[:48]) == np.arange(6).tobytes()


def test_a_client_that_lies_about_files_and_ranges_is_ignored(
    node: StoreNode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from core.protocol import to_node

    precious = tmp_path / "precious"
    precious.write_text("keep")
    liar = node.connect()
    with caplog.at_level(logging.WARNING):
        liar._send(to_node.SealedFile(b"o" * 28, str(precious), 4))
        liar._send(to_node.Freed([b"o" * 28]))
        liar._send(to_node.Sealed([(b"p" * 28, 0, CAPACITY), (b"q" * 28, 1 << 62, 1 << 62)]))
        liar._send(to_node.ExtentReturn([(0, CAPACITY), (-64, 64), (1 << 60, 64)]))
        liar._send(to_node.EvictReply(12345, [b"o" * 28]))
        liar._send(to_node.Unpin([b"o" * 28]))
        assert node.stats()["free"] == CAPACITY
        eventually(lambda: len(caplog.records) >= 6)
    assert precious.read_text() == "keep"
    assert node.connect().put(b"fine")
