"""Errors of user code, of serialization and of dying workers, as the caller sees them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import signal
import sys
import traceback
from typing import Any

import pytest

from tests.conformance.rendezvous import Gate
from tests.conformance.target import ray

pytestmark = pytest.mark.usefixtures("session")
exceptions = ray.exceptions
WORKER_DIES = "the worker process ends"


class AppError(Exception):
    """An error with attributes of its own."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


@ray.remote
def fail(error: BaseException) -> None:
    raise error


@ray.remote
def echo(value: Any) -> Any:
    return value


@ray.remote
def raise_app_error() -> None:
    raise AppError(404, "not found")


def error_of(ref: Any) -> BaseException:
    """Get a reference that must fail, and return its error."""
    with pytest.raises(BaseException) as caught:
        ray.get(ref, timeout=60)
    return caught.value


@pytest.mark.parametrize(
    "kind", [ValueError, KeyError, ZeroDivisionError, OSError, AssertionError, NotImplementedError]
)
def test_an_error_is_caught_by_its_own_class(kind: type[Exception]) -> None:
    with pytest.raises(kind, match="told so"):
        ray.get(fail.remote(kind("told so")))


def test_an_error_is_also_a_ray_task_error() -> None:
    error = error_of(fail.remote(ValueError("x")))
    assert isinstance(error, exceptions.RayTaskError)
    assert isinstance(error, exceptions.RayError)


@pytest.mark.better_than_ray("an await of a task that raised StopIteration raises; asyncio cannot carry that class")
def test_a_stop_iteration_is_raised_by_get_and_by_await() -> None:
    ref = fail.remote(StopIteration("x"))
    assert isinstance(error_of(ref), StopIteration)

    async def wait_for_it() -> Any:
        return await ref

    with pytest.raises(exceptions.RayTaskError) as caught:
        asyncio.run(wait_for_it())
    assert isinstance(caught.value.cause, StopIteration)


def test_the_original_error_is_the_cause() -> None:
    error: Any = error_of(raise_app_error.remote())
    assert type(error.cause) is AppError
    assert error.cause.code == 404


def test_attributes_of_the_original_error_are_reachable() -> None:
    error: Any = error_of(raise_app_error.remote())
    assert isinstance(error, AppError)
    assert (error.code, error.detail) == (404, "not found")


def test_the_arguments_of_the_error_are_its_cause() -> None:
    error: Any = error_of(raise_app_error.remote())
    assert error.args == (error.cause,)


def test_the_name_of_the_error_class_tells_both_sides() -> None:
    error = error_of(fail.remote(ValueError("x")))
    assert type(error).__name__ == "RayTaskError(ValueError)"


def test_the_text_shows_the_remote_traceback() -> None:
    text = str(error_of(raise_app_error.remote()))
    assert "raise_app_error" in text
    assert "not found" in text
    assert os.path.basename(__file__) in text


@pytest.mark.better_than_ray("the error that a caller catches tells function_name and traceback_str itself")
def test_the_error_names_the_function() -> None:
    error: Any = error_of(raise_app_error.remote())
    assert error.function_name.endswith("raise_app_error")
    assert "not found" in error.traceback_str


def test_the_printed_traceback_holds_the_remote_one() -> None:
    error = error_of(raise_app_error.remote())
    printed = "".join(traceback.format_exception(error))
    assert "raise_app_error" in printed and "not found" in printed


def test_an_error_with_a_cause_shows_it() -> None:
    @ray.remote
    def chained() -> None:
        try:
            raise KeyError("root of it")
        except KeyError as error:
            raise ValueError("on top") from error

    text = str(error_of(chained.remote()))
    assert "root of it" in text and "on top" in text


def test_getting_a_failed_reference_again_raises_again() -> None:
    ref = raise_app_error.remote()
    for _ in range(3):
        assert isinstance(error_of(ref), AppError)


def test_every_return_reference_of_a_failed_task_raises() -> None:
    @ray.remote(num_returns=3)
    def three() -> None:
        raise AppError(1, "all of them")

    for ref in three.remote():
        assert isinstance(error_of(ref), AppError)


def test_a_dependent_task_fails_with_the_same_error() -> None:
    assert isinstance(error_of(echo.remote(raise_app_error.remote())), AppError)


def test_an_error_travels_down_a_long_chain() -> None:
    ref = raise_app_error.remote()
    for _ in range(5):
        ref = echo.remote(ref)
    error: Any = error_of(ref)
    assert isinstance(error, AppError) and error.code == 404


def test_a_task_with_a_failed_argument_does_not_run(tally: Any) -> None:
    @ray.remote
    def record(value: Any, tally: Any) -> None:
        tally.add("ran")

    assert isinstance(error_of(record.remote(raise_app_error.remote(), tally)), AppError)
    assert tally.count() == 0


def test_a_nested_get_raises_the_inner_error() -> None:
    @ray.remote
    def outer() -> Any:
        return ray.get(raise_app_error.remote())

    error: Any = error_of(outer.remote())
    assert isinstance(error, AppError)
    assert "outer" in str(error) and "raise_app_error" in str(error)


def test_a_task_can_catch_the_error_of_its_child() -> None:
    @ray.remote
    def careful() -> str:
        try:
            ray.get(raise_app_error.remote())
        except AppError as error:
            return f"caught {error.code}"
        return "nothing raised"

    assert ray.get(careful.remote()) == "caught 404"


def test_a_task_may_return_an_exception_as_a_value() -> None:
    value = ray.get(echo.remote(ValueError("just a value")))
    assert type(value) is ValueError and value.args == ("just a value",)


def test_an_exception_with_its_own_signature_survives() -> None:
    class Awkward(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first}-{second}")

    @ray.remote
    def raise_awkward() -> None:
        raise Awkward(1, 2)

    error = error_of(raise_awkward.remote())
    assert isinstance(error, exceptions.RayError)
    assert "1-2" in str(error)


def test_an_exception_that_cannot_be_pickled_keeps_its_text() -> None:
    class Unpicklable(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("refuses to travel")

    @ray.remote
    def raise_unpicklable() -> None:
        raise Unpicklable("the important text")

    error = error_of(raise_unpicklable.remote())
    assert isinstance(error, exceptions.RayTaskError)
    assert "the important text" in str(error)


@pytest.mark.better_than_ray("an exception that does not unpickle arrives as a RayTaskError that keeps its text")
def test_an_exception_that_cannot_be_unpickled_is_a_task_error_with_its_text() -> None:
    def explode() -> None:
        raise RuntimeError("cannot be rebuilt")

    class Unloadable(Exception):
        def __reduce__(self) -> Any:
            return explode, ()

    @ray.remote
    def raise_unloadable() -> None:
        raise Unloadable("the important text")

    error = error_of(raise_unloadable.remote())
    assert isinstance(error, exceptions.RayTaskError)
    assert "the important text" in str(error)


def test_an_error_class_that_cannot_be_subclassed_still_arrives() -> None:
    class Sealed(Exception):
        def __init_subclass__(cls, **kwargs: Any) -> None:
            raise TypeError("sealed")

    @ray.remote
    def raise_sealed() -> None:
        raise Sealed("sealed text")

    error = error_of(raise_sealed.remote())
    assert isinstance(error, exceptions.RayTaskError)
    assert "sealed text" in str(error)


def test_an_exception_group_is_caught_as_one() -> None:
    @ray.remote
    def raise_group() -> None:
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])

    error = error_of(raise_group.remote())
    assert isinstance(error, ExceptionGroup)
    assert [type(one) for one in error.exceptions] == [ValueError, KeyError]


@pytest.mark.needs_processes("in the driver's own thread it is the user's Ctrl-C")
def test_keyboard_interrupt_raised_in_a_task_means_cancelled() -> None:
    @ray.remote
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert isinstance(error_of(interrupted.remote()), exceptions.TaskCancelledError)


def test_an_argument_that_does_not_unpickle_fails_the_task() -> None:
    def explode() -> None:
        raise RuntimeError("argument broken")

    class Unloadable:
        def __reduce__(self) -> Any:
            return explode, ()

    error = error_of(echo.remote(Unloadable()))
    assert isinstance(error, exceptions.RayError)
    assert "argument broken" in str(error)
    assert ray.get(echo.remote("still works")) == "still works"


def test_a_result_that_does_not_unpickle_fails_the_get() -> None:
    @ray.remote
    def poisoned() -> Any:
        def explode() -> None:
            raise RuntimeError("result broken")

        class Unloadable:
            def __reduce__(self) -> Any:
                return explode, ()

        return Unloadable()

    assert "result broken" in str(error_of(poisoned.remote()))
    assert ray.get(echo.remote("still works")) == "still works"


def test_endless_recursion_is_a_recursion_error() -> None:
    @ray.remote
    def recurse(n: int) -> int:
        def down(n: int) -> int:
            return down(n + 1)

        return down(n)

    assert isinstance(error_of(recurse.remote(0)), RecursionError)


def test_the_session_goes_on_after_errors() -> None:
    for _ in range(20):
        assert isinstance(error_of(raise_app_error.remote()), AppError)
    assert ray.get(echo.remote("fine")) == "fine"


@pytest.mark.better_than_ray("an error of a task can be pickled with the standard library's pickle")
def test_errors_can_be_pickled() -> None:
    error = error_of(fail.remote(ValueError("travels")))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, exceptions.RayTaskError)
    assert "travels" in str(again)


def end_by_exit() -> None:
    os._exit(3)


def end_by_kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_by_segfault() -> None:
    ctypes.string_at(0)


def end_by_abort() -> None:
    os.abort()


def end_by_sys_exit() -> None:
    sys.exit(3)


@pytest.mark.needs_processes(WORKER_DIES)
@pytest.mark.parametrize("end", [end_by_exit, end_by_kill, end_by_segfault, end_by_abort, end_by_sys_exit])
def test_a_worker_that_ends_is_a_worker_crashed_error(end: Any) -> None:
    @ray.remote(max_retries=0)
    def dies() -> None:
        end()

    assert isinstance(error_of(dies.remote()), exceptions.WorkerCrashedError)
    assert ray.get(echo.remote("next")) == "next"


@pytest.mark.needs_processes(WORKER_DIES)
@pytest.mark.better_than_ray("WorkerCrashedError names the signal or the exit code that ended the worker")
@pytest.mark.parametrize(
    ("end", "cause"), [(end_by_kill, "SIGKILL"), (end_by_segfault, "SIGSEGV"), (end_by_abort, "SIGABRT")]
)
def test_a_worker_crashed_error_names_the_signal(end: Any, cause: str) -> None:
    @ray.remote(max_retries=0)
    def dies() -> None:
        end()

    assert cause in str(error_of(dies.remote()))


@pytest.mark.needs_processes(WORKER_DIES)
@pytest.mark.better_than_ray("WorkerCrashedError names the signal or the exit code that ended the worker")
def test_a_worker_crashed_error_names_the_exit_code() -> None:
    @ray.remote(max_retries=0)
    def dies() -> None:
        os._exit(37)

    assert "37" in str(error_of(dies.remote()))


@pytest.mark.needs_processes(WORKER_DIES)
@pytest.mark.better_than_ray("WorkerCrashedError shows the last lines the worker wrote to stderr")
def test_a_worker_crashed_error_shows_its_last_words() -> None:
    @ray.remote(max_retries=0)
    def dies() -> None:
        print("my last words", file=sys.stderr, flush=True)
        os._exit(1)

    assert "my last words" in str(error_of(dies.remote()))


@pytest.mark.needs_processes(WORKER_DIES)
def test_a_task_that_depends_on_a_crashed_one_fails_alike() -> None:
    @ray.remote(max_retries=0)
    def dies() -> None:
        os._exit(1)

    assert isinstance(error_of(echo.remote(dies.remote())), exceptions.WorkerCrashedError)


@pytest.mark.needs_processes(WORKER_DIES)
def test_a_crash_of_one_task_leaves_others_alone(gate: Any) -> None:
    @ray.remote
    def bystander(gate: Any) -> str:
        gate.wait()
        return "unharmed"

    @ray.remote(max_retries=0)
    def dies() -> None:
        os._exit(1)

    other = bystander.remote(gate)
    assert isinstance(error_of(dies.remote()), exceptions.WorkerCrashedError)
    gate.open()
    assert ray.get(other) == "unharmed"


@pytest.mark.needs_processes(WORKER_DIES)
def test_unpickling_that_kills_the_worker_is_a_crash_of_the_task() -> None:
    class Deadly:
        def __reduce__(self) -> Any:
            return os._exit, (1,)

    deadly = echo.options(max_retries=0).remote(Deadly())
    assert isinstance(error_of(deadly), exceptions.RayError)
    assert ray.get(echo.remote("next")) == "next"


TREE = {
    "TaskCancelledError": "RayError",
    "RayTaskError": "RayError",
    "WorkerCrashedError": "RayError",
    "RayActorError": "RayError",
    "ActorDiedError": "RayActorError",
    "ActorUnavailableError": "RayActorError",
    "RaySystemError": "RayError",
    "ObjectStoreFullError": "RayError",
    "OutOfDiskError": "RayError",
    "OutOfMemoryError": "RayError",
    "NodeDiedError": "RayError",
    "ObjectLostError": "RayError",
    "ObjectFetchTimedOutError": "ObjectLostError",
    "ReferenceCountingAssertionError": "ObjectLostError",
    "ObjectFreedError": "ObjectLostError",
    "OwnerDiedError": "ObjectLostError",
    "ObjectReconstructionFailedError": "ObjectLostError",
    "GetTimeoutError": "RayError",
    "LocalRayletDiedError": "RayError",
    "RuntimeEnvSetupError": "RayError",
    "TaskPlacementGroupRemoved": "RayError",
    "ActorPlacementGroupRemoved": "RayError",
    "PendingCallsLimitExceeded": "RayError",
    "TaskUnschedulableError": "RayError",
    "ActorUnschedulableError": "RayError",
    "AsyncioActorExit": "RayError",
    "ActorAlreadyExistsError": "RayError",
    "ActorHandleNotFoundError": "RayError",
}


@pytest.mark.parametrize("name", TREE)
def test_the_exception_tree(name: str) -> None:
    assert issubclass(getattr(exceptions, name), getattr(exceptions, TREE[name]))


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("GetTimeoutError", TimeoutError),
        ("ActorAlreadyExistsError", ValueError),
        ("ActorHandleNotFoundError", ValueError),
        ("ReferenceCountingAssertionError", AssertionError),
        ("RayError", Exception),
    ],
)
def test_exceptions_that_are_also_built_in_ones(name: str, builtin: type[BaseException]) -> None:
    assert issubclass(getattr(exceptions, name), builtin)


@pytest.mark.needs_processes("the failure comes after the submission")
def test_a_failure_reaches_the_end_of_a_long_chain(gate: Gate) -> None:
    @ray.remote
    def fail(gate: Gate) -> None:
        gate.wait()
        raise ValueError("at the very start")

    @ray.remote
    def follow(value: Any) -> Any:
        return value

    ref = fail.remote(gate)
    for _ in range(600):
        ref = follow.remote(ref)
    gate.open()
    with pytest.raises(ValueError, match="at the very start"):
        ray.get(ref, timeout=60)
