"""How exceptions cross processes: with type, message, notes, chain and remote traceback, whatever their class does.

``pack_error`` runs where the exception was raised, ``unpack_error`` where ``get`` raises it again. The exception is
pickled, and unpickled again at once to prove that it can be; so a class whose pickling is broken fails where its
source is, and the receiver gets its type, arguments and traceback as text. A class whose ``__init__`` does not fit its
``args`` (the usual way to break an exception's pickling) is rebuilt without calling ``__init__``.

Two kinds of errors arrive: an exception that passed through user code comes back as ``RayTaskError(X)``, an instance
of both classes; an error that the framework made itself (``TaskCancelledError``, ``ActorDiedError``, with no frame of
user code in its traceback) comes back as itself.

Blobs hold pickles. Only drivers and workers may unpack them, never a daemon.
"""

# ruff: noqa: BLE001 - every blind except here fences off code of the user's exception class, which may raise anything
from __future__ import annotations

import io
import pickle
import traceback
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec

from core.exceptions import RayError, RayTaskError, UnserializableException

#: Frames of files below this directory are the framework's and not shown.
_FRAMEWORK = str(Path(__file__).resolve().parent) + "/"
#: Longest traceback that travels; the middle of a longer one is cut out.
_MAX_TEXT = 200_000
#: Longest line that :func:`summary` tells.
_MAX_SUMMARY = 500
#: How many links of ``__cause__`` and ``__context__`` travel as objects; the text has them all.
_MAX_CHAIN = 16


class ErrorRecord(msgspec.Struct, array_like=True, frozen=True):
    """The contents of a blob."""

    function_name: str
    pid: int
    #: qualified name of the exception's class
    type_name: str
    #: remote traceback, ending with type and message
    text: str
    notes: tuple[str, ...] = ()
    #: the pickled exception with its chain; empty if it cannot be pickled
    pickled: bytes = b""
    #: why ``pickled`` is empty
    obstacle: str = ""
    #: an error of the framework, to be raised as itself
    plain: bool = False
    actor_id: str = ""
    actor_repr: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ErrorRecord).decode


def pack_error(
    error: BaseException, function_name: str, *, pid: int, actor_id: str = "", actor_repr: str = ""
) -> bytes:
    """Return the blob that carries ``error`` to another process. Never raises.

    Args:
        error: what user code raised, or a framework error.
        function_name: the remote function, ``Class.method`` for methods; shown to people.
        pid: the process that raised.
        actor_id: hexadecimal id of the actor, if one raised.
        actor_repr: ``repr`` of its instance, if its class defines one.
    """
    text, from_user_code = _traceback_text(error)
    # An error that came out of a nested ``get`` travels as its original cause; the text keeps both tracebacks.
    carried = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    pickled, obstacle = _pickle_verified(carried)
    return _encode(
        ErrorRecord(
            function_name=_clean(function_name),
            pid=pid,
            type_name=_clean(_type_name(carried)),
            text=text,
            notes=_notes(error),
            pickled=pickled,
            obstacle=obstacle,
            plain=isinstance(error, RayError) and not isinstance(error, RayTaskError) and not from_user_code,
            actor_id=actor_id,
            actor_repr=_clean(actor_repr),
        )
    )


def unpack_error(blob: bytes) -> Exception:
    """Return the exception that ``get`` should raise for a blob. Never raises; every call gives a new object."""
    try:
        record = _decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        return RayError(f"an error arrived that cannot be read: {problem}")
    cause = _unpickle(record)
    if record.plain and isinstance(cause, RayError):
        return cause
    error = RayTaskError(
        record.function_name,
        record.text,
        cause,
        pid=record.pid,
        actor_id=record.actor_id or None,
        actor_repr=record.actor_repr or None,
    )
    if isinstance(cause, UnserializableException):
        error.__dict__["traceback_str"] = f"{record.text.rstrip()}\n({cause})"
        error.__dict__["__notes__"] = list(record.notes)
        return error
    made = error.as_instanceof_cause()
    if record.notes:
        made.__dict__["__notes__"] = list(record.notes)
    return made


def for_future(error: BaseException) -> BaseException:
    """Return what to put into a future for an error that ``get`` would raise.

    An await that raised a ``StopIteration`` would end the coroutine as if that had returned; so this one error comes as
    a plain ``RayTaskError`` there, with its cause.
    """
    if not (isinstance(error, RayTaskError) and isinstance(error, StopIteration)):
        return error
    known = error.__dict__
    return RayTaskError(
        known["function_name"],
        known["traceback_str"],
        known["cause"],
        pid=known["pid"],
        actor_repr=known["actor_repr"],
        actor_id=known["actor_id"],
    )


def summary(blob: bytes) -> tuple[str, str, int]:
    """Return of a blob, without unpickling: the exception's class, its last line, and the process that raised.

    The process is 0 for errors that the framework made, which may have been made anywhere.
    """
    try:
        record = _decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "", "", 0
    lines = record.text.rstrip().rsplit("\n", 1)
    return record.type_name, lines[-1][:_MAX_SUMMARY], 0 if record.plain else record.pid


# The exception as an object ------------------------------------------------------------------------------------------


def _pickle_verified(error: BaseException) -> tuple[bytes, str]:
    """Return a pickle of ``error`` that is known to unpickle, or nothing and the reason."""
    try:
        pickled = _dumps(_with_chain(error, _MAX_CHAIN))
        if type(_from_chain(pickle.loads(pickled))).__name__ != type(error).__name__:
            return b"", "it unpickles as another class"
    except BaseException as problem:
        return b"", f"it cannot be pickled: {_one_line(problem)}"
    return pickled, ""


def _unpickle(record: ErrorRecord) -> BaseException:
    if record.pickled:
        try:
            error = _from_chain(pickle.loads(record.pickled))
        except BaseException as problem:
            obstacle = f"it cannot be unpickled in this process: {_one_line(problem)}"
        else:
            if isinstance(error, BaseException):
                return error
            obstacle = "it does not unpickle as an exception"
    else:
        obstacle = record.obstacle
    return UnserializableException(f"only the text of this {record.type_name} could be sent: {obstacle}")


#: An exception and what the default pickling of exceptions forgets: notes, ``__cause__``, ``__context__`` and whether
#: the context is suppressed.
_Link = tuple[Any, tuple[str, ...], Any, Any, bool]


def _with_chain(error: BaseException | None, depth: int) -> _Link | None:
    if error is None or depth == 0:
        return None
    context = None if error.__cause__ is not None else error.__context__
    return (
        error,
        _notes(error),
        _chain_or_text(error.__cause__, depth - 1),
        _chain_or_text(context, depth - 1),
        error.__suppress_context__,
    )


def _chain_or_text(error: BaseException | None, depth: int) -> _Link | None:
    """Return a link for a cause or context; one that cannot travel as an object is replaced by its text."""
    if error is None or depth == 0:
        return None
    link = _with_chain(error, depth)
    try:
        _from_chain(pickle.loads(_dumps(link)))
    except BaseException:
        return (UnserializableException(_one_line(error)), (), None, None, False)
    return link


class _ErrorPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, but an exception that would not unpickle is sent as class, ``args`` and attributes."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, BaseException) and not _round_trips(obj):
            return (_rebuild, (type(obj), obj.args, dict(obj.__dict__)))
        return super().reducer_override(obj)


def _dumps(value: Any) -> bytes:
    with io.BytesIO() as out:
        _ErrorPickler(out, protocol=5).dump(value)
        return out.getvalue()


def _round_trips(error: BaseException) -> bool:
    try:
        return isinstance(pickle.loads(cloudpickle.dumps(error)), type(error))
    except BaseException:
        return False


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make an exception without its ``__init__``."""
    error = cls.__new__(cls, *args)
    BaseException.__dict__["args"].__set__(error, args)
    error.__dict__.update(state)
    return error


def _from_chain(link: _Link | None) -> Any:
    if link is None:
        return None
    error, notes, cause, context, suppress = link
    if notes and not getattr(error, "__notes__", None):
        error.__dict__["__notes__"] = list(notes)
    # Not by plain assignment: the class may forbid that (a frozen dataclass does).
    fields = BaseException.__dict__
    if cause is not None:
        fields["__cause__"].__set__(error, _from_chain(cause))
    if context is not None:
        fields["__context__"].__set__(error, _from_chain(context))
    fields["__suppress_context__"].__set__(error, suppress)
    return error


# The exception as text -----------------------------------------------------------------------------------------------


def _traceback_text(error: BaseException) -> tuple[str, bool]:
    """Return the traceback without the framework's frames, and whether a frame of user code is in it."""
    try:
        formatted = traceback.TracebackException.from_exception(error, compact=True)
        _drop_framework_frames(formatted)
        # The notes of the error itself travel apart: they are shown after its message wherever it is shown.
        formatted.__notes__ = None
        text = "".join(formatted.format())
        return _shortened(_clean(text)), bool(formatted.stack)
    except BaseException:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame)]
        return "".join(traceback.format_list(frames)) + _one_line(error), bool(frames)


def _is_users(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith(_FRAMEWORK)


def _drop_framework_frames(formatted: traceback.TracebackException) -> None:
    todo = [formatted]
    while todo:
        one = todo.pop()
        one.stack = traceback.StackSummary.from_list([frame for frame in one.stack if _is_users(frame)])
        todo += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]


def _shortened(text: str) -> str:
    if len(text) <= _MAX_TEXT:
        return text
    half = _MAX_TEXT // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def _one_line(error: BaseException) -> str:
    try:
        return _shortened(_clean(f"{_type_name(error)}: {error}"))
    except BaseException:
        try:
            return _shortened(_clean(f"{_type_name(error)}{error.args!r} (its str() fails)"))
        except BaseException:
            return f"{_type_name(error)} (its str() and the repr() of its args fail)"


def _notes(error: BaseException) -> tuple[str, ...]:
    try:
        return tuple(_clean(str(note)) for note in getattr(error, "__notes__", None) or ())
    except BaseException:
        return ()


def _type_name(error: BaseException) -> str:
    cls = type(error)
    module, name = type.__dict__["__module__"].__get__(cls), type.__dict__["__qualname__"].__get__(cls)
    return str(name) if module in ("builtins", "__main__") else f"{module}.{name}"


def _clean(text: str) -> str:
    """Return text that UTF-8 can encode (messages may hold lone surrogates, from file names for example)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
