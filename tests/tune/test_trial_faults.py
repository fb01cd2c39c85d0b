"""Trials that go wrong in every way: each ends with a clear failure, and the next trial runs."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.eventually import eventually
from tests.tune.small_driver import drive, failure, launch, results, values
from tune.backend.core_backend import CoreBackend
from tune.messages import Event, StopRule, TrialReturned
from tune.trainable import Trainable
from tune.trial import FailureKind
from tune.trial_process.session import report

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("session")

Run = Callable[..., list[Event]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run a trial that goes wrong, then one that does not; return the events of the first."""
    made: list[CoreBackend] = []

    def run(function: Any, *, options: dict[str, Any] | None = None, **fields: Any) -> list[Event]:
        def either(config: dict[str, Any]) -> Any:
            return {"fine": True} if config.get("fine") else function(config)

        backend = CoreBackend(either, **(options or {}))
        made.append(backend)
        events = drive(backend, [launch(tmp_path, **fields)])["t0"]
        after = drive(backend, [launch(tmp_path, "after", config={"fine": True})])["after"]
        assert values(after, "fine") == [True]
        return events

    yield run
    for backend in made:
        backend.close()


class Odd(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_what_a_trial_raises_is_told_with_its_traceback(run: Run) -> None:
    def deep() -> None:
        raise ValueError("bad value 17")

    def train(config: dict[str, Any]) -> None:
        report({"x": 1})
        deep()

    events = run(train)
    assert values(events, "x") == [1]
    error = failure(events)
    assert (error.kind, error.error_type, error.message) == (FailureKind.RAISED, "ValueError", "bad value 17")
    assert "in deep" in error.traceback and "trial_process" not in error.traceback
    assert error.pickled is not None


@pytest.mark.parametrize(
    ("kind", "message"), [(lambda: Odd(1, 2), "odd"), (lambda: Unreadable(), "__str__ raised RuntimeError")]
)
def test_exceptions_that_cannot_be_pickled_or_printed(run: Run, kind: Any, message: str) -> None:
    def train(config: dict[str, Any]) -> None:
        raise kind()

    error = failure(run(train))
    assert error.kind is FailureKind.RAISED
    assert error.error_type.endswith((".Odd", ".Unreadable"))
    assert message in error.message


def test_an_exception_that_holds_a_lock_is_told_as_text(run: Run) -> None:
    def train(config: dict[str, Any]) -> None:
        raise RuntimeError("holds", threading.Lock())

    error = failure(run(train))
    assert error.pickled is None
    assert error.error_type == "RuntimeError"


@pytest.mark.parametrize(
    ("end", "error_type", "message"),
    [
        (lambda: sys.exit(3), "SystemExit", "sys.exit(3)"),
        (lambda: os.kill(os.getpid(), signal.SIGINT) or time.sleep(0), "KeyboardInterrupt", ""),
    ],
    ids=["sys.exit", "KeyboardInterrupt"],
)
def test_ends_of_a_program_end_the_trial(run: Run, end: Any, error_type: str, message: str) -> None:
    def train(config: dict[str, Any]) -> None:
        if error_type == "KeyboardInterrupt":
            raise KeyboardInterrupt
        end()

    error = failure(run(train))
    assert (error.kind, error.error_type) == (FailureKind.RAISED, error_type)
    assert message in error.message


def crash() -> None:
    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("end", "text", "words"),
    [
        (lambda: os._exit(7), "exited with code 7", ""),
        (lambda: os._exit(0), "exited with code 0", ""),
        (crash, "SIGSEGV", "in crash"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL", ""),
        (lambda: os.abort(), "SIGABRT", ""),
    ],
    ids=["exit 7", "exit 0", "segfault", "SIGKILL", "abort"],
)
@pytest.mark.parametrize("log_to_file", [False, True])
def test_a_process_that_dies_is_told_with_its_last_words(
    run: Run, end: Any, text: str, words: str, log_to_file: bool
) -> None:
    def train(config: dict[str, Any]) -> None:
        os.write(2, b"last words\n")
        report({"x": 1})
        end()

    error = failure(run(train, options={"log_to_file": log_to_file}))
    assert error.kind is FailureKind.DIED
    assert text in error.message
    assert "last words" in error.traceback
    assert words in error.traceback


def test_a_trainable_that_cannot_be_loaded_fails_its_trials(tmp_path: Path) -> None:
    class Unloadable:
        def __reduce__(self) -> Any:
            return (_explode, ())

    backend = CoreBackend(Unloadable())
    try:
        error = failure(drive(backend, [launch(tmp_path)])["t0"])
    finally:
        backend.close()
    assert error.kind is FailureKind.RAISED
    assert "cannot be loaded here" in error.message + error.traceback


def _explode() -> None:
    raise ImportError("cannot be loaded here")


def test_a_class_that_is_no_trainable(tmp_path: Path) -> None:
    class Stranger:
        pass

    backend = CoreBackend(Stranger)
    try:
        assert "must inherit from tune.Trainable" in failure(drive(backend, [launch(tmp_path)])["t0"]).message
    finally:
        backend.close()


# -- what is reported ---------------------------------------------------------------------------------------------


def test_an_unpicklable_value_is_named_by_its_path(run: Run) -> None:
    def train(config: dict[str, Any]) -> None:
        report({"ok": 1})
        report({"model": {"layers": [1, threading.Lock()]}})

    events = run(train)
    assert values(events, "ok") == [1]
    error = failure(events)
    assert error.kind is FailureKind.UNPICKLABLE
    assert "metrics['model']['layers'][1]" in error.message
    assert "in train" in error.traceback


def test_a_value_that_only_the_trial_can_unpickle(run: Run) -> None:
    class Local:
        def __reduce__(self) -> Any:
            return (_only_in, (os.getpid(),))

    def train(config: dict[str, Any]) -> None:
        report({"fine": Local(), "before": 1})
        threading.Event().wait()  # it is ended: nobody could go on with it

    error = failure(run(train))
    assert error.kind is FailureKind.UNPICKLABLE
    assert "only there" in error.message


def _only_in(pid: int) -> object:
    if os.getpid() != pid:
        raise RuntimeError("only there")
    return object()


@pytest.mark.parametrize(
    ("metrics", "checkpoint", "message"),
    [
        ([1, 2], None, "takes a dict of metrics"),
        ({1: 2}, None, "names of metrics must be strings"),
        ({"x": 1}, "/tmp", "must be a tune.Checkpoint"),
    ],
)
def test_bad_reports_fail_where_they_are_made(run: Run, metrics: Any, checkpoint: Any, message: str) -> None:
    def train(config: dict[str, Any]) -> None:
        report(metrics, checkpoint=checkpoint)

    error = failure(run(train))
    assert error.error_type == "TypeError"
    assert message in error.message


def test_a_class_that_reports_by_itself_is_told_how(tmp_path: Path) -> None:
    class Chatty(Trainable):
        def step(self) -> dict[str, Any]:
            report({"x": 1})
            return {}

    backend = CoreBackend(Chatty)
    try:
        assert "returns its results from step()" in failure(drive(backend, [launch(tmp_path)])["t0"]).message
    finally:
        backend.close()


def test_a_class_whose_step_returns_nothing_is_told_so(tmp_path: Path) -> None:
    class Silent(Trainable):
        def step(self) -> Any:
            return None

    backend = CoreBackend(Silent)
    try:
        assert "step() must return a dict" in failure(drive(backend, [launch(tmp_path)])["t0"]).message
    finally:
        backend.close()


# -- limits -------------------------------------------------------------------------------------------------------


def hang(config: dict[str, Any]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    report({"pid": os.getpid(), "child": child.pid})
    child.wait()


def test_a_trial_over_its_time_limit_is_ended_with_its_children(run: Run) -> None:
    events = run(hang, time_limit_s=0.5)
    error = failure(events)
    assert error.kind is FailureKind.TIMEOUT
    assert "time limit of 0.5 s" in error.message
    (result,) = results(events)
    eventually(lambda: not psutil.pid_exists(result["pid"]) and not psutil.pid_exists(result["child"]))


def test_a_hang_in_native_code_that_keeps_the_interpreter_is_ended(run: Run) -> None:
    def train(config: dict[str, Any]) -> None:
        ctypes.PyDLL(None).sleep(1000)

    assert failure(run(train, time_limit_s=0.3)).kind is FailureKind.TIMEOUT


def eat(config: dict[str, Any]) -> None:
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)) * 4)
        report({"blocks": len(held)})


def eat_in_a_child(config: dict[str, Any]) -> None:
    subprocess.run([sys.executable, "-c", "x = b'x' * (400 << 20); import time; time.sleep(1000)"], check=False)


@pytest.mark.parametrize("function", [eat, eat_in_a_child])
def test_a_trial_over_its_memory_limit_is_ended(run: Run, function: Any) -> None:
    error = failure(run(function, memory_limit=300 << 20, config={}))
    assert error.kind is FailureKind.OUT_OF_MEMORY
    assert "300 MiB" in error.message


def test_limits_that_are_kept_do_no_harm(run: Run) -> None:
    events = run(lambda config: {"x": 1}, time_limit_s=60, memory_limit=8 << 30)
    assert events[-1] == TrialReturned("t0", 1)


def test_a_trial_that_will_not_be_stopped_is_killed(run: Run) -> None:
    def train(config: dict[str, Any]) -> None:
        while True:
            try:
                report({"x": 1})
            except BaseException:
                time.sleep(0.01)

    events = run(train, options={"stop_grace_s": 0.3}, stop=StopRule({"x": 1}))
    error = failure(events)
    assert error.kind is FailureKind.TIMEOUT
    assert "TrialStopped" in error.message
    assert values(events, "x") == [1]


def test_a_slot_that_dies_while_idle_costs_no_trial(tmp_path: Path) -> None:
    backend = CoreBackend(lambda config: {"pid": os.getpid()})
    try:
        (first,) = values(drive(backend, [launch(tmp_path, "a")])["a"], "pid")
        os.kill(first, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(first) or psutil.Process(first).status() == psutil.STATUS_ZOMBIE)

        def noticed() -> bool:
            backend.poll(0.01)
            return not backend._slots

        eventually(noticed)
        (second,) = values(drive(backend, [launch(tmp_path, "b")])["b"], "pid")
        assert second != first
    finally:
        backend.close()


def test_one_bad_trial_does_not_disturb_its_neighbours(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        for step in range(20):
            report({"step": step})
        if config["bad"]:
            os._exit(1)

    backend = CoreBackend(train)
    try:
        trials = [launch(tmp_path, f"t{i}", config={"bad": i % 3 == 0}) for i in range(9)]
        many = drive(backend, trials)
    finally:
        backend.close()
    for number, events in enumerate(many.values()):
        if number % 3 == 0:
            assert failure(events).kind is FailureKind.DIED
        else:
            assert values(events, "step") == list(range(20))


# -- the driver dies ----------------------------------------------------------------------------------------------


DRIVER = """
import sys
from pathlib import Path
import core
from tests.tune.small_driver import launch
from tests.tune.test_trial_faults import hang
from tune.backend.core_backend import CoreBackend
from tune.messages import TrialReported
core.init(num_cpus=2)
backend = CoreBackend(hang)
for number in range(2):
    backend.start(launch(Path(sys.argv[1]), f"t{number}"))
while True:
    for event in backend.poll(None):
        if isinstance(event, TrialReported):
            print(event.reports[0].result["pid"], event.reports[0].result["child"], flush=True)
"""


def test_nothing_is_left_of_a_killed_driver(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    with driver.stdout:
        pids = [int(pid) for _ in range(2) for pid in driver.stdout.readline().split()]
        driver.kill()
        driver.wait()
    assert len(pids) == 4
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))
