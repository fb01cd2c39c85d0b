"""Classes that are two exceptions at once: the framework's error and the class of the user's exception.

``except MyError`` must catch what a task raised in another process, and ``except RayTaskError`` must too. So ``get``
raises an instance of a class made here, named ``RayTaskError(MyError)``, that inherits both. No constructor of the
user's class runs for it. Fields that C code or ``__slots__`` keep (``errno`` of an ``OSError``) are read from the
cause; so is every other attribute the dual instance lacks.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, cast

#: Flag of classes made by Python code, as opposed to C's (``Py_TPFLAGS_HEAPTYPE``).
_HEAP_TYPE = 1 << 9


def dual_exception(error: Exception, wrapper: type[Exception], cause: Exception) -> Any:
    """Return an exception equal to ``error`` that is an instance of ``wrapper`` and of the class of ``cause``.

    Raises:
        TypeError: the two classes cannot be bases of one class. Anything else that a hook of the user's class raises.
    """
    wrapper_type, cause_type = cast("Hashable", wrapper), cast("Hashable", type(cause))
    dual = _dual_type(wrapper_type, cause_type)
    made: Any
    if isinstance(cause, BaseExceptionGroup):
        # ``except*`` reads the members that its own constructor sets.
        made = BaseExceptionGroup.__new__(dual, cause.message, cause.exceptions)
    else:
        made = _builtin_base(dual).__new__(dual, cause)
        if isinstance(cause, StopIteration):
            # The interpreter reads this field of the C structure, and expects it to be set.
            StopIteration.__init__(made, cause.value)
    BaseException.__dict__["args"].__set__(made, (cause,))
    made.__dict__.update(error.__dict__)
    notes = getattr(cause, "__notes__", None)
    if notes:
        made.__dict__["__notes__"] = list(notes)
    return made


@lru_cache(maxsize=256)
def _dual_type(wrapper: Any, cause_type: Any) -> Any:
    namespace: dict[str, Any] = {
        "__module__": wrapper.__module__,
        "__doc__": f"A {cause_type.__name__} raised in a task.",
        "__init__": _init,
        "__getattr__": _getattr,
        "__getattribute__": object.__getattribute__,
        "__setattr__": object.__setattr__,
        "__hash__": object.__hash__,
        "__str__": wrapper.__str__,
        "__reduce__": wrapper.__reduce__,
        "__reduce_ex__": lambda self, protocol: wrapper.__reduce__(self),
        "args": BaseException.__dict__["args"],
        **_forwarding_properties(wrapper, cause_type),
    }
    return type(f"{wrapper.__name__}({cause_type.__name__})", (wrapper, cause_type), namespace)


def _init(self: Any, *args: Any) -> None:
    """Everything is set by ``dual_exception``; the user's ``__init__`` must not run a second time."""


def _getattr(self: Any, name: str) -> Any:
    # Dunders are protocol questions (__notes__, __rich_console__) about this object, not about its cause.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(self.__dict__["cause"], name)


def _builtin_base(cls: type) -> Any:
    """Return the C class that lays out instances of ``cls``; only its ``__new__`` may make them."""
    while cls.__flags__ & _HEAP_TYPE and cls.__base__ is not None:
        cls = cls.__base__
    return cls


def _forwarding_properties(wrapper: type, cause_type: type) -> dict[str, property]:
    """Return properties that read from the cause what lives outside ``__dict__``."""
    found: dict[str, property] = {}
    for base in cause_type.__mro__:
        if base in wrapper.__mro__:
            continue
        for name, attribute in vars(base).items():
            if isinstance(attribute, MemberDescriptorType | GetSetDescriptorType) and not name.startswith("__"):
                found[name] = _forwarding_property(name)
    return found


def _forwarding_property(name: str) -> property:
    def read(self: Any) -> Any:
        return getattr(self.__dict__["cause"], name)

    return property(read)
