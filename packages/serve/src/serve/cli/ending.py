"""Learn that an operator has ended Serve (``serve shutdown``, or the REST API), in the process that holds it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from core.exceptions import RayError
from core.util import kv
from serve.admin.server import END_KEY, HOLDER_KEY


@contextlib.contextmanager
def watch_for_the_end(ended: threading.Event) -> Iterator[None]:
    """Have an event set when Serve is to end, within the block; who asks learns that this process holds it."""
    kv.put(HOLDER_KEY, str(os.getpid()).encode())
    watch = kv.watch(END_KEY, None)

    def wait() -> None:
        with contextlib.suppress(RayError):  # the session is over
            if watch.poll() is not None:
                ended.set()

    thread = threading.Thread(target=wait, daemon=True, name="serve-end")
    thread.start()
    try:
        yield
    finally:
        watch.close()
        thread.join()
