"""The running trial as its own code sees it: ``report``, ``get_checkpoint``, ``get_context``.

One trial runs in a process at a time, so the session of the running one is the process's own (`current`). Any thread of
the trial may report; a thread that an earlier trial left behind may not.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from tune.checkpoint import Checkpoint
from tune.messages import Action, Launch, Reported, Verdict
from tune.result import (
    CHECKPOINT_DIR_NAME,
    DONE,
    ITERATIONS_SINCE_RESTORE,
    TIME_SINCE_RESTORE,
    TIME_THIS_ITER_S,
    TIME_TOTAL_S,
    TIMESTAMP,
    TRAINING_ITERATION,
)
from tune.storage import CHECKPOINT_PREFIX, Storage
from tune.trial import CheckpointRecord, Result
from tune.trial_process.context import TrialContext
from tune.trial_process.metrics import clean
from tune.trial_process.outbox import ENDS, Outbox
from tune.trial_process.wire import TrialUnwinding

_monotonic = time.monotonic
_time = time.time


class TrialStopped(BaseException):
    """Raised by ``tune.report`` when the trial is to end: let it pass, so that ``with`` and ``finally`` do their work.

    Not an `Exception`, so that ``except Exception`` does not catch it.
    """


class TrialSession:
    """One attempt at a trial, inside its process.

    Args:
        launch: what to run.
        storage: the trial's directory in the storage.
        local_dir: its directory on this machine.
        outbox: takes the results.
    """

    def __init__(self, launch: Launch, storage: Storage, local_dir: str, outbox: Outbox) -> None:
        self.launch = launch
        self.context = TrialContext(launch, storage, local_dir)
        #: what is to happen to the trial once its code has ended; None while it runs on its own account
        self.ending: Action | None = None
        #: the user's code said itself that it is done
        self.done = False
        #: a class trainable: results come from its ``step`` alone
        self.by_steps = False
        #: the last result, as reported
        self.last_result: Result = {}
        self.iteration = launch.iteration
        self._storage = storage
        self._outbox = outbox
        self._sync = launch.sync
        self._waits = launch.sync.every or launch.sync.at is not None
        self._bounds = bool(launch.stop.bounds)
        self._lock = threading.Lock()
        self._time_total = launch.time_total_s
        self._since_restore = 0.0
        self._last = _monotonic()
        #: number of the next checkpoint; None until the directory was looked at
        self._next_checkpoint: int | None = None
        #: threads that were there before the trial
        self._strangers = frozenset(thread.ident for thread in threading.enumerate()) - {threading.get_ident()}

    def report(self, metrics: Any, checkpoint: Checkpoint | None = None) -> Action:
        """Report a result; return what the trial is to do now (``CONTINUE``, ``SAVE``, ``STOP`` or ``PAUSE``).

        Raises:
            TypeError: the metrics are no dictionary, a value cannot be pickled, or the checkpoint is none.
            RuntimeError: the thread belongs to an earlier trial.
        """
        if threading.get_ident() in self._strangers:
            raise RuntimeError("tune.report() was called by a thread that another trial left behind in this process")
        if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
            raise TypeError(
                f"checkpoint must be a tune.Checkpoint, got {type(checkpoint).__name__}: make one with "
                "tune.Checkpoint.from_directory(path)"
            )
        result, plain = clean(metrics)
        with self._lock:
            if self.ending is not None:
                return self.ending
            name = None if checkpoint is None else self._persist(checkpoint)
            self._complete(result)
            self.last_result = result
            record = None
            if name is not None:
                result[CHECKPOINT_DIR_NAME] = name
                record = checkpoint_record(name, self.iteration, result)
            self.done = bool(result.get(DONE))
            if self.done or (self._bounds and self.launch.stop.holds(result)):
                self._outbox.report(Reported(result, record), plain)
                return self._end(Action.STOP)
            if self._waits and self._sync.waits(result):
                action = self._obey(*self._outbox.report_and_wait(Reported(result, record), plain))
                self._last = _monotonic()
                return action
            word = self._outbox.report(Reported(result, record), plain)
            return Action.CONTINUE if word is None else self._obey(word)

    def save(self, checkpoint: Checkpoint) -> CheckpointRecord:
        """Make a checkpoint safe that comes without a result."""
        with self._lock:
            return checkpoint_record(self._persist(checkpoint), self.iteration, self.last_result)

    def checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint to go on from."""
        path = self.launch.checkpoint
        return None if path is None else Checkpoint(path, self._storage.filesystem)

    def _complete(self, result: Result) -> None:
        now = _monotonic()
        this = now - self._last
        self._last = now
        self._time_total += this
        self._since_restore += this
        self.iteration += 1
        result[TRAINING_ITERATION] = self.iteration
        result[TIME_THIS_ITER_S] = this
        result[TIME_TOTAL_S] = self._time_total
        result[TIMESTAMP] = int(_time())
        result[TIME_SINCE_RESTORE] = self._since_restore
        result[ITERATIONS_SINCE_RESTORE] = self.iteration - self.launch.iteration

    def _obey(self, *verdicts: Verdict | None) -> Action:
        action = Action.CONTINUE
        for verdict in verdicts:
            if verdict is None:
                continue
            if verdict.action in ENDS:
                return self._end(verdict.action)
            self._sync = verdict.sync
            self._waits = verdict.sync.every or verdict.sync.at is not None
            if verdict.action is Action.SAVE:
                action = Action.SAVE
        return action

    def _end(self, action: Action) -> Action:
        self.ending = action
        self._outbox.post(TrialUnwinding(self.launch.trial_id, self.launch.attempt))
        return action

    def _persist(self, checkpoint: Checkpoint) -> str:
        if self._next_checkpoint is None:
            names = (
                name.removeprefix(CHECKPOINT_PREFIX) for name in self._storage.names() if CHECKPOINT_PREFIX in name
            )
            self._next_checkpoint = 1 + max((int(number) for number in names if number.isdecimal()), default=-1)
        name = f"{CHECKPOINT_PREFIX}{self._next_checkpoint:06d}"
        with checkpoint.as_directory() as directory:
            self._storage.child(name).upload(directory)
        self._next_checkpoint += 1
        return name


def checkpoint_record(name: str, iteration: int, result: Result) -> CheckpointRecord:
    """Return the record of a checkpoint and the result it belongs to."""
    numbers = {key: float(value) for key, value in result.items() if type(value) in (int, float)}
    return CheckpointRecord(name, iteration, numbers)


#: The session of the running trial; set by the runner, nobody else.
current: TrialSession | None = None


def set_current(session: TrialSession | None) -> None:
    """Make `session` the process's."""
    global current
    current = session


def _require(what: str) -> TrialSession:
    if current is None:
        raise RuntimeError(
            f"tune.{what}() was called outside of a trial. It works inside the function or class given to tune.run() "
            "or Tuner; in code that also runs by itself, ask first: tune.in_trial()"
        )
    return current


def in_trial() -> bool:
    """Tell whether the calling process runs a trial now."""
    return current is not None


def report(metrics: dict[str, Any], *, checkpoint: Checkpoint | None = None) -> None:
    """Report a result of the running trial, and with it a checkpoint if one is given.

    Returns in microseconds, unless a scheduler or stopper decides at this result: then it waits for the decision. The
    checkpoint's directory is copied to the trial's storage before this returns.

    Args:
        metrics: names to values. Numbers for what is to be searched by; anything that can be pickled is kept. Scalars
            of numpy and torch become Python's.
        checkpoint: what the trial can go on from.

    Raises:
        TrialStopped: the trial is to end (not an `Exception`): let it pass.
        TypeError: the metrics are no dictionary with strings as names; a value cannot be pickled (the message has the
            path to it); `checkpoint` is no `Checkpoint`.
        RuntimeError: called outside of a trial, or in a class trainable, whose ``step`` returns its results.
    """
    session = current
    if session is None:
        session = _require("report")
    if session.by_steps:
        raise RuntimeError("tune.report() is for functions; a class trainable returns its results from step()")
    if session.report(metrics, checkpoint) in ENDS:
        raise TrialStopped(f"the trial is to {session.ending}")


def get_checkpoint() -> Checkpoint | None:
    """Return the checkpoint that the running trial goes on from, None if it begins anew.

    Raises:
        RuntimeError: called outside of a trial.
    """
    return _require("get_checkpoint").checkpoint()


def get_context() -> TrialContext:
    """Return facts about the running trial: name, id, resources, directories, experiment, seed.

    Raises:
        RuntimeError: called outside of a trial.
    """
    return _require("get_context").context
