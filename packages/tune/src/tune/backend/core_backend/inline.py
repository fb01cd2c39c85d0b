"""Trials one after another in this very process, for debuggers: ``core.init(engine="inline")``.

A trial that nobody decides about runs in the calling thread, within `poll`. One that waits for verdicts needs a stack
of its own beside the controller's, so it runs in a thread; the two take turns and never run at the same time. Limits of
time and memory cannot be enforced from within, and are not; a warning says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import core
from tune.argument_checks import log_files
from tune.backend.base import TrialBackend
from tune.backend.core_backend.placement import capacity
from tune.messages import Action, Event, Launch, TrialFailed, TrialPaused, TrialReported, TrialReturned, Verdict
from tune.storage import ExperimentStorage, Storage
from tune.trial import ResourceRequest
from tune.trial_process.outbox import Outbox
from tune.trial_process.runner import ProcessSettings, TrialRunner
from tune.trial_process.wire import ProcessSpoiled, TrialUnreadable, TrialUnwinding

logger = logging.getLogger("tune")


class InlineBackend(TrialBackend):
    """See the module's docstring.

    Args:
        trainable: a function of the configuration, or a `Trainable` class. Not pickled.
        storage: as for `CoreBackend`.
        log_to_file: as for `CoreBackend`.
        chdir_to_trial_dir: as for `CoreBackend`.
        export_formats: as for `CoreBackend`.
        **_: other options of `CoreBackend`, which mean nothing here.
    """

    def __init__(
        self,
        trainable: Any,
        storage: ExperimentStorage | None = None,
        *,
        log_to_file: bool | str | tuple[str, str] = False,
        chdir_to_trial_dir: bool = True,
        export_formats: tuple[str, ...] = (),
        **_: Any,
    ) -> None:
        self._storage = storage
        self._outbox = Outbox(served=False)
        settings = ProcessSettings(storage, log_files(log_to_file), chdir_to_trial_dir, export_formats)
        self._runner = TrialRunner(lambda: trainable, settings, self._outbox)
        self._queue: deque[Launch] = deque()
        self._events: list[Event] = []
        self._running: Launch | None = None
        self._waiting = False
        self._thread: threading.Thread | None = None
        self._polls = 0
        self._warned = False

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.time()

    def capacity(self, request: ResourceRequest) -> int:
        """Return 1 if such a trial would fit on the session's resources, else 0."""
        return min(1, capacity(request, [node["Resources"] for node in core.nodes()]))

    def cluster(self) -> dict[str, float]:
        """Return the resources of the session."""
        return core.cluster_resources()

    def start(self, launch: Launch) -> None:
        """Note a trial for `poll`."""
        if not self._warned and (launch.time_limit_s is not None or launch.memory_limit is not None):
            self._warned = True
            logger.warning(
                "the inline engine cannot enforce limits of time and memory: trials run in this very process"
            )
        self._queue.append(launch)

    def answer(self, trial_id: str, verdict: Verdict) -> None:
        """Answer the trial that waits."""
        if self._running is not None and self._running.trial_id == trial_id:
            self._outbox.answer(trial_id, self._running.attempt, verdict, asked=self._waiting)
            self._waiting = False

    def kill(self, trial_id: str) -> None:
        """Forget a trial that has not begun; one that has is told to stop."""
        for launch in self._queue:
            if launch.trial_id == trial_id:
                self._queue.remove(launch)
                self._events.append(TrialReturned(trial_id, launch.attempt, stopped=True))
                return
        self._stop_running()

    def poll(self, timeout: float | None) -> list[Event]:
        """Run the next trial up to its end or to the next result that it waits at, however long that takes."""
        if not self._events and self._running is None and self._queue:
            self._begin(self._queue.popleft())
        if not self._events and self._running is not None and not self._waiting:
            self._take()
        events, self._events = self._events, []
        return events

    def delete_checkpoint(self, trial_dir: str, name: str) -> None:
        """Delete a checkpoint from the storage."""
        if self._storage is not None:
            self._storage.delete_checkpoint(trial_dir, name)
        else:
            Storage(Path(trial_dir)).child(name).delete()

    def close(self) -> None:
        """Stop the trial that waits, if one does, and clean up."""
        self._queue.clear()
        self._stop_running()
        self._runner.close()

    def _begin(self, launch: Launch) -> None:
        self._running = launch
        if launch.sync.every or launch.sync.at is not None:
            self._thread = threading.Thread(target=self._runner.run, args=(launch,), name="tune-trial", daemon=True)
            self._thread.start()
        else:
            self._runner.run(launch)

    def _take(self) -> None:
        self._polls += 1
        for event in self._outbox.take(self._polls).events:
            if isinstance(event, TrialReturned | TrialPaused | TrialFailed):
                self._running = None
                if self._thread is not None:
                    self._thread.join()
                    self._thread = None
            elif isinstance(event, TrialReported):
                self._waiting = event.waiting
            if not isinstance(event, ProcessSpoiled | TrialUnwinding | TrialUnreadable):
                self._events.append(event)

    def _stop_running(self) -> None:
        launch = self._running
        if launch is not None:
            self.answer(launch.trial_id, Verdict(Action.STOP))
            while self._running is not None:
                self._take()
