"""Values as bytes and back.

Pickle protocol 5 with out-of-band buffers, C pickler first. A value's bytes are one of

* a plain pickle (first byte ``0x80``), or
* ``0x01``, then a header, the pickle, and the buffers, each aligned to 64 bytes: numpy arrays and Arrow tables are
  read where they lie, without a copy, read-only.

cloudpickle takes over for what plain pickle would refuse (lambdas, local classes) or get wrong (things of
``__main__``, which workers cannot import): the plain pickle is used only if it does not mention ``__main__``.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle

from core import custom_serializers

#: Values up to this many bytes travel inside messages and live in their owner's memory (Ray's figure).
INLINE_MAX = 100 * 1024

ALIGNMENT = 64
_HEADER = struct.Struct("<B3xIQ")
_OUT_OF_BAND = 1
_PROTOCOL = 5

#: Exact types that the C pickler handles completely and that can hold neither references nor ``__main__`` things.
PRIMITIVES = frozenset({int, float, str, bytes, bool, type(None), complex})

_dumps = pickle.dumps
_loads = pickle.loads


class Parts:
    """A serialized value not yet laid out in one place: its header and pickle, then buffers to copy.

    ``nbytes`` is the size of the whole; :meth:`write` lays it out in a writable view of that size.
    """

    __slots__ = ("_buffers", "_offsets", "head", "nbytes")

    def __init__(self, pickled: bytes, buffers: list[memoryview]) -> None:
        count = len(buffers)
        start = _HEADER.size + 16 * count
        offset = start + len(pickled)
        offsets = []
        table: list[int] = []
        for buffer in buffers:
            offset = -(-offset // ALIGNMENT) * ALIGNMENT
            offsets.append(offset)
            table += (offset, buffer.nbytes)
            offset += buffer.nbytes
        #: everything before the first buffer's padding
        self.head = _HEADER.pack(_OUT_OF_BAND, count, len(pickled)) + struct.pack(f"<{2 * count}Q", *table) + pickled
        self._buffers = buffers
        self._offsets = offsets
        self.nbytes = offset

    def write(self, target: memoryview, copy: Callable[[memoryview, memoryview], None] | None = None) -> None:
        """Lay the value out in ``target`` (``nbytes`` long, writable, format "B")."""
        head = self.head
        target[: len(head)] = head
        for buffer, offset in zip(self._buffers, self._offsets, strict=True):
            size = buffer.nbytes
            if copy is not None and size > 1 << 20:
                copy(target[offset : offset + size], buffer)
            elif size:
                target[offset : offset + size] = buffer

    def join(self) -> bytes:
        """Return the value as one bytes object."""
        out = bytearray(self.nbytes)
        self.write(memoryview(out))
        return bytes(out)

    def sole_buffer(self) -> tuple[memoryview, int] | None:
        """Return (buffer, its offset in the layout) if there is exactly one buffer."""
        if len(self._buffers) == 1:
            return self._buffers[0], self._offsets[0]
        return None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle plus the classes registered with ``core.util.register_serializer``, and with slots that are slots."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) in custom_serializers.table:
            return custom_serializers.reduce(obj)
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and "__slots__" in obj.__dict__ and type(reduced) is tuple:
            _keep_slots(obj, reduced)
        return reduced


def _keep_slots(cls: type, reduced: tuple[Any, ...]) -> None:
    """Have a class that travels by value made again with its ``__slots__``.

    cloudpickle sets them as a mere attribute of the finished class: its instances have dictionaries, which the
    instances of the class that they are sent back to cannot take.
    """
    make, arguments = reduced[:2]
    if getattr(make, "__name__", "") == "_make_skeleton_class":
        slots: Any = cls.__dict__["__slots__"]
        arguments[3]["__slots__"] = slots if isinstance(slots, str) else tuple(slots)


def _cloud_dumps(value: Any, buffers: list[pickle.PickleBuffer] | None) -> bytes:
    with io.BytesIO() as out:
        callback = None if buffers is None else buffers.append
        _Pickler(out, protocol=_PROTOCOL, buffer_callback=callback).dump(value)
        return out.getvalue()


def _pickle(value: Any, buffers: list[pickle.PickleBuffer] | None) -> bytes:
    if not custom_serializers.table:
        try:
            data = _dumps(value, _PROTOCOL, buffer_callback=None if buffers is None else buffers.append)
        except (pickle.PicklingError, AttributeError, TypeError, ImportError):
            pass
        else:
            if b"__main__" not in data and not cloudpickle.list_registry_pickle_by_value():
                return data
        if buffers:
            buffers.clear()
    return _cloud_dumps(value, buffers)


def dumps(value: Any) -> bytes | Parts:
    """Serialize a value; small ones come back as bytes, larger ones as :class:`Parts` to be laid out in the store.

    Raises:
        Whatever pickling raises (TypeError, PicklingError, RecursionError, or what a ``__reduce__`` raises).
    """
    if type(value) in PRIMITIVES:
        data = _dumps(value, _PROTOCOL)
        return data if len(data) <= INLINE_MAX else Parts(data, [])
    buffers: list[pickle.PickleBuffer] = []
    data = _pickle(value, buffers)
    if not buffers:
        return data if len(data) <= INLINE_MAX else Parts(data, [])
    parts = Parts(data, [buffer.raw() for buffer in buffers])
    return parts if parts.nbytes > INLINE_MAX else parts.join()


def loads(data: bytes | memoryview) -> Any:
    """Return the value that ``data`` holds. Arrays in it are read-only views of ``data``.

    Raises:
        Whatever unpickling raises.
    """
    if data[0] == 0x80:
        return _loads(data)
    view = memoryview(data)
    _, count, size = _HEADER.unpack_from(view)
    table = struct.unpack_from(f"<{2 * count}Q", view, _HEADER.size)
    start = _HEADER.size + 16 * count
    buffers = [view[table[i] : table[i] + table[i + 1]] for i in range(0, 2 * count, 2)]
    return _loads(view[start : start + size], buffers=buffers)


def dumps_code(function: Any) -> bytes:
    """Pickle a function or class for export: by value unless workers can import it.

    Raises:
        Whatever pickling raises.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    name = getattr(module, "__name__", "__main__")
    if module is None or name == "__main__" or _importable(name):
        return _cloud_dumps(function, None)
    cloudpickle.register_pickle_by_value(module)
    try:
        return _cloud_dumps(function, None)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _importable(name: str) -> bool:
    """Tell whether a fresh process with the same ``sys.path`` would find the loaded module ``name``."""
    top = name.partition(".")[0]
    if top in sys.builtin_module_names or top in sys.stdlib_module_names:
        return True
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and find(top, None) is not None:
            break
    else:
        return False
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return spec is not None
