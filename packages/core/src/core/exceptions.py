"""Every error Skate raises, in Ray's tree and under Ray's names.

::

    RayError
    ├── RayTaskError                     user code raised; also an instance of the user's own class
    ├── TaskCancelledError
    ├── WorkerCrashedError               the worker process died under a task
    ├── OutOfMemoryError                 ... ended by the memory monitor
    ├── NodeDiedError
    ├── LocalRayletDiedError             the node daemon of this machine is gone
    ├── RayActorError
    │   ├── ActorDiedError               for good
    │   └── ActorUnavailableError        for now
    ├── RaySystemError                   our fault, or the session is not running
    │   ├── StreamingGeneratorReplayInconsistentError
    │   ├── RayChannelError
    │   │   └── RayChannelTimeoutError   (+ TimeoutError)
    │   ├── RayCgraphCapacityExceeded
    │   └── RayDirectTransportError
    ├── ObjectLostError
    │   ├── ObjectFetchTimedOutError
    │   ├── ReferenceCountingAssertionError (+ AssertionError)
    │   ├── ObjectFreedError
    │   ├── OwnerDiedError
    │   └── ObjectReconstructionFailedError
    ├── ObjectStoreFullError
    ├── OutOfDiskError
    ├── GetTimeoutError                  (+ TimeoutError)
    ├── RuntimeEnvSetupError
    ├── TaskUnschedulableError
    ├── ActorUnschedulableError
    ├── TaskPlacementGroupRemoved
    ├── ActorPlacementGroupRemoved
    ├── PendingCallsLimitExceeded
    ├── ActorAlreadyExistsError          (+ ValueError)
    ├── ActorHandleNotFoundError         (+ ValueError)
    ├── AsyncioActorExit
    ├── AuthenticationError
    ├── CrossLanguageError
    ├── UserCodeException
    ├── RpcError
    ├── PlasmaObjectNotAvailable
    ├── ObjectRefStreamEndOfStreamError
    ├── UnserializableException
    └── OufOfBandObjectRefSerializationException   (Ray's spelling)

All can be pickled with their fields. Wrong arguments of a call are plain ``TypeError`` and ``ValueError``. One long
module, because a tree is read whole.
"""

# ruff: noqa: N818 - the names are Ray's
from __future__ import annotations

import os
import signal as signals
from typing import Any

from core.dual_exceptions import dual_exception


class RayError(Exception):
    """Base of all errors of the framework.

    A subclass keeps its message in ``args[0]`` and everything else in attributes, so that the default pickling of
    exceptions (class, ``args``, ``__dict__``) carries it whole.
    """


class CrossLanguageError(RayError):
    """Kept for programs that name it; Skate runs Python only."""


class TaskCancelledError(RayError):
    """The task was cancelled, before or while it ran.

    Args:
        task_id: hexadecimal id of the task, if known.
        error_message: what to add to the message.
    """

    def __init__(self, task_id: str | None = None, error_message: str | None = None) -> None:
        super().__init__(task_id, error_message)
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        name = f"task {self.task_id}" if self.task_id else "the task"
        return f"{name} was cancelled" + (f": {self.error_message}" if self.error_message else "")


class RayTaskError(RayError):
    """User code raised in a task or an actor method.

    ``get`` raises an instance of a class that inherits both this one and the class of the user's exception
    (:meth:`as_instanceof_cause`), so ``except MyError`` works across processes. Its message is the remote traceback;
    its ``args`` are ``(cause,)``; attributes it lacks are looked up on the cause.

    Args:
        function_name: the remote function or method, for people.
        traceback_str: the remote traceback as text.
        cause: the user's exception; None where only its text is known.
        proctitle: title of the process; default: the function's name.
        pid: the process that raised; default: this one.
        ip: address of its node; default: this machine.
        actor_repr: ``repr`` of the actor's instance, None outside of actors.
        actor_id: hexadecimal id of the actor, None outside of actors.
    """

    #: the remote function or method, for people
    function_name: str
    #: the remote traceback as text: the user's frames, then type and message
    traceback_str: str
    #: the user's exception
    cause: BaseException | None
    #: title of the process that raised, the function's name unless given
    proctitle: str
    #: process that raised
    pid: int
    #: address of the node that raised
    ip: str
    #: ``repr`` of the actor's instance, if its class defines one
    actor_repr: str | None
    actor_id: str | None

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException | None,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        pid = pid or os.getpid()
        ip = ip or "127.0.0.1"
        super().__init__(function_name, traceback_str, cause, proctitle, pid, ip, actor_repr, actor_id)
        self._set_fields(function_name, traceback_str, cause, proctitle, pid, ip, actor_repr, actor_id)

    def _set_fields(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException | None,
        proctitle: str | None,
        pid: int,
        ip: str,
        actor_repr: str | None,
        actor_id: str | None,
    ) -> None:
        # Through __dict__: the user's class may forbid setting attributes (a frozen dataclass does).
        self.__dict__.update(
            function_name=function_name,
            traceback_str=traceback_str,
            cause=cause,
            proctitle=proctitle or function_name,
            pid=pid,
            ip=ip,
            actor_repr=actor_repr,
            actor_id=actor_id,
        )

    def as_instanceof_cause(self) -> RayTaskError:
        """Return an equal error that is also an instance of the cause's class, or ``self`` where that cannot be.

        It cannot be for classes that refuse subclassing, and is not done for exceptions that end processes or
        coroutines (``KeyboardInterrupt``, ``SystemExit``, ``GeneratorExit``, ``asyncio.CancelledError``): the caller
        was not interrupted.
        """
        cause = self.cause
        if not isinstance(cause, Exception) or isinstance(self, type(cause)):
            return self
        try:
            made: RayTaskError = dual_exception(self, RayTaskError, cause)
        except Exception:  # noqa: BLE001 - subclassing the user's class runs its metaclass and __init_subclass__
            return self
        return made

    def __str__(self) -> str:
        where = f"pid={self.pid}, ip={self.ip}"
        if self.actor_id:
            where += f", actor_id={self.actor_id}"
        if self.actor_repr:
            where += f", repr={self.actor_repr}"
        return f"{self.proctitle}() ({where})\n{self.traceback_str.rstrip()}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.cause!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        fields = self.__dict__
        names = ("function_name", "traceback_str", "cause", "proctitle", "pid", "ip", "actor_repr", "actor_id")
        extra = {name: value for name, value in fields.items() if name not in names}
        return (_restore_task_error, (type(self) is not RayTaskError, *(fields[name] for name in names)), extra)

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        if state:
            self.__dict__.update(state)


def _restore_task_error(dual: bool, *fields: Any) -> RayTaskError:
    error = RayTaskError(*fields)
    return error.as_instanceof_cause() if dual else error


def describe_death(signal: int, exit_code: int | None) -> str:
    """Say how a process ended: ``"was ended by SIGKILL"``, ``"exited with code 3"``, ``"died unexpectedly"``."""
    if signal:
        try:
            name = signals.Signals(signal).name
        except ValueError:
            name = f"signal {signal}"
        return f"was ended by {name}"
    if exit_code is not None:
        return f"exited with code {exit_code}"
    return "died unexpectedly"


def _with_stderr(text: str, stderr_tail: str) -> str:
    return f"{text}\nLast lines of its stderr:\n{stderr_tail.rstrip()}" if stderr_tail.strip() else text


class LocalRayletDiedError(RayError):
    """The node daemon of this machine is gone, and with it every worker and shared object of the session."""

    def __init__(self, message: str = "the node daemon of this session died; call shutdown() and init() again") -> None:
        super().__init__(message)


class WorkerCrashedError(RayError):
    """The worker process died while it ran the task, and no retries were left.

    Args:
        message: used as it is if given; else composed from the fields.
        signal: number of the signal that ended the process, 0 for none.
        exit_code: its exit code, None if unknown.
        pid: its process id, 0 if unknown.
        task: name of the task it ran.
        stderr_tail: the last lines it wrote to stderr.
        detail: anything else that is known.
    """

    def __init__(
        self,
        message: str = "",
        *,
        signal: int = 0,
        exit_code: int | None = None,
        pid: int = 0,
        task: str = "",
        stderr_tail: str = "",
        detail: str = "",
    ) -> None:
        if not message:
            who = f"the worker (pid {pid})" if pid else "the worker"
            doing = f"task {task}" if task else "this task"
            message = f"{who} {describe_death(signal, exit_code)} while it ran {doing}"
            message += f": {detail}" if detail else ""
            message += ". No retries were left (see the option max_retries)."
            message = _with_stderr(message, stderr_tail)
        super().__init__(message)
        self.signal = signal
        self.exit_code = exit_code
        self.pid = pid
        self.task = task
        self.stderr_tail = stderr_tail


class RayActorError(RayError):
    """The actor could not finish the call.

    Args:
        actor_id: hexadecimal id of the actor, None if unknown.
        error_msg: the full message.
        actor_init_failed: ``__init__`` raised.
        preempted: its node was taken away.
    """

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str = "the actor failed before it finished this call",
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        super().__init__(actor_id, error_msg, actor_init_failed, preempted)
        self.actor_id = actor_id
        self.error_msg = error_msg
        self._actor_init_failed = actor_init_failed
        self._preempted = preempted

    @property
    def actor_init_failed(self) -> bool:
        """Whether the actor's ``__init__`` raised."""
        return self._actor_init_failed

    @property
    def preempted(self) -> bool:
        """Whether the actor's node was taken away."""
        return self._preempted

    def __str__(self) -> str:
        return self.error_msg


class ActorDiedError(RayActorError):
    """The actor is dead for good: its process died and no restarts are left, it was killed, or ``__init__`` raised.

    Args:
        cause: the error that ``__init__`` raised, or a message, or None to compose one from the fields.
        actor_id: hexadecimal id of the actor.
        class_name: its class.
        signal, exit_code, pid, stderr_tail: as in :class:`WorkerCrashedError`.
        actor_init_failed: whether ``__init__`` raised (implied by a ``RayTaskError`` as cause).
    """

    def __init__(
        self,
        cause: RayTaskError | str | None = None,
        *,
        actor_id: str | None = None,
        class_name: str = "",
        signal: int = 0,
        exit_code: int | None = None,
        pid: int = 0,
        stderr_tail: str = "",
        actor_init_failed: bool = False,
    ) -> None:
        who = f"actor {class_name}" if class_name else "the actor"
        if isinstance(cause, RayTaskError):
            message = f"{who} died because its __init__ raised:\n{cause}"
            actor_init_failed = True
            actor_id = actor_id or cause.actor_id
        elif cause:
            message = cause
        else:
            process = f" (pid {pid})" if pid else ""
            message = f"{who}{process} {describe_death(signal, exit_code)} and has no restarts left (see max_restarts)"
            message = _with_stderr(message, stderr_tail)
        super().__init__(actor_id, message, actor_init_failed)
        #: what ``__init__`` raised, if it did
        self.cause: RayTaskError | None = cause if isinstance(cause, RayTaskError) else None
        self.class_name = class_name
        self.signal = signal
        self.exit_code = exit_code
        self.pid = pid
        self.stderr_tail = stderr_tail

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.error_msg,), self.__dict__)


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached for now (it is being restarted); the call may or may not have run.

    Args:
        error_message: why.
        actor_id: hexadecimal id of the actor.
    """

    def __init__(self, error_message: str = "it is being restarted", actor_id: str | None = None) -> None:
        super().__init__(
            actor_id,
            f"the actor {actor_id or ''} is unavailable: {error_message}. The call may or may not have been executed; "
            "set max_task_retries to have such calls retried.",
        )
        self.reason: str = error_message

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.reason, self.actor_id), self.__dict__)


class RaySystemError(RayError):
    """The framework itself failed or is not running.

    Args:
        client_exc: the error or its message.
        traceback_str: traceback of the failing process, if there is one.
    """

    def __init__(self, client_exc: object = "system error", traceback_str: str | None = None) -> None:
        super().__init__(client_exc, traceback_str)
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        return f"{self.client_exc}\n{self.traceback_str}" if self.traceback_str else str(self.client_exc)


class AuthenticationError(RayError):
    """A peer did not prove that it belongs to the session."""


class UserCodeException(RayError):
    """Raised by libraries to mark that a user's function failed inside them."""


class ObjectStoreFullError(RayError):
    """The object store is full of objects in use and cannot spill any more. Drop references or raise the limit."""


class OutOfDiskError(RayError):
    """The disk that objects spill to is full. What was spilled already stays readable."""


class OutOfMemoryError(RayError):
    """The memory monitor ended the worker before the machine ran out of memory."""


class NodeDiedError(RayError):
    """The node that ran the task is gone."""


class ObjectLostError(RayError):
    """An object's value is gone and cannot be rebuilt.

    Args:
        object_ref_hex: hexadecimal id of the object.
        reason: why it is lost, and what would have helped.
    """

    _default_reason = "all copies of it are lost"

    def __init__(self, object_ref_hex: str = "", reason: str = "") -> None:
        super().__init__(object_ref_hex, reason)
        self.object_ref_hex = object_ref_hex
        self.reason: str = reason or self._default_reason

    def __str__(self) -> str:
        return f"object {self.object_ref_hex} cannot be had: {self.reason}"


class ObjectFetchTimedOutError(ObjectLostError):
    """The object could not be fetched in time from the node that holds it."""

    _default_reason = "fetching it from the node that holds it took too long"


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was freed although it is still referenced: a bug of the framework, please report it."""

    _default_reason = "it was freed while still referenced; this is a bug, please report it"


class ObjectFreedError(ObjectLostError):
    """The object was freed explicitly."""

    _default_reason = "it was freed explicitly"


class OwnerDiedError(ObjectLostError):
    """The process that created the reference, and so owns the value, is gone."""

    _default_reason = "the process that created it died; have a longer-lived process create it"


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost, and running its task again did not bring it back."""

    _default_reason = "its value was lost and its task cannot be run again (see max_retries)"


class GetTimeoutError(RayError, TimeoutError):
    """``get`` waited for its timeout and the value is not there yet. A later ``get`` may have it."""


class PlasmaObjectNotAvailable(RayError):
    """The object is not in the shared-memory store at this moment."""


class AsyncioActorExit(RayError):
    """Raised inside an asyncio actor by ``exit_actor``; ends the actor."""


class RuntimeEnvSetupError(RayError):
    """The ``runtime_env`` of a task or actor could not be set up.

    Args:
        error_message: what failed.
    """

    def __init__(self, error_message: str | None = None) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"the runtime_env could not be set up: {self.error_message or 'unknown reason'}"


class TaskPlacementGroupRemoved(RayError):
    """The placement group that the task was to run in is removed."""

    def __init__(self, message: str = "the placement group of this task was removed") -> None:
        super().__init__(message)


class ActorPlacementGroupRemoved(RayError):
    """The placement group that the actor lived in is removed."""

    def __init__(self, message: str = "the placement group of this actor was removed") -> None:
        super().__init__(message)


class PendingCallsLimitExceeded(RayError):
    """The handle has ``max_pending_calls`` unfinished calls: wait for some of them before calling again."""


class TaskUnschedulableError(RayError):
    """No node can ever run the task with the scheduling strategy it asks for."""


class ActorUnschedulableError(RayError):
    """No node can ever hold the actor with the scheduling strategy it asks for."""


class ObjectRefStreamEndOfStreamError(RayError):
    """A streaming generator has no further items."""


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A generator task that was run again yielded other items than the first time."""


class OufOfBandObjectRefSerializationException(RayError):
    """A reference was pickled by hand where the program forbids it (the misspelling is Ray's)."""


class RayChannelError(RaySystemError):
    """A channel between actors broke."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel operation took too long."""


class RayCgraphCapacityExceeded(RaySystemError):
    """A compiled graph has too many executions in flight."""


class RayDirectTransportError(RaySystemError):
    """Moving a tensor directly between accelerators failed."""


class UnserializableException(RayError):
    """Stands for a user's exception that cannot be pickled or unpickled.

    Args:
        original_stack_trace: type, message and traceback of the exception as text.
    """

    def __init__(self, original_stack_trace: str = "") -> None:
        super().__init__(original_stack_trace)
        self.original_stack_trace = original_stack_trace


class RpcError(RayError):
    """A message to another process of the session could not be delivered.

    Args:
        message: what failed.
        rpc_code: a number that tells failures apart, if there is one.
    """

    def __init__(self, message: str = "", rpc_code: int | None = None) -> None:
        super().__init__(message)
        self.rpc_code = rpc_code


class ActorAlreadyExistsError(ValueError, RayError):
    """An actor of that name lives in the namespace. Use another name, or ``get_if_exists=True``."""


class ActorHandleNotFoundError(ValueError, RayError):
    """The handle belongs to a session that is over."""


#: Ray's alias from before errors of tasks and workers were told apart.
RayWorkerError = WorkerCrashedError
