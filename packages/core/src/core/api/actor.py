"""What an actor's own code may call: ``exit_actor``."""

from __future__ import annotations

from typing import NoReturn

from core import current


def exit_actor() -> NoReturn:
    """End the actor that calls it: never restarted, ``atexit`` handlers run, later calls raise ``ActorDiedError``.

    Raises:
        TypeError: called outside of an actor.
    """
    engine = current.engine
    if engine is None or engine.facts().actor_id is None:
        raise TypeError("exit_actor() can only be called in a method of an actor")
    engine.exit_actor()
    raise AssertionError("exit_actor() returned")
