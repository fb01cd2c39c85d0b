"""The public functions, on the inline engine: argument checks, decorators, session life, ``map``."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

import core
from core import current, exceptions
from core.api.actor_class import ActorClass
from core.api.remote_function import RemoteFunction


@pytest.fixture(autouse=True)
def inline() -> Iterator[None]:
    core.init(engine="inline", num_cpus=2, labels={"zone": "a"})
    yield
    core.shutdown()


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


class Counter:
    """Counts."""

    def __init__(self, start: int) -> None:
        self.n = start

    def add(self, k: int) -> int:
        self.n += k
        return self.n

    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    @classmethod
    def make(cls, x: int) -> str:
        return f"{cls.__name__}{x}"


# remote --------------------------------------------------------------------------------------------------------------


def test_a_remote_function_keeps_its_identity() -> None:
    remote = core.remote(add)
    assert isinstance(remote, RemoteFunction)
    assert (remote.__name__, remote.__doc__) == ("add", "Add two numbers.")
    assert remote.__wrapped__ is add
    assert core.remote(Counter).__doc__ == "Counts."


def test_options_do_not_change_the_original() -> None:
    remote: Any = core.remote(add)
    assert core.get(remote.options(num_returns=1, name="x").remote(1)) == 2
    assert remote.plain[1].name == ""


def test_parentheses_without_options_are_refused() -> None:
    with pytest.raises(AssertionError, match="num_cpus"):
        core.remote()
    with pytest.raises(AssertionError):
        core.method()


@pytest.mark.parametrize("target", [3, "f", add(1), object()])
def test_only_functions_and_classes_become_remote(target: Any) -> None:
    with pytest.raises((TypeError, AssertionError)):
        core.remote(target)


def test_remote_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="already"):
        core.remote(core.remote(add))  # type: ignore[call-overload]


def test_a_direct_call_names_the_right_one() -> None:
    with pytest.raises(TypeError, match=r"add\.remote\(\)"):
        core.remote(add)(1)  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"Counter\.remote\(\)"):
        core.remote(Counter)(1)  # type: ignore[operator]
    counter = core.remote(Counter).remote(1)
    with pytest.raises(TypeError, match=r"\.add\.remote\(\)"):
        counter.add(1)


def test_an_actor_class_cannot_be_subclassed() -> None:
    base: Any = core.remote(Counter)
    with pytest.raises(TypeError, match="plain class"):

        class Sub(base):  # type: ignore[misc]
            pass


def test_coroutine_functions_are_no_tasks() -> None:
    async def coroutine() -> None: ...

    with pytest.raises(ValueError, match="async def"):
        core.remote(coroutine)


def test_wrong_arguments_fail_at_the_call() -> None:
    remote: Any = core.remote(add)
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'a'"):
        remote.remote()
    actor: Any = core.remote(Counter)
    with pytest.raises(TypeError, match=r"Counter\.__init__\(\)"):
        actor.remote()
    with pytest.raises(TypeError, match=r"takes 1 positional argument|unexpected"):
        actor.remote(1).add.remote(1, 2)


def test_a_class_without_init_takes_no_arguments() -> None:
    class Bare:
        pass

    with pytest.raises(TypeError, match="takes 0 positional arguments"):
        core.remote(Bare).remote(1)


def test_static_and_class_methods_can_be_called() -> None:
    counter = core.remote(Counter).remote(0)
    assert core.get([counter.double.remote(4), counter.make.remote(3)]) == [8, "Counter3"]


def test_methods_that_do_not_exist_are_attribute_errors() -> None:
    counter = core.remote(Counter).remote(0)
    with pytest.raises(AttributeError, match="subtract"):
        _ = counter.subtract
    assert "add" in dir(counter)


def test_built_in_methods() -> None:
    counter = core.remote(Counter).remote(5)
    assert core.get(counter.__ray_ready__.remote()) is True
    assert core.get(counter.__ray_call__.remote(lambda self, k: self.n * k, 2)) == 10
    core.get(counter.__ray_ready__.remote())
    with pytest.raises(exceptions.ActorDiedError):
        core.get(counter.__ray_terminate__.remote())


def test_options_of_methods_are_checked_with_the_class() -> None:
    class Grouped:
        @core.method(concurrency_group="io")
        def read(self) -> None: ...

    with pytest.raises(ValueError, match="'io'"):
        core.remote(Grouped)
    core.remote(concurrency_groups={"io": 2})(Grouped)
    with pytest.raises(ValueError, match="actor methods"):
        core.method(num_cpus=2)  # type: ignore[call-overload]


def test_in_order_execution_needs_one_call_at_a_time() -> None:
    class Asynchronous:
        async def run(self) -> None: ...

    with pytest.raises(ValueError, match="one call at a time"):
        core.remote(allow_out_of_order_execution=False)(Asynchronous)
    with pytest.raises(ValueError, match="one call at a time"):
        core.remote(allow_out_of_order_execution=False, max_concurrency=2)(Counter)


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_remote_functions_and_classes_are_pickled(dumps: Any) -> None:
    function = pickle.loads(dumps(core.remote(num_cpus=2)(add)))
    assert function.plain[1].lease.resources == (("CPU", 20_000),)
    assert core.get(function.remote(1)) == 2
    actor = pickle.loads(dumps(core.remote(Counter)))
    assert isinstance(actor, ActorClass)
    assert core.get(actor.remote(1).add.remote(1)) == 2


def test_a_recursive_remote_function_is_pickled() -> None:
    @core.remote
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + core.get(depth.remote(n - 1))

    assert core.get(cloudpickle.loads(cloudpickle.dumps(depth)).remote(3)) == 3


# objects -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refs", [(1,), 3, "x", None, {}])
def test_get_takes_references_and_lists(refs: Any) -> None:
    with pytest.raises(ValueError, match="list"):
        core.get(refs)


def test_get_checks_its_list_and_timeout() -> None:
    with pytest.raises(TypeError, match="int"):
        core.get([core.put(1), 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout"):
        core.get(core.put(1), timeout="soon")  # type: ignore[call-overload]
    assert core.get(core.put(1), timeout=-1) == 1
    assert core.get([]) == []


def test_put_refuses_references() -> None:
    with pytest.raises(TypeError, match="ObjectRef"):
        core.put(core.put(1))


@pytest.mark.parametrize(
    ("options", "error"),
    [({"num_returns": 0}, ValueError), ({"num_returns": 3}, ValueError), ({"num_returns": 1.0}, TypeError)],
)
def test_wait_checks_num_returns(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="num_returns"):
        core.wait([core.put(1), core.put(2)], **options)


def test_wait_checks_its_list() -> None:
    ref = core.put(1)
    for refs in (ref, (ref,), "x"):
        with pytest.raises(TypeError, match="list"):
            core.wait(refs)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int"):
        core.wait([1])  # type: ignore[type-var]
    with pytest.raises(ValueError, match="duplicates"):
        core.wait([ref, ref])
    with pytest.raises(ValueError, match="negative"):
        core.wait([ref], timeout=-1)
    assert core.wait([]) == ([], [])


def test_wait_takes_generators_among_references() -> None:
    @core.remote
    def count() -> Iterator[int]:
        yield from range(2)

    stream, ref = count.remote(), core.put(1)
    mixed: Any = [stream, ref]
    assert core.wait(mixed, num_returns=2) == (mixed, [])
    assert [core.get(item) for item in stream] == [0, 1]
    assert core.wait([stream], timeout=0) == ([stream], [])


@pytest.mark.parametrize("target", [1, None, "ref", [1]])
def test_cancel_and_kill_check_their_targets(target: Any) -> None:
    with pytest.raises(TypeError):
        core.cancel(target)
    with pytest.raises(ValueError, match="actor handle"):
        core.kill(target)


def test_get_actor_checks_its_arguments() -> None:
    for name in ("", None, "absent"):
        with pytest.raises(ValueError, match="name"):
            core.get_actor(name)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="namespace"):
        core.get_actor("a", "")


def test_exit_actor_is_for_actors() -> None:
    with pytest.raises(TypeError, match="actor"):
        core.exit_actor()


def test_empty_gives_an_array_to_fill() -> None:
    array = core.empty((2, 3), "int32")
    array[:] = 7
    assert core.get(core.put(array)).sum() == 42


# the session ---------------------------------------------------------------------------------------------------------


def test_a_second_init_is_refused_or_ignored() -> None:
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        core.init(engine="inline")
    before = current.engine
    core.init(ignore_reinit_error=True)
    assert current.engine is before


def test_shutdown_is_idempotent_and_ends_references() -> None:
    ref, counter = core.put(1), core.remote(Counter).remote(1)
    core.shutdown()
    core.shutdown()
    assert not core.is_initialized()
    with pytest.raises(exceptions.RaySystemError, match="needs a running session"):
        core.get(ref)
    with pytest.raises(exceptions.ActorHandleNotFoundError):
        core.kill(counter)
    with pytest.raises(exceptions.RaySystemError):
        counter.add.remote(1)
    assert not core.is_initialized(), "a stale reference must not start a session"
    core.init(engine="inline")
    with pytest.raises(ValueError, match="owner"):
        core.get(ref)
    with pytest.raises(exceptions.ActorHandleNotFoundError):
        core.kill(counter)


def test_the_context_is_a_mapping_and_ends_the_session() -> None:
    core.shutdown()
    with core.init(engine="inline") as context:
        assert context["session_dir"]
        assert set(context) == set(context.address_info)
        assert "node_id" in context
    assert not core.is_initialized()


def test_shutdown_in_a_task_is_ignored() -> None:
    @core.remote
    def end() -> None:
        core.shutdown()

    with pytest.warns(RuntimeWarning, match="ignored"):
        core.get(end.remote())
    assert core.is_initialized()


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "ray://host:10001"])
def test_joining_a_cluster_is_refused_clearly(address: str) -> None:
    core.shutdown()
    with pytest.raises(ConnectionError, match=r"[lL]eave address out"):
        core.init(address)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_cpu": 1}, RuntimeError, "num_cpus"),
        ({"num_cpus": "4"}, TypeError, "num_cpus"),
        ({"num_cpus": -1}, ValueError, "num_cpus"),
        ({"resources": {"CPU": 1}}, ValueError, "CPU"),
        ({"resources": 3}, TypeError, "resources"),
        ({"object_store_memory": 0}, ValueError, "object_store_memory"),
        ({"namespace": ""}, ValueError, "namespace"),
        ({"namespace": 3}, TypeError, "namespace"),
        ({"labels": {"a": 1}}, TypeError, "labels"),
        ({"runtime_env": {"pip": ["x"]}}, ValueError, "pip"),
        ({"logging_level": "loud"}, ValueError, "logging_level"),
        ({"local_mode": True}, RuntimeError, "inline"),
        ({"engine": "steam"}, ValueError, "native"),
    ],
)
def test_bad_options_of_init_are_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    core.shutdown()
    with pytest.raises(error, match=text):
        core.init(**({"engine": "inline"} | options))
    assert not core.is_initialized()


def test_options_without_effect_say_so() -> None:
    core.shutdown()
    with pytest.warns(RuntimeWarning, match="include_dashboard"):
        core.init(engine="inline", include_dashboard=True)
    core.shutdown()
    core.init(engine="inline", include_dashboard=False, dashboard_host="127.0.0.1", configure_logging=False)


def test_a_program_needs_no_init() -> None:
    program = "import core; f = core.remote(lambda: 41); print(core.get(f.remote()) + 1)"
    environment = {**os.environ, "SKATE_ENGINE": "inline"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["42"]
    environment["SKATE_AUTO_INIT"] = "0"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "SKATE_AUTO_INIT" in done.stderr


def test_state() -> None:
    [node] = core.nodes()
    assert node["Alive"]
    assert node["Labels"]["zone"] == "a"
    assert core.cluster_resources()["CPU"] == 2
    context = core.get_runtime_context()
    assert context.get_node_id() == node["NodeID"]
    assert context.get_task_id() is None
    assert context.get_node_labels()["zone"] == "a"
    with pytest.raises(RuntimeError, match="actor"):
        _ = context.current_actor
    core.get(core.remote(add).remote(1))
    events = core.timeline()
    assert events
    assert events[-1]["name"] == "add"


def test_the_timeline_is_written(tmp_path: Any) -> None:
    core.get(core.remote(add).remote(1))
    assert core.timeline(str(tmp_path / "trace.json")) is None
    assert '"add"' in (tmp_path / "trace.json").read_text()


# map -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["auto", 1, 7, 1000])
def test_map_keeps_the_order(batch: Any) -> None:
    assert list(core.map(add, range(100), batch=batch)) == list(range(1, 101))
    assert sorted(core.map_unordered(add, range(100), batch=batch)) == list(range(1, 101))


def test_map_is_lazy_about_items() -> None:
    results = core.map(add, itertools.count())
    assert list(itertools.islice(results, 5)) == [1, 2, 3, 4, 5]
    results.close()  # type: ignore[attr-defined]


def test_map_takes_nothing_remote_functions_and_references() -> None:
    assert list(core.map(add, [])) == []
    remote = core.remote(add)
    mixed: list[int | core.ObjectRef[int]] = [1, core.put(2)]
    assert list(core.map(remote, mixed)) == [2, 3]


@pytest.mark.parametrize("batch", [1, 4])
def test_an_error_in_map_comes_after_the_results_before_it(batch: int) -> None:
    def fail_at_six(x: int) -> int:
        if x == 6:
            raise KeyError(x)
        return x

    got = []
    with pytest.raises(KeyError) as raised:
        for value in core.map(fail_at_six, range(10), batch=batch):
            got.append(value)
    assert got == [0, 1, 2, 3, 4, 5]
    assert isinstance(raised.value, exceptions.RayTaskError)
    assert any("item 6" in note for note in raised.value.__notes__)


def test_map_checks_its_arguments_at_the_call() -> None:
    with pytest.raises(TypeError, match="function"):
        core.map(3, [1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        core.map(add, [1], batch=0)
    with pytest.raises(TypeError, match="batch"):
        core.map(add, [1], batch=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_cpus"):
        core.map(add, [1], options={"num_cpu": 1})


@pytest.mark.parametrize(
    ("name", "advice"), [("tune", "import tune"), ("data", "Coming from Ray"), ("nonsense", "'nonsense'$")]
)
def test_a_name_of_ray_that_is_not_there_is_told_of(name: str, advice: str) -> None:
    with pytest.raises(AttributeError, match=advice):
        getattr(core, name)
    assert not hasattr(core, name)
