"""The daemon's entry: fork the zygote, listen, serve, and leave nothing behind."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec

from core.node import process
from core.node.config import NodeConfig
from core.protocol import NODE_SOCKET

FORBID_PICKLE_VARIABLE = "SKATE_FORBID_PICKLE"
#: Seconds the daemon spends on reaping what it ended.
REAP_SECONDS = 1.0
#: How much of a traceback the launcher is told.
MAX_REASON_BYTES = 8192


def main(argument: str) -> NoReturn:
    """Run the daemon; never returns.

    Args:
        argument: a :class:`~core.node.config.NodeConfig` as JSON.
    """
    config = msgspec.json.decode(argument, type=NodeConfig)
    # The terminal's Ctrl-C is the driver's business; its death ends the session.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # until all is imported
    zygote_socket, zygote_pid = _fork_zygote(config)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Imported after the fork: the zygote has no use for it, and the fork must come first.
    from core.node.connections import listen  # noqa: PLC0415
    from core.node.zygote_client import ZygoteClient  # noqa: PLC0415

    code = 1
    try:
        process.adopt_orphans()
        _forbid_pickle()
        listener = listen(str(Path(config.session_dir) / NODE_SOCKET))
        if config.control_fd >= 0:
            os.write(config.control_fd, b"\n")
        # The launcher connects while the rest is imported.
        from core.node.service import NodeService  # noqa: PLC0415

        service = NodeService(config, listener, ZygoteClient(zygote_socket, zygote_pid))
        gc.freeze()
        gc.enable()
        signal.signal(signal.SIGTERM, lambda signum, frame: service.loop.post(service.loop.stop))
        service.run()
        code = 0
    except BaseException:
        # The outermost shell: whatever it was, the log says it and nothing is left running.
        logging.getLogger(__name__).exception("the node daemon failed")
        _tell_launcher(config, traceback.format_exc())
    # The zygote tidies up, and last of all ends itself: so all is tidied up even if this process is killed meanwhile.
    process.end_child(zygote_pid, REAP_SECONDS)
    process.end_descendants(REAP_SECONDS)
    # Not needed before, and slow to import.
    from core.node import session  # noqa: PLC0415

    session.remove(Path(config.session_dir))
    os._exit(code)


def _tell_launcher(config: NodeConfig, text: str) -> None:
    """Send the reason of the end to the launcher, since the log goes with the session directory."""
    if config.control_fd >= 0:
        with contextlib.suppress(OSError):
            os.set_blocking(config.control_fd, False)
            os.write(config.control_fd, text.encode()[-MAX_REASON_BYTES:])


def _fork_zygote(config: NodeConfig) -> tuple[socket.socket, int]:
    """Fork the zygote while this process has one thread and few modules."""
    ours, theirs = socket.socketpair()
    # A collection writes to every object it looks at: in two processes that share them, it would copy them all.
    gc.freeze()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    try:
        ours.close()
        if config.control_fd >= 0:
            os.close(config.control_fd)
        # Only the zygote needs it.
        from core.node.zygote import Zygote  # noqa: PLC0415

        Zygote(theirs, config.session_dir, config.worker_entry, config.driver_pid).run()
    except BaseException:
        logging.getLogger(__name__).exception("the zygote failed")
    finally:
        os._exit(1)


def _forbid_pickle() -> None:
    """With ``SKATE_FORBID_PICKLE=1`` (tests set it), end the process if anything is unpickled in it."""
    if os.environ.get(FORBID_PICKLE_VARIABLE) != "1":
        return

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "pickle.find_class":
            os.write(2, f"the node daemon must never unpickle: {args}\n".encode())
            os._exit(86)

    sys.addaudithook(hook)
