"""Who reads the sockets: whichever thread waits.

Theory of operation. Handing a message from a reading thread to a waiting one costs 30 us and more, half a task. So
there is a *role*, a plain lock: the thread that holds it polls the sockets, decodes and handles messages.

* A thread that waits for something (``get``) takes the role and reads until what it waits for has come. If another
  user thread has the role, it parks; when the reader leaves, it wakes one parked thread to take over.
* The background thread takes the role only while no user thread wants it and none did so for a few milliseconds. It
  blocks in the poll then; a user thread that needs the role asks it to yield.
* While user threads are busy with the sockets themselves the background thread only *patrols*: every few
  milliseconds it flushes what they queued and left. When user threads hold the role for long, it sleeps for good, until
  they let go.

Threads that submit in a loop read opportunistically (:meth:`Reactor.poll_now`), so that replies are handled in batches
without any switch of threads.

All shared state is guarded by one re-entrant lock, ``lock``. Handlers run under it; user code never does: what must
call back into user code (futures) is queued in ``after`` and run by the reading thread once the lock is free.

A long module, because who reads, who waits and who wakes whom is one protocol, which only makes sense seen whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from core.protocol.framing import ProtocolError
from core.runtime.connection import Connection
from core.runtime.pending_signal import PendingSignal

logger = logging.getLogger(__name__)

#: Seconds between two looks of the background thread while user threads do the reading.
PATROL = 0.003
#: Patrols without any change after which the background thread sleeps until it is needed.
PATROLS_BEFORE_SLEEP = 40
READ_BYTES = 256 * 1024
#: Longest poll, in seconds, while references live here: a dead reference wakes nobody, so it is looked for.
IDLE_POLL = 0.1

monotonic = time.monotonic


class Waiter(Protocol):
    """Something a thread waits for; :attr:`done` is set under the lock."""

    done: bool
    gate: threading.Lock | None


class Handler(Protocol):
    """What the runtime does with what comes in. Called under the lock, by the reading thread."""

    def received(self, connection: Connection, messages: list[Any]) -> None:
        """Handle messages, in order."""

    def disconnected(self, connection: Connection, error: Exception | None) -> None:
        """The connection ended (``error`` None) or broke."""

    def accepted(self) -> None:
        """The listening socket is readable."""

    def tick(self, now: float) -> float | None:
        """Do what is due; return when to be called again at the latest (monotonic seconds), or None."""

    def drain(self) -> None:
        """Take into account what died meanwhile (references, generators, pins)."""

    def must_drain(self) -> bool:
        """Tell whether :meth:`drain` has something to do (called without the lock)."""

    def may_drain(self) -> bool:
        """Tell whether anything lives here whose death would matter to others."""


class Reactor:
    """Polls a process's sockets in whichever thread waits (see the module's docstring)."""

    def __init__(self, handler: Handler) -> None:
        self.lock = threading.RLock()
        self._handler = handler
        self._role = threading.Lock()
        #: the thread that has the role, or 0
        self._reader = 0
        #: a thread is about to keep it for good: whoever has it lets go
        self._claimed = False
        #: whether the poller sees changes of its set while it polls: poll, where there is no epoll (macOS), does not
        self._live = hasattr(select, "epoll")
        self._poller: Any = select.epoll() if self._live else select.poll()
        self._in, self._in_out = select.POLLIN, select.POLLIN | select.POLLOUT
        self._connections: dict[int, Connection] = {}
        #: connections with queued output, flushed at the next opportunity
        self.dirty: set[Connection] = set()
        #: user callbacks to run outside the lock
        self.after: deque[Callable[[], None]] = deque()
        #: threads that are at it
        self._calling: set[int] = set()
        #: threads that wait while another one reads
        self._parked: deque[Any] = deque()
        #: counts every use of the role by user threads: what the background thread looks at
        self.activity = 0
        self._background_reading = False
        self._background_asleep = False
        self._background_gate = threading.Lock()
        self._background_gate.acquire()
        self.closed = False
        self._listener_fd = -1
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller.register(self._wake_read, select.POLLIN)
        self._buffer = bytearray(READ_BYTES)
        #: a signal for the main thread that is to be sent again
        self._signal = PendingSignal()
        self._thread: threading.Thread | None = None
        self._deadline: float | None = None

    # -- sockets ------------------------------------------------------------------------------------------------

    def listen(self, fd: int) -> None:
        """Report readability of a listening socket to ``handler.accepted``."""
        self._listener_fd = fd
        self._poller.register(fd, select.POLLIN)

    def add(self, connection: Connection) -> None:
        """Start reading a connection."""
        fd = connection.sock.fileno()
        self._connections[fd] = connection
        self._poller.register(fd, self._in)
        if not self._live:
            self.wake_if_polling()

    def remove(self, connection: Connection) -> None:
        """Stop reading a connection and close it."""
        fd = connection.sock.fileno()
        if fd >= 0 and self._connections.pop(fd, None) is not None:
            with contextlib.suppress(OSError, KeyError):
                self._poller.unregister(fd)
        self.dirty.discard(connection)
        connection.close()

    def flush(self, connection: Connection, now: float = 0.0) -> None:
        """Send what a connection has queued (under the lock)."""
        if connection.closed:
            connection.out.clear()
            return
        connection.flushed_at = now
        had_pending = bool(connection.pending)
        try:
            done = connection.flush()
        except OSError as error:
            # The reading side sees the end of the stream too, with all that came before it: let it decide.
            connection.out.clear()
            connection.pending.clear()
            logger.debug("send to %s failed: %s", connection.address.hex(), error)
            done = True
        if not done and not had_pending:
            self._poller.modify(connection.sock.fileno(), self._in_out)
            self.wake_if_polling()
        elif done and had_pending:
            with contextlib.suppress(OSError, KeyError):
                self._poller.modify(connection.sock.fileno(), self._in)

    def flush_dirty(self) -> None:
        """Send everything queued (under the lock)."""
        if self.dirty:
            now = monotonic()
            dirty, self.dirty = self.dirty, set()
            for connection in dirty:
                self.flush(connection, now)

    def drain_connection(self, connection: Connection) -> None:
        """Handle all that a dead process has sent before its end (by the reading thread, under the lock)."""
        try:
            while not connection.closed:
                connection.exhausted = False
                messages = connection.receive(self._buffer)
                if messages:
                    self._handler.received(connection, messages)
                if messages is None or connection.exhausted:
                    return
        except (OSError, ProtocolError) as error:
            logger.debug("last words of %s: %s", connection.address.hex(), error)

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait(self, waiter: Waiter, deadline: float | None) -> bool:
        """Read, or let others read, until ``waiter.done`` or the deadline (monotonic); return ``waiter.done``."""
        role = self._role
        me = threading.get_ident()
        if self._reader == me:
            # Called from what this thread runs while it has the role: an event loop, or the callback of a future.
            self._read_until(waiter, deadline, lent=False)
            return waiter.done
        while not waiter.done:
            if not self._claimed and role.acquire(False):
                self._reader = me
                try:
                    if not self._read_until(waiter, deadline):
                        return waiter.done
                finally:
                    self._release_role()
            elif not self._park(waiter, deadline):
                return waiter.done
        return True

    def _read_until(self, waiter: Waiter, deadline: float | None, *, lent: bool = True) -> bool:
        self.activity += 1
        while not waiter.done and not (self._claimed and lent):
            timeout = None
            if deadline is not None:
                timeout = deadline - monotonic()
                if timeout <= 0:
                    self.step(0)
                    return False
            self.step(timeout)
        return True

    def _release_role(self) -> None:
        self.activity += 1
        self._reader = 0
        self._role.release()
        self._wake_parked()
        if self._background_asleep:
            self._wake_background()

    def _wake_parked(self) -> None:
        while self._parked:
            try:
                waiter = self._parked.popleft()
            except IndexError:
                return
            gate = waiter.gate
            if gate is not None:
                with contextlib.suppress(RuntimeError):
                    gate.release()
                return

    def _park(self, waiter: Waiter, deadline: float | None) -> bool:
        """Wait until done or until the role may be free; False at the deadline."""
        gate = threading.Lock()
        gate.acquire()
        waiter.gate = gate
        self._parked.append(waiter)
        if self._background_reading:
            self.wake()
        try:
            if waiter.done:
                return True
            # The reader may have left between our look at the role and our parking.
            if self._role.acquire(False):
                self._role.release()
                return True
            if deadline is None:
                gate.acquire()
                return True
            timeout = deadline - monotonic()
            return timeout > 0 and gate.acquire(True, timeout)
        finally:
            waiter.gate = None
            with contextlib.suppress(ValueError):
                self._parked.remove(waiter)

    def complete(self, waiter: Waiter) -> None:
        """Mark a waiter done (under the lock) and wake its thread if it is parked."""
        waiter.done = True
        gate = waiter.gate
        if gate is not None:
            with contextlib.suppress(RuntimeError):
                gate.release()

    def run_in_loop(self, loop: Any, after_reading: Callable[[], None], every: float) -> None:
        """Run an asyncio event loop for good whose thread keeps the role and reads whenever there is something.

        Args:
            loop: the event loop of this thread.
            after_reading: called after each reading.
            every: seconds between two looks at what wakes nobody (dead references, timers).
        """
        # The background thread may be reading. It leaves when it sees that somebody else is active. So may a thread
        # that user code has left behind, in a wait without end; it parks, and will be read for.
        self._claimed = True
        while not self._role.acquire(timeout=PATROL):
            self.activity += 1
            self.wake()
        self._reader = threading.get_ident()

        def read() -> None:
            self.step(0)
            after_reading()

        def look() -> None:
            read()
            loop.call_later(every, look)

        if self._live:
            loop.add_reader(self._poller.fileno(), read)
        else:
            threading.Thread(target=self._watch_for, args=(loop, read), name="skate-watch", daemon=True).start()
        loop.call_soon(look)
        try:
            loop.run_forever()
        finally:
            self._claimed = False
            self._release_role()

    def _watch_for(self, loop: Any, read: Callable[[], None]) -> None:
        """Have an event loop read whenever there is something, where the loop cannot watch the poller itself."""
        read_it = threading.Event()

        def read_once() -> None:
            read()
            read_it.set()

        while not self.closed:
            poller = select.poll()
            with self.lock:
                for connection in self._connections.values():
                    poller.register(connection.sock, self._in_out if connection.pending else self._in)
            poller.register(self._wake_read, self._in)
            poller.register(self._listener_fd, self._in)
            poller.poll()
            read_it.clear()
            loop.call_soon_threadsafe(read_once)
            read_it.wait()

    def poll_now(self) -> None:
        """Read what is there, without waiting, if nobody else reads (called by submitting threads)."""
        if self._role.acquire(False):
            self._reader = threading.get_ident()
            try:
                self.step(0)
            finally:
                self._release_role()
        else:
            self.activity += 1
            if self._background_reading:
                self.wake()

    def queued(self) -> None:
        """Note that output was queued and not flushed: make sure that somebody will."""
        self.activity += 1
        if self._background_reading:
            self.wake()
        elif self._background_asleep:
            self._wake_background()

    def step(self, timeout: float | None) -> None:
        """Poll once, at most ``timeout`` seconds, and handle what came (holding the role)."""
        if self.dirty:
            with self.lock:
                self.flush_dirty()
        deadline = self._deadline
        if deadline is not None:
            left = max(0.0, deadline - monotonic())
            timeout = left if timeout is None else min(timeout, left)
        if (timeout is None or timeout > IDLE_POLL) and self._handler.may_drain():
            timeout = IDLE_POLL
        if self._live:
            events = self._poller.poll(-1 if timeout is None else timeout)
        else:
            events = self._poller.poll(None if timeout is None else timeout * 1000)
        for fd, mask in events:
            connection = self._connections.get(fd)
            if connection is not None:
                self._serve(connection, mask)
            elif fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            elif fd == self._listener_fd:
                with self.lock:
                    self._handler.accepted()
        if deadline is not None and monotonic() >= deadline:
            self.tick()
        if self._handler.must_drain():
            with self.lock:
                self._handler.drain()
        if self.after:
            self._run_after()

    def _serve(self, connection: Connection, mask: int) -> None:
        if mask & select.POLLOUT:
            with self.lock:
                self.flush(connection, monotonic())
        if not mask & ~select.POLLOUT:
            return
        # Without their tracebacks: a frame that refers to its own traceback lives on, and with it the caller's arrays.
        error: Exception | None = None
        messages: list[Any] | None = None
        try:
            messages = connection.receive(self._buffer)
        except (OSError, ProtocolError) as problem:
            error = problem.with_traceback(None)
        with self.lock:
            if connection.closed:
                return
            if messages:
                try:
                    self._handler.received(connection, messages)
                except ProtocolError as problem:
                    error = problem.with_traceback(None)
            if messages is None or error is not None:
                self.remove(connection)
                self._handler.disconnected(connection, error)

    def tick(self) -> None:
        """Let the handler do what is due."""
        with self.lock:
            self._deadline = self._handler.tick(monotonic())

    def schedule(self, when: float, *, reading: bool = False) -> None:
        """Make sure that ``handler.tick`` is called at ``when`` (monotonic), under the lock.

        ``reading``: the caller is the thread that reads, so no poll needs to learn of it.
        """
        if self._deadline is None or when < self._deadline:
            self._deadline = when
            if not reading:
                self.wake_if_polling()

    def _run_after(self) -> None:
        me = threading.get_ident()
        if me in self._calling:
            return  # one of them waits, and so reads; not deeper still
        self._calling.add(me)
        try:
            after = self.after
            while after:
                try:
                    call = after.popleft()
                except IndexError:
                    return
                try:
                    call()
                except SystemExit:  # futures take what is an Exception only, and this thread reads for all
                    logger.exception("a callback called sys.exit(), which ends nothing where it runs")
        finally:
            self._calling.discard(me)

    # -- waking -------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Interrupt the poll of whichever thread is in it."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"\0")

    def wake_if_polling(self) -> None:
        """Interrupt a poll that does not know yet what the caller just changed."""
        if self._background_asleep:
            self._wake_background()
        if self._role.locked():
            self.wake()

    def _wake_background(self) -> None:
        self._background_asleep = False
        with contextlib.suppress(RuntimeError):
            self._background_gate.release()

    # -- the background thread ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the background thread."""
        self._thread = threading.Thread(target=self._background, name="skate-io", daemon=True)
        self._thread.start()

    def _background(self) -> None:
        seen, quiet = -1, 0
        while not self.closed:
            time.sleep(PATROL)
            if monotonic() >= self._signal.due:
                self._signal.send()
            if self.dirty:
                with self.lock:
                    self.flush_dirty()
            if self.after:
                self._run_after()
            if self._deadline is not None and monotonic() >= self._deadline:
                self.tick()
            if self.activity != seen:
                seen, quiet = self.activity, 0
                continue
            if self._role.acquire(False):
                self._background_read()
                quiet = 0
                continue
            quiet += 1
            if quiet >= PATROLS_BEFORE_SLEEP and self._background_sleep():
                quiet = 0

    def _background_read(self) -> None:
        self._background_reading = True
        self._reader = threading.get_ident()
        seen = self.activity
        try:
            while not self._parked and self.activity == seen and not self.closed:
                due = self._signal.due
                if due == inf:
                    self.step(None)
                elif due > monotonic():
                    self.step(due - monotonic())
                else:
                    break
        finally:
            self._background_reading = False
            self._reader = 0
            self._role.release()
            self._wake_parked()

    def _background_sleep(self) -> bool:
        """Sleep while a user thread holds the role for long; it wakes us when it lets go."""
        self._background_asleep = True
        # Whoever releases the role looks at the flag after the release; so look at the role after setting the flag.
        if not self._role.locked() or self.dirty or self.closed or self._signal.due < inf:
            self._background_asleep = False
            return False
        self._background_gate.acquire()
        self._background_asleep = False
        return True

    # -- signals ------------------------------------------------------------------------------------------------

    def lock_is_mine(self) -> bool:
        """Tell whether the calling thread holds the lock and may be changing state."""
        mine: bool = self.lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way to ask
        return mine

    def defer_signal(self, number: int) -> None:
        """Have a signal sent to the main thread again a little later (called by its handler, so without any lock)."""
        self._signal.send_later(number)
        self._look_at_signal()

    def interrupt_main_thread(self, number: int) -> None:
        """Send a signal to the main thread until its handler calls :meth:`signal_seen`."""
        self._signal.send_until_seen(number)
        self._look_at_signal()

    def signal_seen(self) -> None:
        """Note that the handler runs (called by it, so without any lock)."""
        self._signal.seen()

    def _look_at_signal(self) -> None:
        if self._background_asleep:
            self._wake_background()
        if self._background_reading:
            self.wake()

    def close(self) -> None:
        """Stop the background thread and close everything."""
        self.closed = True
        self.activity += 1
        self._wake_background()
        self.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)
        with self.lock:
            for connection in list(self._connections.values()):
                self.remove(connection)
        if hasattr(self._poller, "close"):
            self._poller.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        for waiter in list(self._parked):
            self.complete(waiter)


#: Where a signal handler of the main thread may raise: at most a poll or a wait is given up.
INTERRUPTIBLE = frozenset({Reactor.step.__code__, Reactor._park.__code__})  # noqa: SLF001 - of this very module
