"""What a worker adds to the runtime; drivers use the base class."""

from __future__ import annotations

from typing import Any

from core.protocol.framing import ProtocolError
from core.protocol.records import ActorSpec
from core.runtime.connection import Connection
from core.runtime.waiting import EventWaiter


class Inbox:
    """What a worker does with the messages only workers get. A driver has none."""

    def received(self, connection: Connection, message: Any) -> None:
        """Handle one message of a peer or of the node."""
        raise ProtocolError(f"a driver takes no {type(message).__name__}")

    def current(self) -> tuple[bytes, int]:
        """Return the running task's id and the depth of the tasks it submits."""
        return b"", 1

    def running_since(self) -> list[tuple[bytes, int]]:
        """Return what runs here: pairs of (task id, Unix time of its start in milliseconds)."""
        return []

    def idle(self) -> bool:
        """Tell whether nothing waits to run here."""
        return True

    def blocking(self, waiter: EventWaiter) -> bool:
        """A thread is about to wait; return whether :meth:`resumed` must follow."""
        return False

    def resumed(self) -> None:
        """The wait is over.

        Raises:
            KeyboardInterrupt: what waited was cancelled.
        """

    def process_died(self, address: bytes) -> None:
        """Another process is gone."""

    def captured_group(self) -> bytes:
        """Return the placement group that tasks submitted by this thread run in unless they say otherwise."""
        return b""

    def exit_actor(self) -> None:
        """End the actor that the calling thread runs in.

        Raises:
            TypeError: this is no actor.
        """
        raise TypeError("exit_actor() can only be called inside of an actor")

    def actor_spec(self) -> ActorSpec | None:
        """Return the spec of the actor that lives here, if one does."""
        return None

    def facts(self) -> dict[str, Any]:
        """Return what ``get_runtime_context()`` tells of the running task."""
        return {}
