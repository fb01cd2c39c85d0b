"""Actors: declaring, creating and calling them; order, threads, and handles on the move."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate, Tally, wait_until
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")
exceptions = ray.exceptions


@ray.remote
class Counter:
    """Counts from a given start."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def increment(self, by: int = 1) -> int:
        self.value += by
        return self.value

    def read(self) -> int:
        return self.value

    def fail(self) -> None:
        self.value += 100
        raise ValueError("method failed")


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def increment_by_task(counter: Any, times: int) -> list[int]:
    return ray.get([counter.increment.remote() for _ in range(times)])


def test_an_actor_keeps_its_state() -> None:
    counter = Counter.remote()
    assert [ray.get(counter.increment.remote()) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(("args", "kwargs"), [((5,), {}), ((), {"start": 5})])
def test_arguments_of_the_constructor(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    assert ray.get(Counter.remote(*args, **kwargs).read.remote()) == 5


def test_references_to_the_constructor_arrive_as_values() -> None:
    assert ray.get(Counter.remote(echo.remote(7)).read.remote()) == 7


def test_references_to_methods_arrive_as_values() -> None:
    counter = Counter.remote()
    assert ray.get(counter.increment.remote(by=echo.remote(3))) == 3


def test_a_class_without_constructor() -> None:
    @ray.remote
    class Plain:
        value = "class attribute"

        def read(self) -> str:
            return self.value

    assert ray.get(Plain.remote().read.remote()) == "class attribute"


def test_remote_may_be_applied_to_a_class_later() -> None:
    class Plain:
        def hello(self) -> str:
            return "hello"

    assert ray.get(ray.remote(Plain).remote().hello.remote()) == "hello"
    assert Plain().hello() == "hello"


def test_actors_are_independent() -> None:
    first, second = Counter.remote(), Counter.remote(100)
    ray.get(first.increment.remote())
    assert ray.get([first.read.remote(), second.read.remote()]) == [1, 100]


@pytest.mark.needs_processes("inline keeps actors in the calling process")
def test_actors_live_in_processes_of_their_own() -> None:
    @ray.remote
    class Process:
        def pid(self) -> int:
            return os.getpid()

    first, second = Process.remote(), Process.remote()
    pids = ray.get([first.pid.remote(), second.pid.remote(), first.pid.remote()])
    assert pids[0] == pids[2] and len({*pids, os.getpid()}) == 3


def test_an_actor_class_cannot_be_called_directly() -> None:
    with pytest.raises(TypeError):
        Counter()


def test_an_actor_method_cannot_be_called_directly() -> None:
    counter = Counter.remote()
    with pytest.raises(TypeError):
        counter.increment()


def test_the_constructors_signature_is_checked_at_the_call() -> None:
    with pytest.raises(TypeError):
        Counter.remote(1, 2, 3)
    with pytest.raises(TypeError):
        Counter.remote(nonsense=1)


def test_a_methods_signature_is_checked_at_the_call() -> None:
    counter = Counter.remote()
    with pytest.raises(TypeError):
        counter.increment.remote(1, 2)
    with pytest.raises(TypeError):
        counter.read.remote(1)


def test_an_unknown_method_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        Counter.remote().nonsense  # noqa: B018


def test_attributes_of_the_instance_are_not_reachable_through_the_handle() -> None:
    with pytest.raises(AttributeError):
        Counter.remote().value  # noqa: B018


def test_an_unpicklable_constructor_argument_is_a_type_error_at_the_call() -> None:
    with pytest.raises(TypeError):
        Counter.remote(threading.Lock())


def test_an_unpicklable_method_argument_is_a_type_error_at_the_call() -> None:
    counter = Counter.remote()
    with pytest.raises(TypeError):
        counter.increment.remote(threading.Lock())
    assert ray.get(counter.increment.remote()) == 1


def test_an_error_in_a_method_leaves_the_actor_alive() -> None:
    counter = Counter.remote()
    with pytest.raises(ValueError, match="method failed") as caught:
        ray.get(counter.fail.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert ray.get(counter.read.remote()) == 100


def test_a_method_does_not_run_when_its_argument_failed() -> None:
    counter, other = Counter.remote(), Counter.remote()
    with pytest.raises(ValueError, match="method failed"):
        ray.get(counter.increment.remote(other.fail.remote()))
    assert ray.get(counter.read.remote()) == 0


def test_methods_are_inherited_from_plain_classes() -> None:
    class Base:
        def hello(self) -> str:
            return f"hello from {self.name()}"

        def name(self) -> str:
            return "base"

    @ray.remote
    class Derived(Base):
        def name(self) -> str:
            return f"derived of {super().name()}"

    assert ray.get(Derived.remote().hello.remote()) == "hello from derived of base"


def test_inheriting_from_an_actor_class_is_refused() -> None:
    with pytest.raises(TypeError):

        class Derived(Counter):  # type: ignore[misc, valid-type]
            pass

        Derived.remote()


def test_static_and_class_methods_can_be_called() -> None:
    @ray.remote
    class Various:
        base = 10

        @staticmethod
        def static(x: int) -> int:
            return x + 1

        @classmethod
        def of_class(cls, x: int) -> int:
            return cls.base + x

    actor = Various.remote()
    assert ray.get([actor.static.remote(1), actor.of_class.remote(1)]) == [2, 11]


def test_methods_with_a_leading_underscore_can_be_called() -> None:
    @ray.remote
    class Private:
        def _hidden(self) -> str:
            return "found"

    assert ray.get(Private.remote()._hidden.remote()) == "found"


def test_a_method_calls_another_one_directly() -> None:
    @ray.remote
    class Composed:
        def outer(self) -> int:
            return self.inner() + 1

        def inner(self) -> int:
            return 1

    assert ray.get(Composed.remote().outer.remote()) == 2


def test_num_returns_of_a_method_in_the_decorator() -> None:
    @ray.remote
    class Pairs:
        @ray.method(num_returns=2)
        def pair(self) -> tuple[int, int]:
            return 1, 2

    first, second = Pairs.remote().pair.remote()
    assert ray.get([first, second]) == [1, 2]


def test_num_returns_of_a_method_in_options() -> None:
    @ray.remote
    class Pairs:
        def pair(self) -> tuple[int, int]:
            return 1, 2

    pairs = Pairs.remote()
    assert ray.get(pairs.pair.options(num_returns=2).remote()) == [1, 2]
    assert ray.get(pairs.pair.remote()) == (1, 2)
    assert pairs.pair.options(num_returns=0).remote() is None


def test_calls_run_in_the_order_of_submission() -> None:
    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def add(self, number: int) -> None:
            self.seen.append(number)

        def read(self) -> list[int]:
            return self.seen

    log = Log.remote()
    for number in range(100):
        log.add.remote(number)
    assert ray.get(log.read.remote()) == list(range(100))


@pytest.mark.needs_processes("the argument must still be computing when the next call is made")
def test_order_holds_when_an_earlier_call_waits_for_its_argument(gate: Gate) -> None:
    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def add(self, name: str, gate: Gate | None = None) -> list[str]:
            self.seen.append(name)
            return self.seen

    @ray.remote
    def slow(gate: Gate) -> str:
        gate.wait()
        return "first"

    log = Log.remote()
    log.add.remote(slow.remote(gate))
    second = log.add.remote("second")
    assert ray.wait([second], timeout=0.2) == ([], [second])
    gate.open()
    assert ray.get(second) == ["first", "second"]


def test_order_holds_per_caller() -> None:
    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def add(self, caller: int, number: int) -> None:
            self.seen.append((caller, number))

        def read(self) -> list[tuple[int, int]]:
            return self.seen

    @ray.remote
    def call(log: Any, caller: int) -> None:
        ray.get([log.add.remote(caller, number) for number in range(20)])

    log = Log.remote()
    ray.get([call.remote(log, caller) for caller in range(3)])
    seen = ray.get(log.read.remote())
    assert len(seen) == 60
    for caller in range(3):
        assert [number for who, number in seen if who == caller] == list(range(20))


def test_a_handle_can_be_passed_to_a_task() -> None:
    counter = Counter.remote()
    assert ray.get(increment_by_task.remote(counter, 5)) == [1, 2, 3, 4, 5]
    assert ray.get(counter.read.remote()) == 5


def test_a_handle_can_be_passed_inside_a_container() -> None:
    @ray.remote
    def use(handles: dict[str, Any]) -> int:
        return ray.get(handles["counter"].increment.remote())

    assert ray.get(use.remote({"counter": Counter.remote()})) == 1


def test_a_handle_can_be_stored() -> None:
    counter = Counter.remote()
    again = ray.get(ray.put(counter))
    ray.get(again.increment.remote())
    assert ray.get(counter.read.remote()) == 1


def test_a_handle_can_be_captured_by_a_function() -> None:
    counter = Counter.remote()

    @ray.remote
    def use() -> int:
        return ray.get(counter.increment.remote())

    assert ray.get(use.remote()) == 1


def test_an_actor_holds_the_handle_of_another_one() -> None:
    @ray.remote
    class Proxy:
        def __init__(self, target: Any) -> None:
            self.target = target

        def increment(self) -> int:
            return ray.get(self.target.increment.remote())

    counter = Counter.remote()
    proxy = Proxy.remote(counter)
    ray.get([proxy.increment.remote() for _ in range(3)])
    assert ray.get(counter.read.remote()) == 3


def test_an_actor_creates_actors() -> None:
    @ray.remote
    class Parent:
        def __init__(self) -> None:
            self.child = Counter.remote(10)

        def ask(self) -> int:
            return ray.get(self.child.increment.remote())

        def hand_out(self) -> Any:
            return self.child

    parent = Parent.remote()
    assert ray.get(parent.ask.remote()) == 11
    child = ray.get(parent.hand_out.remote())
    assert ray.get(child.increment.remote()) == 12


def test_a_task_creates_an_actor_and_returns_its_handle() -> None:
    @ray.remote
    def create() -> Any:
        return Counter.remote(3)

    assert ray.get(ray.get(create.remote()).increment.remote()) == 4


def test_handles_compare_by_actor() -> None:
    first, second = Counter.remote(), Counter.remote()
    again = ray.get(ray.put(first))
    assert first == again and hash(first) == hash(again)
    assert first != second
    assert {first: 1}[again] == 1


def test_an_actor_hands_out_its_own_handle() -> None:
    @ray.remote
    class Me:
        def __init__(self) -> None:
            self.value = 41

        def handle(self) -> Any:
            return ray.get_runtime_context().current_actor

        def read(self) -> int:
            return self.value + 1

    me = Me.remote()
    myself = ray.get(me.handle.remote())
    assert myself == me
    assert ray.get(myself.read.remote()) == 42


def test_a_temporary_handle_is_enough_for_a_call() -> None:
    assert ray.get(Counter.remote(5).increment.remote()) == 6


def test_the_built_in_ready_method() -> None:
    assert ray.get(Counter.remote().__ray_ready__.remote()) in (True, None)


def test_any_function_can_be_run_on_the_instance() -> None:
    counter = Counter.remote(5)
    assert ray.get(counter.__ray_call__.remote(lambda self, factor: self.value * factor, 3)) == 15


def test_tasks_are_called_from_methods() -> None:
    @ray.remote
    class Boss:
        def work(self, n: int) -> list[int]:
            return ray.get([echo.remote(i) for i in range(n)])

    assert ray.get(Boss.remote().work.remote(5)) == [0, 1, 2, 3, 4]


def test_a_method_returns_a_reference_of_its_own() -> None:
    @ray.remote
    class Maker:
        def make(self) -> list[Any]:
            return [ray.put("made"), echo.remote("computed")]

    maker = Maker.remote()
    assert ray.get(ray.get(maker.make.remote())) == ["made", "computed"]


def test_more_default_actors_than_cpus_all_run() -> None:
    counters = [Counter.remote(i) for i in range(6)]
    assert ray.get([counter.read.remote() for counter in counters]) == list(range(6))


def test_methods_of_a_plain_actor_run_on_the_main_thread() -> None:
    @ray.remote
    class Where:
        def main(self) -> bool:
            return threading.current_thread() is threading.main_thread()

    assert ray.get(Where.remote().main.remote())


@pytest.mark.needs_processes("calls must overlap")
def test_a_plain_actor_runs_one_call_at_a_time(tally: Tally) -> None:
    @ray.remote
    class Single:
        def __init__(self) -> None:
            self.inside = 0

        def enter(self) -> int:
            self.inside += 1
            threading.Event().wait(0.02)
            most = self.inside
            self.inside -= 1
            return most

    single = Single.remote()
    assert set(ray.get([single.enter.remote() for _ in range(5)])) == {1}


@pytest.mark.needs_processes("calls must overlap")
def test_max_concurrency_lets_calls_overlap() -> None:
    @ray.remote(max_concurrency=3)
    class Threaded:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(3)

        def meet(self) -> bool:
            self.barrier.wait(timeout=30)
            return True

    threaded = Threaded.remote()
    assert ray.get([threaded.meet.remote() for _ in range(3)]) == [True] * 3


@pytest.mark.needs_processes("calls must overlap")
def test_max_concurrency_is_a_limit(gate: Gate, tally: Tally) -> None:
    @ray.remote(max_concurrency=2)
    class Threaded:
        def enter(self, gate: Gate, tally: Tally) -> None:
            tally.add("in")
            gate.wait()

    threaded = Threaded.remote()
    refs = [threaded.enter.remote(gate, tally) for _ in range(4)]
    wait_until(lambda: tally.count() == 2)
    assert ray.wait(refs, timeout=0.2)[0] == []
    assert tally.count() == 2
    gate.open()
    ray.get(refs)
    assert tally.count() == 4


@pytest.mark.needs_processes("inline has one thread")
def test_threaded_methods_do_not_run_on_the_main_thread() -> None:
    @ray.remote(max_concurrency=2)
    class Threaded:
        def main(self) -> bool:
            return threading.current_thread() is threading.main_thread()

    assert not ray.get(Threaded.remote().main.remote())


@pytest.mark.needs_processes("calls must be pending")
def test_max_pending_calls_is_enforced_at_the_call(gate: Gate) -> None:
    @ray.remote(max_pending_calls=3)
    class Busy:
        def wait(self, gate: Gate) -> None:
            gate.wait()

    busy = Busy.remote()
    refs = [busy.wait.remote(gate) for _ in range(3)]
    with pytest.raises(exceptions.PendingCallsLimitExceeded):
        busy.wait.remote(gate)
    gate.open()
    ray.get(refs)
    assert ray.get(busy.wait.remote(gate)) is None


@pytest.mark.needs_processes("calls must be pending")
def test_max_pending_calls_does_not_hold_for_who_finds_the_actor_by_name(gate: Gate) -> None:
    @ray.remote
    class Busy:
        def wait(self, gate: Gate) -> None:
            gate.wait()

    @ray.remote
    def call_by_name(gate: Gate) -> int:
        busy = ray.get_actor("busy-by-name")
        refs = [busy.wait.remote(gate) for _ in range(10)]
        gate.open()
        return len(ray.get(refs))

    busy = Busy.options(max_pending_calls=3, name="busy-by-name").remote()
    assert ray.get(call_by_name.remote(gate)) == 10
    del busy


def test_the_constructor_fails_at_the_first_call_not_at_creation() -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise ValueError("cannot start")

        def hello(self) -> None:
            pass

    broken = Broken.remote()
    with pytest.raises(exceptions.ActorDiedError) as caught:
        ray.get(broken.hello.remote())
    assert caught.value.actor_init_failed
    assert "cannot start" in str(caught.value)


def test_a_constructor_with_a_failed_argument_fails_the_actor() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError("no argument")

    counter = Counter.remote(fail.remote())
    with pytest.raises(exceptions.RayError):
        ray.get(counter.read.remote())


def test_a_large_argument_to_an_actor() -> None:
    @ray.remote
    class Sizes:
        def __init__(self, data: bytes) -> None:
            self.size = len(data)

        def total(self, data: bytes) -> int:
            return self.size + len(data)

    sizes = Sizes.remote(b"a" * 400_000)
    assert ray.get(sizes.total.remote(b"b" * 600_000)) == 1_000_000


def test_many_threads_share_one_handle() -> None:
    counter = Counter.remote()

    def work() -> None:
        ray.get([counter.increment.remote() for _ in range(10)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ray.get(counter.read.remote()) == 40


def test_a_name_given_in_method_options_is_accepted() -> None:
    counter = Counter.remote()
    assert ray.get(counter.increment.options(name="my call").remote()) == 1


@pytest.mark.needs_processes("a task waits for a gate")
def test_a_constructor_waits_for_tasks(gate: Any) -> None:
    @ray.remote
    def after(gate: Any, value: int) -> int:
        gate.wait()
        return value

    @ray.remote
    class Patient:
        def __init__(self, gate: Any, later: list[Any]) -> None:
            self.total = ray.get(after.remote(gate, 1)) + ray.get(later[0])

        def read(self) -> int:
            return self.total

    patient = Patient.remote(gate, [after.remote(gate, 2)])
    answer = patient.read.remote()
    ready, _ = ray.wait([answer], timeout=0.2)
    assert not ready
    gate.open()
    assert ray.get(answer) == 3


@pytest.mark.needs_processes("a task waits for a gate")
def test_a_constructor_gets_the_value_of_a_late_task(gate: Any) -> None:
    @ray.remote
    def after(gate: Any) -> int:
        gate.wait()
        return 5

    counter = Counter.remote(after.remote(gate))
    gate.open()
    assert ray.get(counter.read.remote()) == 5
