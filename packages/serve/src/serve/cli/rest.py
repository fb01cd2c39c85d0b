"""The client of the REST API that the commands use."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.parse
from pathlib import Path
from typing import Any

#: where Serve's REST API listens unless it was told otherwise (Ray's dashboard)
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
#: gives the address where a command does not; the second is Ray's
ADDRESS_VARIABLES = ("SKATE_SERVE_ADDRESS", "RAY_DASHBOARD_ADDRESS")


class Unreachable(ConnectionError):  # noqa: N818 - a state, which `serve deploy` ends
    """Nothing listens at the address."""


class Refused(RuntimeError):  # noqa: N818 - the server's word
    """The server refused the request; the text is its reason."""


class Remote:
    """A running Serve.

    Args:
        address: ``http://host:port``; None for that of the environment, or the default.

    Raises:
        ValueError: the address is not of the form.
    """

    def __init__(self, address: str | None) -> None:
        given = address or next(filter(None, map(os.environ.get, ADDRESS_VARIABLES)), None) or DEFAULT_ADDRESS
        parts = urllib.parse.urlsplit(given if "://" in given else f"http://{given}")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"expected an address such as {DEFAULT_ADDRESS}, not {given!r}")
        self._secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self._secure else 80)
        self.address = f"{parts.scheme}://{parts.netloc}"

    def get(self, path: str) -> Any:
        """Return the answer to a GET."""
        return self.request("GET", path)

    def request(self, method: str, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
        """Send a request and return the answer.

        Args:
            method: of HTTP.
            path: with the query.
            body: sent as JSON; None for none.
            timeout_s: how long to wait for the answer; None for ever, since imports and drains take their time.

        Raises:
            Unreachable: nothing listens there.
            Refused: the answer is an error.
        """
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise Unreachable(
                f"Serve does not run at {self.address} ({error.strerror or error}); serve start starts it"
            ) from None
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(f"{self.address} broke off: {error!r}; serve status tells how things are") from None
        finally:
            connection.close()
        return self._decoded(response.status, answer)

    def _decoded(self, status: int, answer: bytes) -> Any:
        try:
            decoded = json.loads(answer)
        except ValueError:
            raise Refused(f"{self.address} is no Serve: it answered {status} with {answer[:80]!r}") from None
        if status < http.client.BAD_REQUEST:
            return decoded
        raise Refused(decoded.get("detail", str(decoded)) if isinstance(decoded, dict) else str(decoded))

    def wait_until_gone(self, pid: int, timeout_s: float = 60.0) -> None:
        """Wait until nothing listens there any more, and if the process is one of this machine, until it has ended.

        Raises:
            TimeoutError: it takes too long.
        """
        deadline = time.monotonic() + timeout_s
        while self._answers() or (self.is_local and _runs(pid)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Serve at {self.address} (process {pid}) has not ended within {timeout_s:g} s")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.request("GET", "/-/healthz", timeout_s=5)
        except Unreachable:
            return False
        except (Refused, ConnectionError):
            pass
        return True

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return self.host in {"127.0.0.1", "localhost", "::1"}


def _runs(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent's notice does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # no Linux
        return True
    return stat.rpartition(")")[2].split()[0] != "Z"
