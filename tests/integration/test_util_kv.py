"""``core.util.kv`` between real processes, and in the inline engine."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

import core
from core.exceptions import RaySystemError
from core.util import kv

PATIENCE = 60


@pytest.fixture(params=["native", "inline"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    core.init(num_cpus=2, engine=request.param)
    yield request.param
    core.shutdown()


def test_put_get_delete_keys(engine: str) -> None:
    assert kv.get("k") is None
    first = kv.put("k", b"one")
    assert kv.get("k") == (b"one", first)
    second = kv.put("k", b"two")
    assert second > first
    kv.put("l/1", b"")
    assert kv.keys() == ["k", "l/1"]
    assert kv.keys("l/") == ["l/1"]
    assert kv.delete("k")
    assert not kv.delete("k")
    assert kv.get("k") is None


def test_only_the_first_of_two_changes_counts(engine: str) -> None:
    version = kv.put("k", b"one", expected_version=0)
    with pytest.raises(kv.VersionConflictError, match=f"'k' has version {version}, but it was expected not to be"):
        kv.put("k", b"two", expected_version=0)
    kv.put("k", b"two", expected_version=version)
    with pytest.raises(kv.VersionConflictError, match=f"version {version} was expected"):
        kv.delete("k", expected_version=version)
    assert kv.get("k") is not None


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: kv.put("k", "text"), TypeError, "a value is bytes, not str"),
        (lambda: kv.put("", b""), TypeError, "a key is a text that is not empty"),
        (lambda: kv.put("k" * 2000, b""), ValueError, "1 to 1024 bytes, not 2000"),
        (lambda: kv.put("k", bytes(9 * 1024 * 1024)), ValueError, "at most 8,388,608 bytes"),
        (lambda: kv.keys(None), TypeError, "a prefix is a text"),
    ],
)
def test_bad_input(engine: str, call: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()  # type: ignore[operator]


def test_a_watch_in_a_thread(engine: str) -> None:
    told: list[tuple[str, bytes | None]] = []
    kv.put("w/0", b"before")
    watch = kv.watch("w/")

    def follow() -> None:
        told.extend((key, value) for key, value, _ in watch)

    thread = threading.Thread(target=follow)
    thread.start()
    version = kv.put("w/1", b"one")
    kv.when_taken("w/1", version).result(PATIENCE)
    kv.delete("w/0")
    version = kv.put("w/2", b"two")
    kv.when_taken("w/2", version).result(PATIENCE)
    watch.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert told == [("w/0", b"before"), ("w/1", b"one"), ("w/0", None), ("w/2", b"two")]


def test_a_watch_from_now_on_and_its_timeout(engine: str) -> None:
    kv.put("k", b"old")
    with kv.watch("k", after_version=None) as watch:
        assert watch.poll(0) is None
        version = kv.put("k", b"new")
        assert watch.poll(PATIENCE) == ("k", b"new", version)
        assert watch.version == version


def test_a_watch_in_asyncio(engine: str) -> None:
    async def follow() -> list[kv.Change]:
        found = []
        with kv.watch("k") as watch:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), 0.01)
            version = kv.put("k", b"1")
            found.append(await anext(watch))
            taken = asyncio.wrap_future(kv.when_taken("k", version))
            assert not taken.done()
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.wait_for(taken, PATIENCE)
            kv.delete("k")
            found.append(await waiting)
            ending = asyncio.ensure_future(anext(watch, None))
            await asyncio.sleep(0)
        assert await ending is None
        return found

    assert [(key, value) for key, value, _ in asyncio.run(follow())] == [("k", b"1"), ("k", None)]


def test_a_large_value_comes_whole(engine: str) -> None:
    value = os.urandom(kv_limit())
    kv.put("large", value)
    entry = kv.get("large")
    assert entry is not None
    assert entry.value == value
    with kv.watch("large") as watch:
        change = watch.poll(PATIENCE)
        assert change is not None
        assert change.value == value


def kv_limit() -> int:
    return 8 * 1024 * 1024


@core.remote
class Follower:
    """Tells by a key of its own what it was told."""

    async def follow(self, prefix: str) -> None:
        async for change in kv.watch(prefix):
            kv.put(f"heard/{change.key}", change.value or b"")

    async def wait_in_the_loop(self, prefix: str) -> bytes | None:
        change = kv.watch(prefix).poll(PATIENCE)
        return change.value if change is not None else None

    def pid(self) -> int:
        return os.getpid()


def test_processes_hear_of_each_other(session: object) -> None:
    follower = Follower.remote()
    following = follower.follow.remote("news/")
    with kv.watch("heard/") as heard:
        put_in_a_task = core.remote(lambda: kv.put("news/1", b"hello"))
        version = core.get(put_in_a_task.remote())
        change = heard.poll(PATIENCE)
        assert change is not None
        assert (change.key, change.value) == ("heard/news/1", b"hello")
        assert change.version > version
    core.kill(follower)
    del following


def test_a_watch_may_block_the_loop_of_an_asyncio_actor(session: object) -> None:
    follower = Follower.remote()
    core.get(follower.pid.remote())
    waiting = follower.wait_in_the_loop.remote("late/")
    kv.put("late/1", b"there")
    assert core.get(waiting, timeout=PATIENCE) == b"there"


def test_a_watcher_that_dies_is_not_waited_for(session: object) -> None:
    follower = Follower.remote()
    following = follower.follow.remote("news/")
    with kv.watch("heard/") as heard:
        version = kv.put("news/1", b"")
        assert heard.poll(PATIENCE) is not None
    kv.when_taken("news/1", version).result(PATIENCE)
    pid = core.get(follower.pid.remote())
    os.kill(pid, signal.SIGSTOP)
    version = kv.put("news/2", b"")
    taken = kv.when_taken("news/2", version)
    assert not taken.done()
    os.kill(pid, signal.SIGKILL)
    taken.result(PATIENCE)
    del following


def test_values_outlive_their_process_and_end_with_the_session() -> None:
    core.init(num_cpus=1)
    try:
        core.get(core.remote(max_calls=1)(lambda: kv.put("k", b"v")).remote())
        assert kv.get("k") is not None
        watch = kv.watch("nothing")
        waiting = threading.Thread(target=lambda: ended.append(_error(watch)))
        ended: list[BaseException | None] = []
        waiting.start()
    finally:
        core.shutdown()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert isinstance(ended[0], RaySystemError)
    core.init(num_cpus=1)
    try:
        assert kv.get("k") is None
    finally:
        core.shutdown()


def _error(watch: kv.Watch) -> BaseException | None:
    try:
        watch.poll()
    except RaySystemError as error:
        return error
    return None


def test_a_thread_that_a_task_left_behind_gives_way_to_an_asyncio_actor(session: object) -> None:
    @core.remote
    def leave() -> int:
        threading.Thread(target=lambda: kv.watch("never/").poll(), daemon=True).start()
        return os.getpid()

    for _ in range(4):  # whichever worker becomes the actor
        core.get([leave.remote(), leave.remote()])
    actors = [Follower.remote() for _ in range(2)]
    waiting = [actor.wait_in_the_loop.remote("late/") for actor in actors]
    kv.put("late/1", b"there")
    assert core.get(waiting, timeout=PATIENCE) == [b"there", b"there"]
