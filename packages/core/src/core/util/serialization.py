"""Serializers for classes that cannot be pickled as they are (``ray.util.register_serializer``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from core import custom_serializers

T = TypeVar("T")


def register_serializer(cls: type[T], *, serializer: Callable[[T], Any], deserializer: Callable[[Any], T]) -> None:
    """Send instances of exactly ``cls`` by way of other functions, from this process.

    A process that only receives such objects needs no registration; a worker that sends some back does.

    Args:
        cls: the class.
        serializer: turns an instance into something that can be pickled.
        deserializer: makes an instance of that again; must itself be picklable.

    Raises:
        TypeError: ``cls`` is no class, or a function cannot be called.
    """
    custom_serializers.register(cls, serializer, deserializer)


def deregister_serializer(cls: type) -> None:
    """Pickle instances of ``cls`` as usual again, in this process; does nothing if it has no serializer."""
    custom_serializers.deregister(cls)
