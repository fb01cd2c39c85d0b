"""The messages of clients that stream, on their way to the replicas that ask for them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

from serve.grpc_calls.records import Uploaded

#: messages that are taken off a client before its replica has asked for them
AHEAD = 64


class Uploads:
    """The uploads of one proxy, by number."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._running: dict[int, _Upload] = {}

    def begin(self, messages: AsyncIterator[Any]) -> int:
        """Begin to take a client's messages, and return the upload's number."""
        number = next(self._numbers)
        self._running[number] = _Upload(messages)
        return number

    def end(self, number: int) -> None:
        """Take no more: the call is over."""
        self._running.pop(number).close()

    async def receive(self, number: int) -> Uploaded:
        """Wait for messages and return all that there are. A call that is over gives none."""
        upload = self._running.get(number)
        return Uploaded((), ended=True, cancelled=True) if upload is None else await upload.receive()


class _Upload:
    def __init__(self, messages: AsyncIterator[Any]) -> None:
        self._ready: list[Any] = []
        self._ended = self._cancelled = False
        #: set when there is something to receive
        self._news = asyncio.Event()
        #: set when everything was received
        self._room = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._take(messages))

    async def _take(self, messages: AsyncIterator[Any]) -> None:
        try:
            async for message in messages:
                self._ready.append(message)
                self._news.set()
                if len(self._ready) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except BaseException:
            self._cancelled = True
            raise
        finally:
            self._ended = True
            self._news.set()

    def close(self) -> None:
        """Take no more, and let whoever waits go."""
        self._task.cancel()
        self._cancelled = self._cancelled or not self._ended
        self._ended = True
        self._news.set()

    async def receive(self) -> Uploaded:
        """Wait for messages and return all that there are."""
        while not self._ready and not self._ended:
            self._news.clear()
            await self._news.wait()
        messages, self._ready = tuple(self._ready), []
        self._room.set()
        return Uploaded(messages, ended=self._ended, cancelled=self._cancelled)
