"""Clients that ask without a pause, and remember what they were answered."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

import httpx


class Load:
    """Threads that GET one address over kept-alive connections until the block ends.

    Args:
        address: what to ask.
        clients: how many threads.
    """

    def __init__(self, address: str, clients: int = 4) -> None:
        self._address = address
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        #: status codes and names of errors of connections, counted
        self.answers: Counter[str] = Counter()
        #: texts of the answers of status 200, counted
        self.texts: Counter[str] = Counter()

    def _ask(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._ended.is_set():
                try:
                    response = client.get(self._address)
                except httpx.HTTPError as error:
                    outcome, text = type(error).__name__, None
                else:
                    outcome, text = str(response.status_code), response.text
                with self._lock:
                    self.answers[outcome] += 1
                    if text is not None and outcome == "200":
                        self.texts[text] += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
