"""Error blobs the runtime itself makes: for tasks whose worker died, that were cancelled, that cannot be placed."""

from __future__ import annotations

import os
import signal

from core import exceptions, remote_errors
from core.protocol.records import DeathCause


def describe(cause: DeathCause) -> str:
    """Say in one line how a process ended."""
    if cause.kind == "signal":
        try:
            name = signal.Signals(cause.code).name
        except ValueError:
            name = f"signal {cause.code}"
        text = f"killed by signal {cause.code} ({name})"
    elif cause.kind == "exit":
        text = f"exited with code {cause.code}"
    elif cause.kind == "oom":
        text = "ended by the memory monitor"
    else:
        text = cause.kind
    if cause.pid:
        text = f"worker process {cause.pid} {text}"
    return f"{text}: {cause.detail}" if cause.detail else text


def with_stderr(text: str, cause: DeathCause) -> str:
    """Add the last lines the process wrote to stderr."""
    tail = cause.stderr_tail.rstrip()
    return f"{text}\nIts last lines on stderr:\n{tail}" if tail else text


def pack(error: exceptions.RayError) -> bytes:
    """Return the blob of a framework error."""
    return remote_errors.pack_error(error, "", pid=os.getpid())


def cancelled(task: bytes, name: str) -> bytes:
    """Return the blob for a cancelled task."""
    return pack(exceptions.TaskCancelledError(task.hex(), f"it is a call of {name}"))


def worker_died(name: str, task: bytes, cause: DeathCause, attempts: int) -> bytes:
    """Return the blob for a task whose worker died (for the last time)."""
    tries = f" (attempt {attempts}, no retries left)" if attempts > 1 else ""
    if cause.kind == "oom":
        return pack(exceptions.OutOfMemoryError(with_stderr(f"task {name}{tries}: {describe(cause)}", cause)))
    text = with_stderr(f"task {name} ({task.hex()}) failed{tries}: {describe(cause)}", cause)
    signal_number = cause.code if cause.kind == "signal" else 0
    exit_code = cause.code if cause.kind == "exit" else None
    return pack(
        exceptions.WorkerCrashedError(
            text, signal=signal_number, exit_code=exit_code, pid=cause.pid, task=name, stderr_tail=cause.stderr_tail
        )
    )


def actor_died(actor: bytes, class_name: str, cause: DeathCause | None) -> bytes:
    """Return the blob for a call to a dead actor."""
    text = f"actor {class_name} ({actor.hex()}) is dead"
    if cause is not None and cause.kind == "unschedulable":
        return pack(exceptions.ActorUnschedulableError(f"actor {class_name}: {cause.detail}"))
    if cause is not None and cause.kind == "placement_group_removed":
        return pack(exceptions.ActorPlacementGroupRemoved(f"actor {class_name}: {cause.detail}"))
    if cause is not None and cause.kind == "runtime_env":
        return pack(exceptions.RuntimeEnvSetupError(cause.detail))
    if cause is not None:
        text = with_stderr(f"{text}: {describe(cause)}", cause)
        return pack(
            exceptions.ActorDiedError(
                text,
                actor_id=actor.hex(),
                class_name=class_name,
                signal=cause.code if cause.kind == "signal" else 0,
                exit_code=cause.code if cause.kind == "exit" else None,
                pid=cause.pid,
                stderr_tail=cause.stderr_tail,
            )
        )
    return pack(exceptions.ActorDiedError(text, actor_id=actor.hex(), class_name=class_name))


def actor_unavailable(actor: bytes, class_name: str, cause: DeathCause | None) -> bytes:
    """Return the blob for a call that was in flight when its actor was restarted."""
    text = f"{class_name} is being restarted"
    if cause is not None:
        text = with_stderr(f"{text}, because its {describe(cause)}", cause)
    return pack(exceptions.ActorUnavailableError(text, actor.hex()))
