"""The crash matrix: every way to end a process, in every place where foreign code runs, ends in a typed error.

After loky's matrix ({crash, exit, C-level exit, error} x {pickle, unpickle} x {argument, function, result}) and eight
rows of our own. The rows are in :data:`DEATHS` and the names of the tests. Each error names the signal or the exit code
and the last lines of stderr, and the next task runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import core
from tests.chaos import crashes
from tests.chaos.crashes import ABORT, C_EXIT, EXIT, LAST_WORDS, SEGFAULT, Bomb, Death, Planned, end

#: Seconds that nothing here should ever need; no test measures speed.
SOON = 20
every_death = pytest.mark.parametrize("death", [SEGFAULT, ABORT, EXIT, C_EXIT], ids=str)


@core.remote(max_retries=0)
def take(value: Any) -> str:
    return "taken"


@core.remote(max_retries=0)
def make(kind: str, when: str) -> Any:
    return Bomb(kind, when)


@core.remote(max_retries=0)
def fetch(refs: list[Any]) -> Any:
    """Be the process that unpickles somebody else's result."""
    return core.get(refs[0])


@pytest.fixture(autouse=True)
def session_that_works_afterwards(session: object) -> Iterator[None]:
    """Whatever the row did, the next task and the next actor run."""
    yield
    assert core.get([take.remote(number) for number in range(4)], timeout=SOON) == ["taken"] * 4


def assert_died(call: Callable[[], Any], death: Death) -> None:
    """The call raises the error of a worker that ended so, with all that is known of its end."""
    with pytest.raises(core.exceptions.WorkerCrashedError) as caught:
        call()
    error = caught.value
    assert (error.signal, error.exit_code) == (death.signal, death.exit_code)
    assert error.pid > 0
    assert LAST_WORDS in error.stderr_tail
    text = str(error)
    assert LAST_WORDS in text
    assert (f"signal {int(death.signal)}" if death.signal else f"code {death.exit_code}") in text


def get(ref: Any) -> Any:
    return core.get(ref, timeout=SOON)


# arguments -----------------------------------------------------------------------------------------------------------


def test_an_error_while_pickling_an_argument_is_raised_by_the_call() -> None:
    with pytest.raises(TypeError, match="Planned: as planned"):
        take.remote({"inner": [Bomb("raise", "pickle")]})


@every_death
def test_a_crash_while_unpickling_an_argument(death: Death) -> None:
    assert_died(lambda: get(take.remote(Bomb(death.kind, "unpickle"))), death)


def test_an_error_while_unpickling_an_argument() -> None:
    with pytest.raises(Planned, match="as planned"):
        get(take.remote(Bomb("raise", "unpickle")))


@every_death
def test_a_crash_while_unpickling_a_large_argument(death: Death) -> None:
    """Large arguments travel through shared memory, on another path."""
    assert_died(lambda: get(take.remote([b"x" * 300_000, Bomb(death.kind, "unpickle")])), death)


@every_death
def test_a_crash_while_unpickling_a_dependency(death: Death) -> None:
    assert_died(lambda: get(take.remote(core.put(Bomb(death.kind, "unpickle")))), death)


def test_an_error_while_unpickling_a_dependency() -> None:
    with pytest.raises(Planned):
        get(take.remote(core.put(Bomb("raise", "unpickle"))))


# functions -----------------------------------------------------------------------------------------------------------


def test_an_error_while_pickling_a_closure_is_raised_by_the_call() -> None:
    bomb = Bomb("raise", "pickle")

    @core.remote
    def closure() -> Any:
        return bomb

    with pytest.raises(TypeError, match="Planned: as planned"):
        closure.remote()


@every_death
def test_a_crash_while_unpickling_a_closure(death: Death) -> None:
    bomb = Bomb(death.kind, "unpickle")

    @core.remote(max_retries=0)
    def closure() -> Any:
        return bomb

    assert_died(lambda: get(closure.remote()), death)


def test_an_error_while_unpickling_a_closure() -> None:
    bomb = Bomb("raise", "unpickle")

    @core.remote
    def closure() -> Any:
        return bomb

    for _ in range(2):
        with pytest.raises(Planned):
            get(closure.remote())


@every_death
def test_a_crash_of_the_function_itself(death: Death) -> None:
    assert_died(lambda: get(core.remote(max_retries=0)(end).remote(death.kind)), death)


# results -------------------------------------------------------------------------------------------------------------


@every_death
def test_a_crash_while_pickling_a_result(death: Death) -> None:
    assert_died(lambda: get(make.remote(death.kind, "pickle")), death)


def test_an_error_while_pickling_a_result() -> None:
    with pytest.raises(TypeError, match="Planned: as planned"):
        get(make.remote("raise", "pickle"))


@every_death
def test_a_crash_while_unpickling_a_result_is_the_death_of_the_getter(death: Death) -> None:
    result = make.remote(death.kind, "unpickle")
    core.wait([result], timeout=SOON)
    assert_died(lambda: get(fetch.remote([result])), death)


def test_an_error_while_unpickling_a_result() -> None:
    result = make.remote("raise", "unpickle")
    with pytest.raises(core.exceptions.RayError, match="as planned"):
        get(result)
    with pytest.raises(core.exceptions.RayError, match="as planned"):
        get(fetch.remote([result]))


# exceptions ----------------------------------------------------------------------------------------------------------


def test_an_exception_that_does_not_unpickle_is_rebuilt() -> None:
    @core.remote(max_retries=0)
    def fail() -> None:
        raise crashes.TwoFacedError("left", "right")

    with pytest.raises(crashes.TwoFacedError, match="left and right"):
        get(fail.remote())


def test_an_exception_that_cannot_travel_arrives_as_its_text() -> None:
    @core.remote(max_retries=0)
    def fail() -> None:
        raise crashes.UnpicklableError("alone")

    with pytest.raises(core.exceptions.RayTaskError, match="UnpicklableError: alone") as caught:
        get(fail.remote())
    assert isinstance(caught.value.cause, core.exceptions.UnserializableException)


@every_death
def test_an_exception_whose_unpickling_crashes_is_tried_where_it_was_raised(death: Death) -> None:
    """The worker proves that an exception unpickles before it sends it: the driver never meets the crash."""

    @core.remote(max_retries=0)
    def fail() -> None:
        raise crashes.FatalError(death.kind)

    assert_died(lambda: get(fail.remote()), death)


# actors --------------------------------------------------------------------------------------------------------------


@every_death
def test_a_crash_in_an_actors_init(death: Death) -> None:
    @core.remote
    class Doomed:
        def __init__(self, kind: str) -> None:
            end(kind)

        def method(self) -> None:
            """Never runs."""

    with pytest.raises(core.exceptions.ActorDiedError) as caught:
        get(Doomed.remote(death.kind).method.remote())
    assert_actor_died(caught.value, death)


def assert_actor_died(error: core.exceptions.ActorDiedError, death: Death) -> None:
    assert (error.signal, error.exit_code) == (death.signal, death.exit_code)
    assert error.pid > 0
    text = str(error)
    assert (f"signal {int(death.signal)}" if death.signal else f"code {death.exit_code}") in text
    assert LAST_WORDS in text
    assert LAST_WORDS in error.stderr_tail


def test_an_error_in_an_actors_init() -> None:
    @core.remote
    class Doomed:
        def __init__(self) -> None:
            end("raise")

        def method(self) -> None:
            """Never runs."""

    with pytest.raises(core.exceptions.ActorDiedError, match="as planned"):
        get(Doomed.remote().method.remote())


@pytest.mark.parametrize("kind", ["raise", "segfault"])
def test_a_class_that_does_not_unpickle(kind: str) -> None:
    bomb = Bomb(kind, "unpickle")

    @core.remote
    class Doomed:
        attribute = bomb

        def method(self) -> None:
            """Never runs."""

    with pytest.raises(core.exceptions.ActorDiedError, match="as planned" if kind == "raise" else LAST_WORDS):
        get(Doomed.remote().method.remote())


@every_death
def test_a_crash_in_an_actors_method(death: Death) -> None:
    @core.remote
    class Fragile:
        def method(self, kind: str) -> None:
            end(kind)

    actor = Fragile.remote()
    with pytest.raises(core.exceptions.ActorDiedError) as caught:
        get(actor.method.remote(death.kind))
    assert_actor_died(caught.value, death)
    with pytest.raises(core.exceptions.ActorDiedError) as caught:
        get(actor.method.remote(death.kind))
    assert_actor_died(caught.value, death)


class Fuse:
    """Ends the process when it dies itself."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.driver = os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.driver:
            end(self.kind)


def test_an_error_in_del_is_ignored() -> None:
    assert get(take.remote(Fuse("raise"))) == "taken"


@every_death
def test_a_crash_in_del_ends_only_the_worker(death: Death) -> None:
    """The value dies when the call is over, so its result may or may not have left the worker: both are right."""
    ref = take.remote(Fuse(death.kind))
    core.wait([ref], timeout=SOON)
    if get(fails.remote([ref])):
        assert_died(lambda: get(ref), death)
    else:
        assert get(ref) == "taken"


@core.remote
def fails(refs: list[Any]) -> bool:
    """Tell whether a reference stands for an error."""
    try:
        core.get(refs[0])
    except core.exceptions.RayError:
        return True
    return False


# generator items -----------------------------------------------------------------------------------------------------


@core.remote(max_retries=0, num_returns="streaming")
def stream(kind: str, when: str) -> Iterator[Any]:
    yield "first"
    yield Bomb(kind, when)
    yield "third"


@every_death
def test_a_crash_while_pickling_an_item(death: Death) -> None:
    items = stream.remote(death.kind, "pickle")
    assert get(next(items)) == "first"
    assert_died(lambda: get(next(items)), death)
    with pytest.raises(StopIteration):
        next(items)


def test_an_error_while_pickling_an_item() -> None:
    items = stream.remote("raise", "pickle")
    assert get(next(items)) == "first"
    with pytest.raises(TypeError, match="as planned"):
        get(next(items))
    with pytest.raises(StopIteration):
        next(items)


@every_death
def test_a_crash_while_unpickling_an_item_is_the_death_of_the_getter(death: Death) -> None:
    first, second, third = stream.remote(death.kind, "unpickle")
    assert get(first) == "first"
    assert_died(lambda: get(fetch.remote([second])), death)
    assert get(third) == "third"


def test_an_error_while_unpickling_an_item() -> None:
    first, second, third = stream.remote("raise", "unpickle")
    assert get(first) == "first"
    with pytest.raises(core.exceptions.RayError, match="as planned"):
        get(second)
    assert get(third) == "third"
