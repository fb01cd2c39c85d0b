"""The inline engine: the whole program in one process and, but for asyncio actors, in the calling thread.

``init(engine="inline")`` is for debuggers: a task runs at ``.remote()``, before that returns, so breakpoints, ``pdb``
and tracebacks just work. Values still travel through pickles, so that what a task may see and change is the same as
with worker processes. What differs by nature: nothing runs at the same time (only coroutines of asyncio actors do), so
cancelling finds nothing to cancel, resources are counted but never waited for, and code that ends its process ends the
program. Generators run when their items are asked for.

========================  ==========================================
:mod:`.objects`           the table of objects and its reference counts
:mod:`.calls`             packing arguments, running user code, its context
:mod:`.generators`        streaming generators
:mod:`.actors`            actors and the event loops of asyncio actors
:mod:`.groups`            placement groups and resource accounts
:mod:`.engine`            the engine itself
========================  ==========================================
"""

from __future__ import annotations

from core.descriptors import InitConfig
from core.engine.base import Engine
from core.engine.inline.engine import InlineEngine


def start(config: InitConfig) -> Engine:
    """Start a session in this process."""
    return InlineEngine(config)


__all__ = ["InlineEngine", "start"]
