"""Wrong arguments of the public functions: one clear error at the call, and the session goes on as if nothing was.

What travels to the node daemon or a worker must be checked before: a peer closes the connection over a bad field, and
an encoder that gives up in the middle of a submission leaves what was reserved for it reserved.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import core
from core.exceptions import ActorDiedError
from core.util import (
    ActorPool,
    Executor,
    Queue,
    get_placement_group,
    kv,
    list_named_actors,
    metrics,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from core.util import map_unordered as util_map_unordered
from core.util.multiprocessing import Pool
from core.util.scheduling_strategies import PlacementGroupSchedulingStrategy

#: Text that no UTF-8 can express; file names have it.
SURROGATE = "\udc80"


@core.remote
def echo(value: Any = None) -> Any:
    return value


@core.remote
class Holder:
    def get(self, value: Any = None) -> Any:
        return value


async def coroutine(value: Any) -> Any:
    return value


@pytest.fixture(params=["native", "inline"], scope="module")
def session(request: pytest.FixtureRequest) -> Iterator[core.ActorHandle[Any]]:
    core.init(num_cpus=2, engine=request.param)
    yield Holder.remote()
    core.shutdown()


Wrong = Callable[[Any], object]

TYPE_ERRORS: list[tuple[str, Wrong]] = [
    ("timeout of get.*str: '1'", lambda a: core.get(echo.remote(), timeout="1")),  # type: ignore[call-overload]
    ("timeout of wait.*str: '1'", lambda a: core.wait([core.put(1)], timeout="1")),  # type: ignore[arg-type]
    ("timeout of wait.*bool", lambda a: core.wait([core.put(1)], timeout=True)),
    ("num_returns must be an int, got float", lambda a: core.wait([core.put(1)], num_returns=1.0)),  # type: ignore[arg-type]
    ("force must be True or False", lambda a: core.cancel(core.put(1), force="yes")),  # type: ignore[arg-type]
    ("recursive must be", lambda a: core.cancel(core.put(1), recursive=None)),  # type: ignore[arg-type]
    ("no_restart must be", lambda a: core.kill(a, no_restart="yes")),  # type: ignore[arg-type]
    ("no_restart must be", lambda a: core.kill(a, no_restart=None)),  # type: ignore[arg-type]
    ("name of an actor must be a str", lambda a: core.get_actor(5)),  # type: ignore[arg-type]
    ("namespace must be a str, got int: 5", lambda a: core.get_actor("x", namespace=5)),  # type: ignore[arg-type]
    ("all_namespaces must be", lambda a: list_named_actors(all_namespaces="x")),  # type: ignore[call-overload]
    ("name of a placement group", lambda a: placement_group([{"CPU": 1}], name=5)),  # type: ignore[arg-type]
    ("name of a placement group", lambda a: get_placement_group(5)),  # type: ignore[arg-type]
    ("takes a PlacementGroup, got int", lambda a: remove_placement_group(5)),  # type: ignore[arg-type]
    ("takes a PlacementGroup, got str", lambda a: placement_group_table("x")),  # type: ignore[arg-type]
    ("must be a PlacementGroup or None", lambda a: echo.options(placement_group="x")),
    (
        "must be a PlacementGroup or None",
        lambda a: echo.options(scheduling_strategy=PlacementGroupSchedulingStrategy(5)),
    ),  # type: ignore[arg-type]
    ("expected_version must be an int", lambda a: kv.put("k", b"", expected_version="1")),  # type: ignore[arg-type]
    ("expected_version must be an int", lambda a: kv.delete("k", expected_version="1")),  # type: ignore[arg-type]
    ("after_version must be an int", lambda a: kv.watch("k", "1")),  # type: ignore[arg-type]
    ("version must be an int", lambda a: kv.when_taken("k", "1")),  # type: ignore[arg-type]
    ("shape of empty", lambda a: core.empty("x")),
    ("shape of empty", lambda a: core.empty(1.5)),  # type: ignore[arg-type]
    ("Python objects", lambda a: core.empty(2, dtype=object)),
    ("takes a function of one argument", lambda a: core.map(a.get, [1])),
    ("got ActorClass", lambda a: core.map(Holder, [1])),
    ("an 'async def' function", lambda a: core.map(coroutine, [1])),
    ("options of map", lambda a: core.map(len, [""], options=5)),  # type: ignore[arg-type]
    ("options of map", lambda a: core.map(echo, [""], options=5)),  # type: ignore[arg-type]
    ("takes a remote function", lambda a: util_map_unordered(len, [""])),
    ("holds actor handles, got int", lambda a: ActorPool([1])),
    ("holds actor handles, got ActorClass", lambda a: ActorPool([a]).push(Holder)),
    ("must return the reference of a call", lambda a: list(ActorPool([a]).map(lambda _, value: value, [1]))),
    ("maxsize must be an int", lambda a: Queue("x")),  # type: ignore[arg-type]
    ("actor_options must be a dict", lambda a: Queue(actor_options=5)),  # type: ignore[arg-type]
    ("processes must be an int", lambda a: Pool("x")),  # type: ignore[arg-type]
    ("max_workers must be an int", lambda a: Executor("x")),  # type: ignore[arg-type]
    ("name of a metric must be a str", lambda a: metrics.Counter(5)),  # type: ignore[arg-type]
    ("wrap it in a function", lambda a: core.remote(functools.partial(len, ""))),
]

VALUE_ERRORS: list[tuple[str, Wrong]] = [
    ("got nan", lambda a: core.get(echo.remote(), timeout=float("nan"))),
    ("got nan", lambda a: core.wait([core.put(1)], timeout=float("nan"))),
    ("get_actor.name. gives the handle", lambda a: core.kill("counter")),  # type: ignore[arg-type]
    ("name must be text that UTF-8", lambda a: echo.options(name=SURROGATE)),
    ("name must be text that UTF-8", lambda a: Holder.options(name=SURROGATE)),
    ("name must be text that UTF-8", lambda a: a.get.options(name=SURROGATE)),
    ("must be text that UTF-8", lambda a: core.get_actor(SURROGATE)),
    ("must be text that UTF-8", lambda a: echo.options(resources={SURROGATE: 1})),
    ("must be text that UTF-8", lambda a: echo.options(runtime_env={"env_vars": {"A": SURROGATE}})),
    ("must be text that UTF-8", lambda a: echo.options(label_selector={"zone": SURROGATE})),
    ("must be text that UTF-8", lambda a: kv.get(SURROGATE)),
    ("must be text that UTF-8", lambda a: kv.watch(SURROGATE)),
    ("must be at most", lambda a: echo.options(max_retries=10**30)),
    ("must be at most", lambda a: core.remote(max_calls=10**30)(len)),
    ("must be at most.*yield them", lambda a: echo.options(num_returns=10**12)),
    ("must be at most", lambda a: Holder.options(max_concurrency=10**30)),
    ("largest amount", lambda a: echo.options(num_cpus=1e300)),
    ("cannot hold more than", lambda a: placement_group([{"CPU": 1e300}])),
    ("no placement_group is given", lambda a: echo.options(placement_group_bundle_index=3)),
    ("negative dimensions", lambda a: core.empty((2, -1))),
    ("no actor .any more.", lambda a: list(ActorPool([]).map(lambda actor, value: actor.get.remote(value), [1]))),
    ("Invalid `boundaries`", lambda a: metrics.Histogram("wrong", boundaries="x")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("says", "wrong"), TYPE_ERRORS, ids=[says for says, _ in TYPE_ERRORS])
def test_wrong_type(session: Any, says: str, wrong: Wrong) -> None:
    with pytest.raises(TypeError, match=says):
        wrong(session)
    assert core.get([echo.remote(1), session.get.remote(2)]) == [1, 2]


@pytest.mark.parametrize(("says", "wrong"), VALUE_ERRORS, ids=[says for says, _ in VALUE_ERRORS])
def test_wrong_value(session: Any, says: str, wrong: Wrong) -> None:
    with pytest.raises(ValueError, match=says):
        wrong(session)
    assert core.get([echo.remote(1), session.get.remote(2)]) == [1, 2]


def test_numbers_of_numpy_are_numbers(session: Any) -> None:
    ref = core.put(1)
    assert core.get(ref, timeout=np.float32(5)) == 1
    assert core.wait([ref], num_returns=np.int64(1), timeout=np.int64(5)) == ([ref], [])  # type: ignore[arg-type]
    assert core.empty(np.int64(3)).shape == (3,)
    assert core.empty((np.int64(3), 2)).shape == (3, 2)


def test_the_argument_that_cannot_be_pickled_is_named(session: Any) -> None:
    with pytest.raises(TypeError, match="argument 2: cannot pickle"):
        core.remote(max).remote(1, threading.Lock())
    with pytest.raises(TypeError, match=r"argument 'value'\['lock'\]: cannot pickle"):
        echo.remote(value={"lock": threading.Lock()})


def test_a_missing_method_names_those_there_are(session: Any) -> None:
    with pytest.raises(AttributeError, match="has no method 'value'; it has: get"):
        session.value.remote()


def test_remote_says_what_it_was_given() -> None:
    with pytest.raises(AssertionError, match=r"remote\(num_cpus=2\)\(f\); got remote\(3\)"):
        core.remote(3)  # type: ignore[call-overload]


def test_an_actor_pool_keeps_the_actor_when_a_call_cannot_be_made(session: Any) -> None:
    pool = ActorPool([session])
    with pytest.raises(TypeError):
        pool.submit(lambda actor, value: actor.get.remote(value, value), 1)
    assert list(pool.map(lambda actor, value: actor.get.remote(value), [1, 2])) == [1, 2]


def test_a_queue_that_was_shut_down_says_so(session: Any) -> None:
    queue = Queue()
    queue.shutdown()
    with pytest.raises(ActorDiedError, match="shut down"):
        queue.get_nowait()
