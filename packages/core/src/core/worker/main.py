"""Entry of a worker process, called by the zygote in the forked child."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import NoReturn

from core import current
from core.engine.native import NativeEngine
from core.exceptions import RaySystemError
from core.protocol import VERSION, to_node
from core.protocol.zygote import WorkerStart
from core.runtime.runtime import Runtime
from core.worker import prints
from core.worker.executor import Executor


def _refuse_session() -> NoReturn:
    """Stand in for the start of a default session: only a child forked by a task finds no engine in a worker."""
    raise RaySystemError(
        "this process was forked inside of a task or actor and has no part in its session: use the session before the "
        "fork, submit a task instead of forking, or call core.init() here for a session of its own"
    )


def run(start: WorkerStart) -> NoReturn:
    """Join the session and run tasks until told to leave. Never returns.

    Args:
        start: what the zygote was told of this worker.
    """
    try:
        prints.install()
        executor = Executor(start)
        hello = to_node.Hello(VERSION, start.address, "worker", os.getpid(), start.token)
        runtime = Runtime(Path(start.session_dir), hello, executor)
        runtime.default_env = start.runtime_env
        executor.attach(runtime)
        current.set_engine(NativeEngine(runtime))
        current.set_auto_init(_refuse_session)
        runtime.start()
        executor.run()
    except BaseException:  # noqa: BLE001 - the process's outermost shell
        traceback.print_exc()
        os._exit(1)
