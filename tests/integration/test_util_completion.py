"""Results as they come, and the smaller public functions of ``core.util``."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import core
from core import util
from tests.conformance.rendezvous import Gate, Tally

pytestmark = pytest.mark.usefixtures("session")


@core.remote
def double(x: int) -> int:
    return 2 * x


@core.remote
def wait_for(gate: Gate) -> str:
    gate.wait()
    return "through"


@core.remote
class Greeter:
    def greet(self) -> str:
        return "hello"


def test_as_completed_gives_every_result() -> None:
    refs = [double.remote(x) for x in range(25)]
    assert sorted(util.as_completed(refs)) == [2 * x for x in range(25)]
    assert set(util.as_completed(refs, chunk_size=3, yield_obj_refs=True)) == set(refs)
    assert list(util.as_completed([])) == []


def test_as_completed_does_not_wait_for_the_slow_one(tmp_path: Path) -> None:
    gate = Gate(str(tmp_path / "gate"))
    results = util.as_completed([wait_for.remote(gate), double.remote(1)], chunk_size=1)
    assert next(results) == 2
    gate.open()
    assert list(results) == ["through"]


def test_map_unordered_limits_what_is_under_way(tmp_path: Path) -> None:
    tally = Tally(str(tmp_path / "tally"))

    @core.remote
    def work(x: int) -> int:
        tally.add(x)
        return x

    results = util.map_unordered(work, itertools.count(), backpressure_size=4, chunk_size=1)
    assert len({next(results) for _ in range(5)}) == 5
    assert tally.count() <= 4 + 5
    assert sorted(util.map_unordered(double, range(20), backpressure_size=None)) == [2 * x for x in range(20)]


def test_wrong_sizes_are_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        util.as_completed([], chunk_size=0)
    with pytest.raises(ValueError, match="num_returns"):
        util.as_completed([], num_returns=1)
    with pytest.raises(ValueError, match="backpressure_size"):
        util.map_unordered(double, [], backpressure_size=0)
    with pytest.raises(ValueError, match="chunk_size"):
        util.map_unordered(double, [], chunk_size=0)


def test_named_actors_are_listed() -> None:
    assert util.list_named_actors() == []
    here = Greeter.options(name="here").remote()
    there = Greeter.options(name="there", namespace="elsewhere").remote()
    core.get([here.greet.remote(), there.greet.remote()])
    assert util.list_named_actors() == ["here"]
    everywhere = util.list_named_actors(all_namespaces=True)
    assert {"name": "there", "namespace": "elsewhere"} in everywhere
    assert {row["name"] for row in everywhere} == {"here", "there"}


def test_node_address_is_the_one_in_nodes() -> None:
    assert util.get_node_ip_address() in {node["NodeManagerAddress"] for node in core.nodes()}


def test_log_once_is_true_once_per_process() -> None:
    key = object()
    assert [util.log_once(key) for _ in range(3)] == [True, False, False]
    assert util.log_once(object())


class Locked:
    """Cannot be pickled."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.lock = threading.Lock()


class LockedChild(Locked):
    pass


def test_a_registered_serializer_is_used_both_ways() -> None:
    @core.remote
    def next_one(locked: Locked) -> Locked:
        # A worker that sends such objects back registers the class itself.
        util.register_serializer(Locked, serializer=lambda x: x.value, deserializer=Locked)
        with locked.lock:
            return Locked(locked.value + 1)

    @core.remote
    def read(locked: Locked) -> Any:
        return locked.value

    with pytest.raises(TypeError, match="lock"):
        core.put(Locked(1))
    util.register_serializer(Locked, serializer=lambda x: x.value, deserializer=Locked)
    try:
        assert core.get(next_one.remote(Locked(1))).value == 2
        assert core.get(read.remote(core.put(Locked([5])))) == [5]
        with pytest.raises(TypeError, match="lock"):
            core.put(LockedChild(1))
    finally:
        util.deregister_serializer(Locked)
    with pytest.raises(TypeError, match="lock"):
        core.put(Locked(1))
    util.deregister_serializer(Locked)


def test_inspect_serializability_names_the_culprit(capsys: pytest.CaptureFixture[str]) -> None:
    model = Locked(3)

    def train() -> Any:
        return model.value

    serializable, failures = util.inspect_serializability(train, name="train")
    assert not serializable
    (failure,) = failures
    assert failure.obj is model.lock
    assert failure.path == ("train", "closure variable model", ".lock")
    assert "train -> closure variable model.lock" in capsys.readouterr().out


def test_inspect_serializability_takes_references_and_handles() -> None:
    serializable, failures = util.inspect_serializability({"ref": core.put(1), "actor": Greeter.remote()})
    assert (serializable, failures) == (True, set())


def test_util_is_imported_lazily_and_whole() -> None:
    program = (
        "import sys, core\n"
        "import core.util.placement_group, core.util as util\n"
        "assert callable(util.placement_group), util.placement_group\n"
        "print([name for name in util.__all__ if name != 'joblib' and not hasattr(util, name)])\n"
        "print('joblib' in sys.modules or 'numpy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["[]", "False"]
