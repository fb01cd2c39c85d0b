"""From what user code returned or raised to the message for the caller."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from core import exceptions, ids, remote_errors
from core.protocol import peer
from core.protocol.peer import Extra
from core.runtime import causes
from core.runtime.connection import Connection
from core.runtime.packing import unpicklable_error
from core.serialization import Parts, loads
from core.worker.running import Running

if TYPE_CHECKING:
    from core.runtime.runtime import Runtime

#: Results are held back for company at most this long while more work waits, in seconds.
LINGER = 0.001
BATCH = 64


def end_forked_child(error: BaseException | None) -> NoReturn:
    """End a process that user code forked and that came back from it into the worker's code.

    Its sockets and its shared memory are the parent's, so nothing may be sent: it ends as a script would.

    Args:
        error: what it raised instead of returning.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    with contextlib.suppress(OSError, ValueError, AttributeError):  # streams may be closed or replaced by anything
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


class Outcomes:
    """Loads arguments and sends results, for one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def arguments(self, task: bytes, blob: bytes, extra: Extra | None) -> tuple[Any, dict[str, Any]]:
        """Return the positional and keyword arguments of a task.

        Raises:
            Whatever unpickling raises.
        """
        if extra is not None and extra.args_stored:
            return self._with_dependencies(self.stored(task + ids.ARGUMENTS_INDEX), extra)
        loaded: Any = loads(blob) if blob else ()
        if extra is not None and extra.dependencies:
            return self._with_dependencies(loaded, extra)
        if isinstance(loaded, tuple):
            return loaded, {}
        args, kwargs = loaded
        return args, kwargs

    def _with_dependencies(self, loaded: Any, extra: Extra) -> tuple[Any, dict[str, Any]]:
        args, kwargs = (loaded, {}) if isinstance(loaded, tuple) else loaded
        if extra.dependencies:
            positional = list(args)
            for dependency in extra.dependencies:
                value = self._dependency(dependency)
                if dependency.name:
                    kwargs[dependency.name] = value
                else:
                    positional[dependency.index] = value
            args = positional
        return args, kwargs

    def _dependency(self, dependency: peer.Dependency) -> Any:
        value = dependency.value
        if value.kind == "i":
            return loads(value.data)
        if value.kind == "e":
            raise remote_errors.unpack_error(value.data)
        return self.stored(dependency.object_id)

    def stored(self, object_id: bytes) -> Any:
        """Read an object from the store; its pin ends with the last view of it."""
        rt = self._rt
        view = rt.store.read(object_id)
        if view is None:
            return rt.values.get_lost(object_id)
        value = loads(view)
        del view
        if object_id not in rt.table.entries:
            rt.store.forget(object_id)
        return value

    # -- results ----------------------------------------------------------------------------------------------------

    def send_value(self, running: Running, value: Any, micros: int, *, exiting: bool = False) -> None:
        """Send what user code returned."""
        if self._rt.forked:
            end_forked_child(None)
        extra = running.extra
        returns = 1 if extra is None else extra.returns
        if returns != 1:
            self._send_several(running, value, returns, micros, exiting)
            return
        data, contained = self._pack(running, value)
        if type(data) is bytes and not contained and not exiting:
            self._send(running.connection, peer.Result(running.task, data, micros))
        else:
            self._send_results(running, [(data, contained)], micros, exiting)

    def _pack(self, running: Running, value: Any) -> tuple[bytes | Parts, tuple[bytes, ...]]:
        try:
            return self._rt.packer.value(value)
        except exceptions.RayError:
            raise
        except Exception as error:  # user code: reducers raise what they like
            raise unpicklable_error(f"return value of {running.name}", value, error) from error

    def _send_several(self, running: Running, value: Any, returns: int, micros: int, exiting: bool) -> None:
        if returns == 0:
            self._send_results(running, [], micros, exiting)
            return
        try:
            values = list(value)
        except TypeError:
            raise ValueError(
                f"{running.name} must return {returns} values (num_returns={returns}), got {type(value).__name__}"
            ) from None
        if len(values) != returns:
            raise ValueError(f"Task returned {len(values)} objects, but num_returns={returns} ({running.name})")
        self._send_results(running, [self._pack(running, one) for one in values], micros, exiting)

    def value(self, object_id: bytes, data: bytes | Parts, contained: tuple[bytes, ...]) -> peer.Value:
        """Return the message form of a packed value, storing it if it is large.

        Raises:
            ObjectStoreFullError, OutOfDiskError: there is no room for it.
        """
        if type(data) is bytes:
            return peer.Value("i", data, 0, contained)
        assert type(data) is Parts
        self._rt.values.store_value(object_id, data)
        return peer.Value("s", b"", data.nbytes, contained)

    def _send_results(
        self, running: Running, packed: list[tuple[bytes | Parts, tuple[bytes, ...]]], micros: int, exiting: bool
    ) -> None:
        task = running.task
        values = tuple(
            self.value(ids.object_id(task, index), data, contained) for index, (data, contained) in enumerate(packed)
        )
        everything = tuple(inner for value in values for inner in value.contained)
        with self._rt.lock:
            if everything:
                self._rt.settling.hand_over(running.connection.address, task, everything)
            self._rt.exchange.announce()
        self._send(running.connection, peer.Results(task, values, micros, exiting=exiting))

    def send_item(self, running: Running, index: int, value: Any) -> None:
        """Send one item of a stream."""
        if self._rt.forked:
            end_forked_child(None)
        object_id = ids.object_id(running.task, index + 1)
        data, contained = self._pack(running, value)
        message = self.value(object_id, data, contained)
        with self._rt.lock:
            if contained:
                self._rt.settling.hand_over(running.connection.address, object_id, contained)
            if message.kind == "s":
                self._rt.exchange.announce()
        self._send(running.connection, peer.Item(running.task, index, message))

    def send_end(self, running: Running, count: int, micros: int) -> None:
        """End a stream of ``count`` items."""
        if self._rt.forked:
            end_forked_child(None)
        self._send(running.connection, peer.Results(running.task, (), micros, items=count), flush=True)

    def error_blob(self, running: Running, error: BaseException) -> bytes:
        """Return the blob of an error for the caller."""
        if isinstance(error, KeyboardInterrupt) or (running.cancelled and not isinstance(error, Exception)):
            return causes.cancelled(running.task, running.name)
        return remote_errors.pack_error(error, running.name, pid=os.getpid())

    def send_error(self, running: Running, error: BaseException, micros: int) -> None:
        """Send what user code raised. The caller may try again; else it becomes the result, or a stream's last item."""
        if self._rt.forked:
            end_forked_child(error)
        cancelled = running.cancelled or isinstance(error, KeyboardInterrupt)
        blob = causes.cancelled(running.task, running.name) if cancelled else self.error_blob(running, error)
        value = peer.Value("e", blob)
        self._send(
            running.connection,
            peer.Results(running.task, (value,), micros, failed=True, retry=not cancelled),
            flush=True,
        )

    def send_cancelled(self, connection: Connection, task: bytes, name: str) -> None:
        """Tell that a queued task will not run because it was cancelled."""
        value = peer.Value("e", causes.cancelled(task, name))
        self._send(connection, peer.Results(task, (value,), failed=True), flush=True)

    def _send(self, connection: Connection, message: Any, flush: bool = False) -> None:
        rt = self._rt
        with rt.lock:
            if rt.borrowing.quiet:
                self._send_now(connection, message, flush)
            else:
                rt.borrowing.when_settled(lambda: self._send_now(connection, message, flush), connection.address)
                rt.reactor.flush_dirty()

    def _send_now(self, connection: Connection, message: Any, flush: bool) -> None:
        rt = self._rt
        if not connection.closed:
            connection.out.append(message)
            now = time.monotonic()
            if flush or rt.inbox.idle() or now - connection.flushed_at > LINGER or len(connection.out) >= BATCH:
                rt.reactor.flush(connection, now)
            else:
                rt.reactor.dirty.add(connection)
                rt.reactor.queued()
