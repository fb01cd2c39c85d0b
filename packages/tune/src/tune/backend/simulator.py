"""A backend that replays tabulated learning curves in simulated time.

A sweep of hours takes a second, and the controller, the searcher, the scheduler, the stoppers, the journal are the real
ones: only the training is looked up. Time is the backend's own: it stands still while the controller thinks, and jumps
to the next event when the controller waits. So a sweep is the same every time, and what a scheduler gains can be
measured on two cores for eight or eight hundred workers.

A trial reports after each epoch of its row and returns after the last. It saves when it pauses, when a verdict says so,
and as `Launch.checkpoint_frequency` and `Launch.checkpoint_at_end` want it; a checkpoint is a name that says the epoch,
and nothing is written anywhere. What goes on from a checkpoint goes on at that epoch of its own configuration's curve.
"""

from __future__ import annotations

import heapq
import random
import re
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from tune.backend.base import TrialBackend
from tune.messages import (
    Action,
    Event,
    Launch,
    Reported,
    Sync,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialReturned,
    TrialSaved,
    TrialStarted,
    Verdict,
)
from tune.result import ITERATIONS_SINCE_RESTORE, TIME_SINCE_RESTORE, TIME_THIS_ITER_S, TIME_TOTAL_S, TIMESTAMP
from tune.trial import CheckpointRecord, FailureKind, ResourceRequest, Result, TrialFailure

if TYPE_CHECKING:
    from tune.backend.table import TabularBenchmark

_EPOCH_OF = re.compile(r"checkpoint_(\d+)/?$")
#: Simulated time begins here, in seconds since the epoch: 2020-01-01. Any would do, as long as it is always the same.
_BEGINNING = 1577836800.0


class _Run(msgspec.Struct, eq=False):
    """An attempt under way."""

    launch: Launch
    row: int
    #: epochs of the curve that are behind it
    epoch: int
    sync: Sync
    #: results of this attempt
    reports: int = 0
    started: float = 0.0
    #: end of the last epoch
    reported_at: float = 0.0
    waiting: bool = False
    #: what to do after the next result
    told: Verdict | None = None
    #: says which of the scheduled happenings still count
    ticket: int = 0
    last: Result = {}


class SimulatorBackend(TrialBackend):
    """Replays a table in simulated time, for ``tune.run(..., backend=SimulatorBackend(table, workers=8))``.

    The trainable given to ``tune.run`` only lends its name then.

    Args:
        table: the learning curves.
        workers: how many trials of one CPU run at once.
        start_s: simulated seconds that the start of a trial takes, also of one that goes on.
        save_s: simulated seconds that a checkpoint takes.
        jitter: standard deviation of the logarithm of a factor on each epoch's duration; 0 for none.
        seed: of the jitter.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        table: TabularBenchmark,
        workers: int = 1,
        *,
        start_s: float = 0.0,
        save_s: float = 0.0,
        jitter: float = 0.0,
        seed: int = 0,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers!r}")
        if min(start_s, save_s, jitter) < 0:
            raise ValueError("start_s, save_s and jitter must not be negative")
        self.table = table
        self.workers = workers
        self._start_s = start_s
        self._save_s = save_s
        self._jitter = jitter
        self._rng = random.Random(seed)  # noqa: S311 - noise, not secrets
        self._now = _BEGINNING
        self._runs: dict[str, _Run] = {}
        self._waiting_for_place: deque[Launch] = deque()
        self._taken = 0.0
        #: what happens when: time, number (ties go to what was scheduled first), trial, ticket, whether it is the limit
        self._schedule: list[tuple[float, int, str, int, bool]] = []
        self._numbers = 0
        self._events: deque[Event] = deque()

    @property
    def elapsed(self) -> float:
        """Simulated seconds since the backend was made."""
        return self._now - _BEGINNING

    # ------------------------------------------------------------------------------------- what the controller asks

    def now(self) -> float:
        """Return the simulated time."""
        return self._now

    def capacity(self, request: ResourceRequest) -> int:
        """Return how many such trials run at once: a worker is one CPU."""
        return int(self.workers / _cpus(request.bundles) + 1e-9)

    def cluster(self) -> dict[str, float]:
        """Return one CPU for each worker."""
        return {"CPU": float(self.workers)}

    def start(self, launch: Launch) -> None:
        """Start a trial, as soon as a worker is free."""
        self._waiting_for_place.append(launch)
        self._fill()

    def answer(self, trial_id: str, verdict: Verdict) -> None:
        """Let a trial that waits act on a verdict; one that runs does so at its next result."""
        run = self._runs.get(trial_id)
        if run is None:
            return
        run.sync = verdict.sync
        if run.waiting:
            run.waiting = False
            self._act(run, verdict.action)
        elif verdict.action is not Action.CONTINUE:
            run.told = verdict

    def kill(self, trial_id: str) -> None:
        """End a trial."""
        waiting = next((launch for launch in self._waiting_for_place if launch.trial_id == trial_id), None)
        if waiting is not None:
            self._waiting_for_place.remove(waiting)
            self._events.append(TrialReturned(trial_id, waiting.attempt, stopped=True))
        elif trial_id in self._runs:
            self._end(self._runs[trial_id], TrialReturned(trial_id, self._runs[trial_id].launch.attempt, stopped=True))

    def poll(self, timeout: float | None) -> list[Event]:
        """Let time jump to the next events, but not further than `timeout`."""
        until = float("inf") if timeout is None else self._now + timeout
        while not self._events and self._schedule and self._schedule[0][0] <= until:
            at, _, trial_id, ticket, is_limit = heapq.heappop(self._schedule)
            run = self._runs.get(trial_id)
            if (
                run is not None
                and (is_limit or run.ticket == ticket)
                and (not is_limit or ticket == run.launch.attempt)
            ):
                self._now = at
                self._time_out(run) if is_limit else self._report(run)
        if not self._events and timeout is not None:
            self._now = until
        events = list(self._events)
        self._events.clear()
        return events

    def delete_checkpoint(self, trial_dir: str, name: str) -> None:
        """Do nothing: there are no files."""

    def close(self) -> None:
        """Forget all that runs."""
        self._runs.clear()
        self._waiting_for_place.clear()
        self._schedule.clear()
        self._events.clear()
        self._taken = 0.0

    # --------------------------------------------------------------------------------------------- what trials do

    def _fill(self) -> None:
        while self._waiting_for_place:
            launch = self._waiting_for_place[0]
            needed = _cpus(launch.bundles)
            if self._taken + needed > self.workers + 1e-9:
                return
            self._waiting_for_place.popleft()
            self._taken += needed
            self._begin(launch)

    def _begin(self, launch: Launch) -> None:
        self._events.append(TrialStarted(launch.trial_id, launch.attempt, pid=0, hostname="simulated"))
        run = _Run(launch, row=0, epoch=_epoch_of(launch.checkpoint), sync=launch.sync)
        self._runs[launch.trial_id] = run
        try:
            run.row = self.table.row(launch.config)
        except (ValueError, TypeError) as error:
            failure = TrialFailure(FailureKind.RAISED, type(error).__name__, str(error))
            self._end(run, TrialFailed(launch.trial_id, launch.attempt, failure))
            return
        run.started = run.reported_at = self._now + self._start_s
        if launch.time_limit_s is not None:
            limit = self._now + launch.time_limit_s
            heapq.heappush(self._schedule, (limit, self._next_number(), launch.trial_id, launch.attempt, True))
        self._go_on(run, delay=self._start_s)

    def _go_on(self, run: _Run, delay: float = 0.0) -> None:
        """Train for an epoch, or return if there is none left."""
        if run.epoch >= self.table.num_epochs:
            if run.launch.checkpoint_at_end:
                self._save(run)
            self._end(run, TrialReturned(run.launch.trial_id, run.launch.attempt))
            return
        seconds = self.table.duration(run.row, run.epoch + 1)
        if self._jitter:
            seconds *= self._rng.lognormvariate(0.0, self._jitter)
        run.ticket = self._next_number()
        heapq.heappush(
            self._schedule, (self._now + delay + seconds, run.ticket, run.launch.trial_id, run.ticket, False)
        )

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _report(self, run: _Run) -> None:
        """End an epoch."""
        run.epoch += 1
        run.reports += 1
        result = self._result(run)
        run.last = result
        run.reported_at = self._now
        frequency = run.launch.checkpoint_frequency
        saved = self._record(run) if frequency and run.reports % frequency == 0 else None
        stops = run.launch.stop.holds(result)
        run.waiting = not stops and run.told is None and run.sync.waits(result)
        reported = Reported(result, saved)
        self._events.append(TrialReported(run.launch.trial_id, run.launch.attempt, [reported], run.waiting))
        told, run.told = run.told, None
        if stops:
            self._act(run, Action.STOP)
        elif told is not None:
            self._act(run, told.action)
        elif not run.waiting:
            self._go_on(run)

    def _act(self, run: _Run, action: Action) -> None:
        """Do after a result what was decided."""
        trial_id, attempt = run.launch.trial_id, run.launch.attempt
        match action:
            case Action.CONTINUE:
                self._go_on(run)
            case Action.SAVE:
                self._save(run)
                self._go_on(run, delay=self._save_s)
            case Action.STOP:
                if run.launch.checkpoint_at_end:
                    self._save(run)
                self._end(run, TrialReturned(trial_id, attempt, stopped=True))
            case Action.PAUSE:
                self._save(run)
                self._end(run, TrialPaused(trial_id, attempt))

    def _result(self, run: _Run) -> Result:
        launch, since = run.launch, self._now - run.started
        return {
            **self.table.result(run.row, run.epoch),
            "training_iteration": launch.iteration + run.reports,
            TIME_THIS_ITER_S: self._now - run.reported_at,
            TIME_TOTAL_S: launch.time_total_s + since,
            TIMESTAMP: int(self._now),
            TIME_SINCE_RESTORE: since,
            ITERATIONS_SINCE_RESTORE: run.reports,
        }

    def _record(self, run: _Run) -> CheckpointRecord:
        metrics = {name: value for name, value in run.last.items() if isinstance(value, int | float)}
        iteration = run.launch.iteration + run.reports
        return CheckpointRecord(f"checkpoint_{run.epoch:06d}", iteration, metrics)

    def _save(self, run: _Run) -> None:
        self._events.append(TrialSaved(run.launch.trial_id, run.launch.attempt, self._record(run)))

    def _time_out(self, run: _Run) -> None:
        limit = run.launch.time_limit_s
        failure = TrialFailure(FailureKind.TIMEOUT, "TimeLimit", f"the trial ran longer than {limit:g} s")
        self._end(run, TrialFailed(run.launch.trial_id, run.launch.attempt, failure))

    def _end(self, run: _Run, event: Event) -> None:
        del self._runs[run.launch.trial_id]
        self._taken -= _cpus(run.launch.bundles)
        self._events.append(event)
        self._fill()


def _cpus(bundles: tuple[dict[str, float], ...]) -> float:
    """Return how many workers a trial takes; one that asks for no CPU takes one."""
    return sum(bundle.get("CPU", 0.0) for bundle in bundles) or 1.0


def _epoch_of(checkpoint: str | None) -> int:
    found = _EPOCH_OF.search(checkpoint) if checkpoint is not None else None
    return int(found[1]) if found else 0
