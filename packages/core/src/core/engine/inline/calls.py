"""Running user code in the calling thread: arguments, context, environment, errors, retries."""

from __future__ import annotations

import contextvars
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from core import specs
from core.descriptors import ClassDescriptor, FunctionDescriptor
from core.engine.inline.objects import ObjectTable, Outcome, StoredError, StoredValue, value_of
from core.exceptions import RayError, RayTaskError, WorkerCrashedError
from core.refs import ObjectRef
from core.remote_errors import pack_error
from core.runtime.packing import unpicklable_arguments, unpicklable_error
from core.serialization import dumps_code, loads


class TaskContext(Struct):
    """What ``get_runtime_context()`` tells user code about itself."""

    task_id: bytes
    name: str
    function_name: str
    resources: dict[str, float]
    gpu_ids: list[int]
    runtime_env: specs.RuntimeEnv
    placement_group: bytes = b""
    capture_child_tasks: bool = False
    actor_id: bytes = b""
    cancelled: bool = False


#: The task that the current thread or coroutine runs.
current_task: contextvars.ContextVar[TaskContext | None] = contextvars.ContextVar("current_task", default=None)


class ActorExitRequest(BaseException):
    """Raised by ``exit_actor``. Not an ``Exception``, so that user code does not catch it by accident."""


class PackedCall:
    """Arguments of a call, pickled at ``.remote()``, with the references among them."""

    def __init__(self, objects: ObjectTable, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._objects = objects
        self._positional = {index: arg for index, arg in enumerate(args) if type(arg) is ObjectRef}
        self._named = {name: arg for name, arg in kwargs.items() if type(arg) is ObjectRef}
        plain = [None if index in self._positional else arg for index, arg in enumerate(args)]
        named = {name: arg for name, arg in kwargs.items() if name not in self._named}
        try:
            self._stored = objects.serialize((plain, named))
        except RayError:
            raise
        except Exception as error:
            raise unpicklable_arguments(what, args, kwargs, error) from error

    @property
    def references(self) -> list[ObjectRef[Any]]:
        """The references among the arguments, which the call depends on."""
        return [*self._positional.values(), *self._named.values()]

    def failure(self) -> StoredError | None:
        """Wait for the references; return the error of the first that failed."""
        for ref in self.references:
            outcome = self._objects.outcome(ref.id)
            if isinstance(outcome, StoredError):
                return outcome
        return None

    def unpack(self) -> tuple[list[Any], dict[str, Any]]:
        """Return fresh copies of the arguments; the references must be settled."""
        args, kwargs = loads(self._stored.data)
        for index, ref in self._positional.items():
            args[index] = value_of(self._objects.outcome(ref.id))
        for name, ref in self._named.items():
            kwargs[name] = value_of(self._objects.outcome(ref.id))
        return args, kwargs


class Retries(Struct):
    """Which errors of user code are retried, and how often."""

    count: int
    enabled: bool
    only: tuple[type[BaseException], ...] | None

    def allow(self, attempt: int, error: BaseException) -> bool:
        """Tell whether an error of the given attempt (counted from 0) is retried."""
        if not self.enabled or (self.count >= 0 and attempt >= self.count):
            return False
        cause = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
        return self.only is None or isinstance(cause, self.only)


@contextmanager
def running(objects: ObjectTable, context: TaskContext) -> Iterator[None]:
    """Inside, user code runs as the given task and in its environment."""
    token = current_task.set(context)
    try:
        with objects.nothing_collected(), environment(context.runtime_env, context.gpu_ids):
            yield
    finally:
        current_task.reset(token)


@contextmanager
def environment(env: specs.RuntimeEnv, gpu_ids: list[int]) -> Iterator[None]:
    """Inside, the process has the variables, import path and directory of ``env``; afterwards its own again."""
    if env == specs.RuntimeEnv() and not gpu_ids:
        yield
        return
    saved = dict(os.environ), list(sys.path), Path.cwd()
    if gpu_ids:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpu_ids))
    os.environ.update(dict(env.env_vars))
    sys.path[:0] = [*env.py_modules, *([env.working_dir] if env.working_dir else [])]
    try:
        if env.working_dir:
            os.chdir(env.working_dir)
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved[0])
        sys.path[:] = saved[1]
        os.chdir(saved[2])


def attempt(
    objects: ObjectTable, context: TaskContext, call: Callable[[], Any], retries: Retries, num_returns: int
) -> list[Outcome]:
    """Run user code, again if its error is to be retried; return one outcome per return value. Does not raise.

    ``KeyboardInterrupt`` goes through: in the driver's own thread it is the user's Ctrl-C.
    """
    tries = 0
    while True:
        try:
            with running(objects, context):
                value = call()
            return split(objects, value, num_returns, context.function_name)
        except (KeyboardInterrupt, ActorExitRequest):
            raise
        except SystemExit as exit_request:
            code = exit_request.code if isinstance(exit_request.code, int) else int(exit_request.code is not None)
            crash = WorkerCrashedError(exit_code=code, pid=os.getpid(), task=context.name)
            return [failed(crash, context.function_name)] * max(1, num_returns)
        except BaseException as error:  # noqa: BLE001 - user code raises what it likes
            if not retries.allow(tries, error):
                return [failed(error, context.function_name)] * max(1, num_returns)
            tries += 1


def failed(error: BaseException, function_name: str) -> StoredError:
    """Return the outcome of a call that raised."""
    return StoredError(pack_error(error, function_name, pid=os.getpid()), error)


def split(objects: ObjectTable, value: Any, num_returns: int, name: str) -> list[Outcome]:
    """Return the outcomes for what a function returned; a generator's items are drawn here.

    Raises:
        ValueError, TypeError: there are not ``num_returns`` values, or one cannot be pickled.
    """
    if num_returns == 1:
        return [stored(objects, value, name)]
    if num_returns == 0:
        return []
    try:
        values = list(value)
    except TypeError:
        raise ValueError(f"Task returned one object, but num_returns={num_returns}.") from None
    if len(values) != num_returns:
        raise ValueError(f"Task returned {len(values)} objects, but num_returns={num_returns}.")
    return [stored(objects, each, name) for each in values]


def stored(objects: ObjectTable, value: Any, name: str) -> StoredValue:
    """Pickle a return value.

    Raises:
        TypeError: it cannot be pickled.
    """
    try:
        return objects.serialize(value)
    except RayError:
        raise
    except Exception as error:
        raise unpicklable_error(f"return value of {name}", value, error) from error


class _Copy(NamedTuple):
    """What ``exported`` of a descriptor holds in this engine; like that of the native one, it tells whose it is."""

    session: object
    code: Any


def local_copy(descriptor: FunctionDescriptor | ClassDescriptor, code: Any, what: str, session: bytes) -> Any:
    """Return the session's copy of a function or class: what a worker process would have.

    Raises:
        TypeError: it cannot be pickled.
    """
    if descriptor.exported is None or descriptor.exported.session != session:
        try:
            blob = dumps_code(code)
        except RayError:
            raise
        except Exception as error:
            raise unpicklable_error(what, code, error) from error
        descriptor.exported = _Copy(session, loads(blob))
    return descriptor.exported.code
