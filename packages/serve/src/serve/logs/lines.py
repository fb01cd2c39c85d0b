"""How a log line looks: text for people, or JSON for collectors. Pure.

One event is one record: whatever clients put into paths and header fields, and whatever user code logs of it, cannot
begin a line of its own that passes for another record. In text, continued lines (tracebacks) are indented, and control
characters are shown as escapes; in a field that others follow, so are spaces.
"""

from __future__ import annotations

import functools
import logging
import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec

#: attributes that every record of `logging` has; what is beyond them was passed with ``extra=``
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
#: what is no part of a line: control characters of ASCII and Latin-1, and Unicode's separators of lines
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_IN_FIELD = re.compile("[\x00-\x20\x7f-\xa0\u2028\u2029]")
_LINE_ENDS = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True)
class Origin:
    """Who logs."""

    #: Ray's: ``replica`` or ``proxy``
    component: str
    #: id of the replica, name of the proxy
    name: str
    application: str = ""
    deployment: str = ""

    def fields(self) -> dict[str, str]:
        """Return what every record of this process carries."""
        if not self.deployment:
            return {"component_name": self.component, "component_id": self.name}
        return {
            "component_name": self.component,
            "component_id": self.name,
            "application": self.application,
            "deployment": self.deployment,
            "replica": self.name,
        }


class Access(msgspec.Struct, frozen=True, gc=False):
    """A request that was answered. Made for each request, so nothing is formatted here."""

    #: seconds since the epoch, at the end
    time: float
    method: str
    #: as the client sent it
    raw_path: bytes
    route: str
    status: int
    #: of the answer's body
    sent: int
    seconds: float
    #: host and port
    client: tuple[str, int] | None
    request_id: str
    application: str
    #: that answered; empty if none did
    replica: str = ""
    #: why it was refused before it was a request
    reason: str = ""

    @property
    def path(self) -> str:
        """As the client sent it."""
        return self.raw_path.decode("latin-1")

    @property
    def address(self) -> str:
        """Host and port of the client."""
        return "" if self.client is None else _address(*self.client[:2])


class Clock:
    """Writes times as `logging` does; makes the part before the milliseconds once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, seconds: float) -> str:
        """Return local time, as ``2026-01-31 12:00:00,123``."""
        second = int(seconds)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._text},{int((seconds - second) * 1000):03d}"


class AccessText:
    """Access lines for people.

    Args:
        origin: who logs.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._clock = Clock()
        self._name = field(origin.name)

    def line(self, access: Access) -> str:
        """Return the line of a request, without its end."""
        answered = f" {_known_field(access.replica)}" if access.replica else ""
        reason = f" {one_line(access.reason)}" if access.reason else ""
        return (
            f"INFO {self._clock.text(access.time)} {self._origin.component} {self._name} {field(access.request_id)} -- "
            f"{access.method} {field(access.path)} {access.status} {access.seconds * 1000:.1f}ms {access.sent}B "
            f"{access.address or '-'} {_known_field(access.route)}{answered}{reason}"
        )

    def gap(self, lines: int) -> str:
        """Return the line that stands for lost ones."""
        return f"WARNING {self._clock.text(time.time())} {self._origin.component} {self._name} -- {_gap(lines)}"


class AccessJSON:
    """Access lines for collectors.

    Args:
        origin: who logs.
    """

    def __init__(self, origin: Origin) -> None:
        self._fields = origin.fields()
        self._clock = Clock()
        self._encoder = msgspec.json.Encoder()

    def line(self, access: Access) -> str:
        """Return the line of a request, without its end."""
        entry: dict[str, Any] = {
            "asctime": self._clock.text(access.time),
            "levelname": "INFO",
            "message": f"{access.method} {access.path} {access.status} {access.seconds * 1000:.1f}ms",
            **self._fields,
            "request_id": access.request_id,
            "application": access.application,
            "route": access.route,
            "method": access.method,
            "path": access.path,
            "status": access.status,
            "latency_ms": round(access.seconds * 1000, 3),
            "bytes": access.sent,
            "client": access.address,
        }
        if access.replica:
            entry["replica"] = access.replica
        if access.reason:
            entry["reason"] = access.reason
        return self._encoder.encode(entry).decode()

    def gap(self, lines: int) -> str:
        """Return the line that stands for lost ones."""
        when = self._clock.text(time.time())
        entry = {"asctime": when, "levelname": "WARNING", "message": _gap(lines), **self._fields}
        return self._encoder.encode(entry).decode()


class TextFormatter(logging.Formatter):
    """Records for people.

    Args:
        origin: who logs.
        attributes: names of attributes of records to show besides.
    """

    def __init__(self, origin: Origin, attributes: list[str]) -> None:
        super().__init__()
        self._origin = origin
        self._name = field(origin.name)
        self._attributes = attributes
        self._clock = Clock()

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines, without the last one's end."""
        request_id = getattr(record, "request_id", "")
        parts = [record.levelname, self._clock.text(record.created), self._origin.component, self._name]
        if request_id:
            parts.append(field(str(request_id)))
        parts += (field(str(getattr(record, name, "-"))) for name in self._attributes)
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            text += "\n" + self.formatStack(record.stack_info)
        return f"{' '.join(parts)} -- {indented(text)}"


class JSONFormatter(logging.Formatter):
    """Records for collectors.

    Args:
        origin: who logs.
        attributes: names of attributes of records to show besides.
    """

    def __init__(self, origin: Origin, attributes: list[str]) -> None:
        super().__init__()
        self._fields = origin.fields()
        self._attributes = attributes
        self._clock = Clock()

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, without its end."""
        entry: dict[str, Any] = {
            "asctime": self._clock.text(record.created),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
            **self._fields,
        }
        entry.update((name, getattr(record, name, None)) for name in self._attributes)
        entry.update((name, value) for name, value in record.__dict__.items() if name not in _STANDARD)
        if record.exc_info:
            entry["exc_text"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=repr).decode("utf-8", "backslashreplace")


def field(text: str) -> str:
    """Return a text as one word of a line; ``-`` if there is none."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text or "-"
    return _NOT_IN_FIELD.sub(_escape, text)


#: for what comes again and again: routes, replicas
_known_field = functools.lru_cache(1024)(field)


@functools.lru_cache(1024)
def _address(host: str, port: int) -> str:
    return f"[{field(host)}]:{port}" if ":" in host else f"{field(host)}:{port}"


def one_line(text: str) -> str:
    """Return a text with what would end the line, or upset a terminal, as escapes."""
    return text if text.isprintable() else _CONTROL.sub(_escape, text)


def indented(text: str) -> str:
    """Return a text whose further lines cannot be taken for records."""
    if text.isprintable():
        return text
    first, *rest = _LINE_ENDS.split(text)
    return "\n".join([one_line(first), *(f"    {one_line(line)}" for line in rest)])


def _gap(lines: int) -> str:
    return f"{lines} lines are missing here: they came faster than the disk took them"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode().replace(" ", "\\x20")
