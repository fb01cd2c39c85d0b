"""The exception tree: Ray's names and bases, fields that survive pickling, dual classes."""

from __future__ import annotations

import dataclasses
import errno
import pickle
from typing import Any

import pytest

from core import exceptions
from core.exceptions import RayError, RayTaskError

#: name -> names of its direct bases, as in Ray 2.60 (printed from the installed package)
TREE = {
    "RayError": ("Exception",),
    "TaskCancelledError": ("RayError",),
    "RayTaskError": ("RayError",),
    "WorkerCrashedError": ("RayError",),
    "LocalRayletDiedError": ("RayError",),
    "RayActorError": ("RayError",),
    "ActorDiedError": ("RayActorError",),
    "ActorUnavailableError": ("RayActorError",),
    "RaySystemError": ("RayError",),
    "StreamingGeneratorReplayInconsistentError": ("RaySystemError",),
    "RayChannelError": ("RaySystemError",),
    "RayChannelTimeoutError": ("RayChannelError", "TimeoutError"),
    "RayCgraphCapacityExceeded": ("RaySystemError",),
    "RayDirectTransportError": ("RaySystemError",),
    "ObjectStoreFullError": ("RayError",),
    "OutOfDiskError": ("RayError",),
    "OutOfMemoryError": ("RayError",),
    "NodeDiedError": ("RayError",),
    "ObjectLostError": ("RayError",),
    "ObjectFetchTimedOutError": ("ObjectLostError",),
    "ReferenceCountingAssertionError": ("ObjectLostError", "AssertionError"),
    "ObjectFreedError": ("ObjectLostError",),
    "OwnerDiedError": ("ObjectLostError",),
    "ObjectReconstructionFailedError": ("ObjectLostError",),
    "GetTimeoutError": ("RayError", "TimeoutError"),
    "RuntimeEnvSetupError": ("RayError",),
    "TaskPlacementGroupRemoved": ("RayError",),
    "ActorPlacementGroupRemoved": ("RayError",),
    "PendingCallsLimitExceeded": ("RayError",),
    "TaskUnschedulableError": ("RayError",),
    "ActorUnschedulableError": ("RayError",),
    "AsyncioActorExit": ("RayError",),
    "AuthenticationError": ("RayError",),
    "CrossLanguageError": ("RayError",),
    "UserCodeException": ("RayError",),
    "RpcError": ("RayError",),
    "PlasmaObjectNotAvailable": ("RayError",),
    "ObjectRefStreamEndOfStreamError": ("RayError",),
    "UnserializableException": ("RayError",),
    "OufOfBandObjectRefSerializationException": ("RayError",),
    "ActorAlreadyExistsError": ("ValueError", "RayError"),
    "ActorHandleNotFoundError": ("ValueError", "RayError"),
}


@pytest.mark.parametrize(("name", "bases"), TREE.items())
def test_the_tree_is_rays(name: str, bases: tuple[str, ...]) -> None:
    cls = getattr(exceptions, name)
    assert tuple(base.__name__ for base in cls.__bases__) == bases
    assert name in (exceptions.__doc__ or "")


EXAMPLES: list[RayError] = [
    exceptions.TaskCancelledError("ab", "by hand"),
    exceptions.WorkerCrashedError(signal=9, pid=12, task="f", stderr_tail="Segmentation fault"),
    exceptions.WorkerCrashedError("said elsewhere"),
    exceptions.ActorDiedError(class_name="C", actor_id="ab", exit_code=3, pid=4),
    exceptions.ActorDiedError(RayTaskError("C.__init__", "Traceback ...", ValueError("x"), actor_id="ab")),
    exceptions.ActorUnavailableError("restarting", "ab"),
    exceptions.RaySystemError("broken", "Traceback ..."),
    exceptions.OwnerDiedError("ab"),
    exceptions.ObjectReconstructionFailedError("ab", "max_retries=0"),
    exceptions.RuntimeEnvSetupError("no directory"),
    exceptions.TaskPlacementGroupRemoved(),
    exceptions.RpcError("lost", 14),
    exceptions.GetTimeoutError("after 3 s"),
    exceptions.ActorAlreadyExistsError("taken"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_are_pickled_with_their_fields(error: RayError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert {name: repr(value) for name, value in vars(copy).items()} == {
        name: repr(value) for name, value in vars(error).items()
    }


def test_a_crash_names_signal_task_and_last_words() -> None:
    message = str(EXAMPLES[1])
    for part in ("SIGKILL", "pid 12", "task f", "Segmentation fault", "max_retries"):
        assert part in message
    assert "exited with code 3" in str(EXAMPLES[3])


def test_an_actor_that_failed_to_start_says_so() -> None:
    error = EXAMPLES[4]
    assert isinstance(error, exceptions.ActorDiedError)
    assert error.actor_init_failed
    assert error.actor_id == "ab"
    assert "Traceback ..." in str(error)
    assert not exceptions.ActorDiedError().actor_init_failed


# dual classes --------------------------------------------------------------------------------------------------------


class Plain(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def describe(self) -> str:
        return f"described {self.code}"


class Slotted(Exception):
    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place = place


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class OwnText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "OwnText()"


CAUSES = [
    Plain(3),
    Slotted("here"),
    Frozen(3),
    OwnText(),
    ValueError("v"),
    OSError(errno.ENOENT, "gone", "file.txt"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    KeyError("k"),
    StopIteration(3),
    ImportError("no", name="module"),
    exceptions.GetTimeoutError("late"),
]


def _raised(cause: BaseException) -> RayTaskError:
    return RayTaskError("f", "Traceback of f", cause, pid=7).as_instanceof_cause()


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_a_dual_error_is_both(cause: Exception) -> None:
    error = _raised(cause)
    assert isinstance(error, RayTaskError)
    assert isinstance(error, type(cause))
    assert type(error).__name__ == f"RayTaskError({type(cause).__name__})"
    assert error.args == (cause,)
    assert error.cause is cause
    assert (error.function_name, error.pid) == ("f", 7)
    assert "Traceback of f" in str(error)
    assert repr(error).startswith(f"RayTaskError({type(cause).__name__})")


def test_attributes_and_methods_come_from_the_cause() -> None:
    plain: Any = _raised(CAUSES[0])
    assert (plain.code, plain.describe()) == (3, "described 3")
    assert _raised(CAUSES[1]).place == "here"  # type: ignore[attr-defined]
    assert _raised(CAUSES[2]).code == 3  # type: ignore[attr-defined]
    system: Any = _raised(CAUSES[5])
    assert (system.errno, system.filename) == (errno.ENOENT, "file.txt")
    assert _raised(CAUSES[9]).name == "module"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = plain.absent


@pytest.mark.parametrize("cause", [CAUSES[4], CAUSES[5], CAUSES[10]], ids=lambda cause: type(cause).__name__)
def test_a_dual_error_is_pickled_as_one(cause: Exception) -> None:
    error = _raised(cause)
    error.add_note("a note")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy).__name__ == type(error).__name__
    assert isinstance(copy, type(cause))
    assert str(copy) == str(error)
    assert copy.__notes__ == ["a note"]


def test_an_exception_group_can_be_taken_apart() -> None:
    caught: list[str] = []
    try:
        raise _raised(ExceptionGroup("several", [ValueError("v"), KeyError("k")]))
    except* ValueError as group:
        caught += [str(one) for one in group.exceptions]
    except* KeyError:
        caught.append("key")
    assert caught == ["v", "key"]


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), Exception("plain")])
def test_some_causes_make_no_dual_class(cause: BaseException) -> None:
    error = _raised(cause)
    assert type(error) is RayTaskError
    assert error.cause is cause


def test_a_class_that_refuses_subclasses_is_raised_plainly() -> None:
    class Final(Exception):
        def __init_subclass__(cls, **kwargs: Any) -> None:
            raise RuntimeError("final")

    error = _raised(Final("x"))
    assert type(error) is RayTaskError
    assert isinstance(error.cause, Final)
