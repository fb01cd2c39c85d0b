"""``util``: ActorPool, Queue, Pool and the small functions."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from tests.conformance.target import ray, submodule

pytestmark = pytest.mark.usefixtures("session")
util = submodule("util")
SOON = 30


@ray.remote
def double(x: int) -> int:
    return 2 * x


@ray.remote(num_cpus=0)
class Doubler:
    def double(self, x: int) -> int:
        return 2 * x


@pytest.fixture
def pool(session: None) -> Any:
    """An ActorPool of two actors."""
    return util.ActorPool([Doubler.remote(), Doubler.remote()])


def call(actor: Any, value: int) -> Any:
    return actor.double.remote(value)


def test_actor_pool_maps_in_order(pool: Any) -> None:
    assert list(pool.map(call, range(6))) == [0, 2, 4, 6, 8, 10]


def test_actor_pool_maps_without_order(pool: Any) -> None:
    assert sorted(pool.map_unordered(call, range(6))) == [0, 2, 4, 6, 8, 10]


def test_actor_pool_submit_and_get_next(pool: Any) -> None:
    for value in range(4):
        pool.submit(call, value)
    assert pool.has_next()
    assert [pool.get_next(timeout=SOON) for _ in range(4)] == [0, 2, 4, 6]
    assert not pool.has_next()


def test_actor_pool_get_next_unordered(pool: Any) -> None:
    for value in range(4):
        pool.submit(call, value)
    assert sorted(pool.get_next_unordered(timeout=SOON) for _ in range(4)) == [0, 2, 4, 6]


def test_actor_pool_has_nothing_at_first(pool: Any) -> None:
    assert not pool.has_next()
    with pytest.raises(StopIteration):
        pool.get_next()


def test_actor_pool_push_and_pop(pool: Any) -> None:
    assert pool.has_free()
    first, second = pool.pop_idle(), pool.pop_idle()
    assert pool.pop_idle() is None and not pool.has_free()
    pool.push(first)
    with pytest.raises(ValueError):
        pool.push(first)
    pool.push(second)
    assert list(pool.map(call, [1])) == [2]


@pytest.fixture
def make_queue(session: None) -> Any:
    """A function that makes a Queue, shut down after the test."""
    made: list[Any] = []

    def make(*args: Any, **kwargs: Any) -> Any:
        one = submodule("util.queue").Queue(*args, **kwargs)
        made.append(one)
        return one

    yield make
    for one in made:
        one.shutdown(force=True)


def test_queue_is_first_in_first_out(make_queue: Any) -> None:
    items = make_queue()
    for i in range(3):
        items.put(i)
    assert items.qsize() == items.size() == 3
    assert [items.get() for _ in range(3)] == [0, 1, 2]
    assert items.empty()


def test_queue_of_limited_size(make_queue: Any) -> None:
    module = submodule("util.queue")
    items = make_queue(maxsize=1)
    items.put("only")
    assert items.full()
    with pytest.raises(module.Full):
        items.put_nowait("too much")
    with pytest.raises(queue.Full):
        items.put("too much", timeout=0.05)
    assert items.get_nowait() == "only"
    with pytest.raises(module.Empty):
        items.get_nowait()
    with pytest.raises(queue.Empty):
        items.get(timeout=0.05)


def test_queue_in_batches(make_queue: Any) -> None:
    items = make_queue()
    items.put_nowait_batch([1, 2, 3])
    assert items.get_nowait_batch(2) == [1, 2]
    with pytest.raises(queue.Empty):
        items.get_nowait_batch(2)


@pytest.mark.needs_processes("a task must wait on the queue")
def test_queue_between_processes(make_queue: Any) -> None:
    @ray.remote
    def consume(items: Any, n: int) -> list[int]:
        return [items.get(timeout=SOON) for _ in range(n)]

    items = make_queue()
    ref = consume.remote(items, 3)
    for i in range(3):
        items.put(i)
    assert ray.get(ref, timeout=SOON) == [0, 1, 2]


class TestPool:
    """``util.multiprocessing.Pool``; the pool holds its processes, so it is made by the test itself."""

    @pytest.fixture
    def pool(self, session: None) -> Any:
        pool = submodule("util.multiprocessing").Pool(2)
        yield pool
        pool.terminate()
        pool.join()

    def test_map_and_its_relatives(self, pool: Any) -> None:
        assert pool.map(lambda x: x + 1, range(5)) == [1, 2, 3, 4, 5]
        assert pool.apply(lambda a, b: a * b, (2, 3)) == 6
        assert pool.apply_async(lambda a, b: a * b, (2, 3)).get(timeout=SOON) == 6
        assert pool.starmap(lambda a, b: a * b, [(1, 2), (3, 4)]) == [2, 12]
        assert list(pool.imap(lambda x: 2 * x, range(4))) == [0, 2, 4, 6]
        assert sorted(pool.imap_unordered(lambda x: 2 * x, range(4))) == [0, 2, 4, 6]
        assert pool.map_async(lambda x: x, range(3)).get(timeout=SOON) == [0, 1, 2]

    def test_an_error_in_map(self, pool: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            pool.map(lambda x: 1 // x, [1, 0])

    def test_a_closed_pool_takes_nothing_more(self, pool: Any) -> None:
        pool.close()
        with pytest.raises(ValueError):
            pool.map(lambda x: x, [1])


def test_as_completed_gives_values() -> None:
    refs = [double.remote(i) for i in range(8)]
    assert sorted(util.as_completed(refs, chunk_size=3)) == [0, 2, 4, 6, 8, 10, 12, 14]


def test_map_unordered_gives_values() -> None:
    assert sorted(util.map_unordered(double, range(8), backpressure_size=4, chunk_size=2)) == list(range(0, 16, 2))


def test_inspect_serializability() -> None:
    lock = threading.Lock()
    serializable, _ = util.inspect_serializability(lambda: 1, name="fine")
    assert serializable
    serializable, failures = util.inspect_serializability(lambda: lock, name="broken")
    assert not serializable and failures


def test_metrics_check_their_arguments() -> None:
    metrics = submodule("util.metrics")
    counter = metrics.Counter("conformance_counter", description="counted", tag_keys=("kind",))
    counter.inc(2, tags={"kind": "good"})
    with pytest.raises(ValueError):
        counter.inc(0, tags={"kind": "good"})
    with pytest.raises(ValueError):
        counter.inc(1)
    with pytest.raises(TypeError):
        metrics.Counter("other", tag_keys="kind")
    metrics.Gauge("conformance_gauge").set(3)
    metrics.Histogram("conformance_histogram", boundaries=[1, 2]).observe(1.5)
