"""Interrupts of threads: raised in user code, left for later in the engine, never raised outside of both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.runtime.reactor import Reactor
from core.runtime.waiting import EventWaiter
from core.worker import interruptible
from core.worker import running as running_module
from core.worker.running import Running

#: Seconds that nothing here should ever need.
SOON = 20
#: Interrupts sent to a thread that is now in user code and now not.
STORM = 3000


class Calls:
    """Stands for an engine: one method for each way to spend time in it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.completed = 0

    def operate(self) -> str:
        """Do something that must not be torn apart; ends when the test says so."""
        self.entered.set()
        while not self.leave.is_set():
            pass
        self.completed += 1
        return "done"


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor that nobody runs."""
    reactor = Reactor(None)  # type: ignore[arg-type]
    yield reactor
    reactor.close()


class Thread:
    """Runs user code as a call of an actor; keeps what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.running = Running(b"task", "user", 2, None)
        self.outcome: Any = None
        self._function = function
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        token = running_module.begin(self.running)
        try:
            self.outcome = interruptible.call(self.running, self._function)
        except BaseException as error:
            self.outcome = error
        running_module.current.reset(token)

    def result(self) -> Any:
        self._thread.join(SOON)
        assert not self._thread.is_alive()
        return self.outcome


def cancel(running: Running, reactor: Reactor) -> None:
    """Do what the executor does for a cancelled call."""
    running.cancelled = True
    with reactor.lock:
        interruptible.interrupt(running, reactor)


def test_user_code_is_interrupted(reactor: Reactor) -> None:
    entered = threading.Event()

    def loop() -> None:
        entered.set()
        while True:
            pass

    thread = Thread(loop)
    assert entered.wait(SOON)
    cancel(thread.running, reactor)
    assert isinstance(thread.result(), KeyboardInterrupt)


def test_an_operation_of_the_engine_is_completed_first(reactor: Reactor) -> None:
    calls = Calls()
    engine = interruptible.Shielded(calls)
    after: list[str] = []

    def work() -> None:
        engine.operate()
        after.append("not interrupted")

    thread = Thread(work)
    assert calls.entered.wait(SOON)
    cancel(thread.running, reactor)
    calls.leave.set()
    assert isinstance(thread.result(), KeyboardInterrupt)
    assert calls.completed == 1
    assert after == []


def test_the_interrupt_comes_once(reactor: Reactor) -> None:
    """User code may clean up with the engine after it was interrupted."""
    calls = Calls()
    engine = interruptible.Shielded(calls)

    def work() -> str:
        try:
            engine.operate()
        except KeyboardInterrupt:
            return str(engine.operate())
        return "not interrupted"

    thread = Thread(work)
    assert calls.entered.wait(SOON)
    cancel(thread.running, reactor)
    calls.leave.set()
    assert thread.result() == "done"
    assert calls.completed == 2


def test_a_call_that_waits_is_woken(reactor: Reactor) -> None:
    waiter = EventWaiter()
    registered = threading.Event()

    def wait() -> None:
        running = running_module.current.get()
        assert running is not None
        interruptible.start_waiting(running, waiter, reactor)
        registered.set()
        try:
            while not waiter.done:
                pass
        finally:
            interruptible.end_waiting(running, reactor)

    thread = Thread(interruptible.Shielded(type("Engine", (), {"wait": staticmethod(wait)})).wait)
    assert registered.wait(SOON)
    cancel(thread.running, reactor)
    assert isinstance(thread.result(), KeyboardInterrupt)


def test_an_interrupt_before_the_start_is_not_lost(reactor: Reactor) -> None:
    running = Running(b"task", "user", 2, None)
    running_module.begin(running)
    cancel(running, reactor)
    with pytest.raises(KeyboardInterrupt):
        interruptible.call(running, lambda: None)


def test_nothing_is_raised_outside_of_user_code_in_a_storm_of_interrupts(reactor: Reactor) -> None:
    """A thread goes in and out of user code while another one interrupts it all the time."""
    begun = threading.Event()
    lost: list[BaseException] = []
    outcomes = {"done": 0, "interrupted": 0}
    present: list[Running] = []

    def work() -> int:
        return sum(divmod(number, 3)[1] for number in range(20))

    def serve() -> None:
        try:
            while sum(outcomes.values()) < STORM or not outcomes["interrupted"]:
                running = Running(b"task", "user", 2, None)
                token = running_module.begin(running)
                present[:] = [running]
                begun.set()
                try:
                    interruptible.call(running, work)
                except KeyboardInterrupt:
                    outcomes["interrupted"] += 1
                else:
                    outcomes["done"] += 1
                running_module.current.reset(token)
                for _ in range(20):
                    divmod(7, 3)
        except BaseException as error:
            lost.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    assert begun.wait(SOON)
    while thread.is_alive():
        cancel(present[0], reactor)
        while reactor.after:
            reactor.after.popleft()()
    thread.join()
    assert lost == []
