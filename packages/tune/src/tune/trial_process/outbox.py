"""Where a trial's events wait for the driver, and the trial for the driver's verdicts.

Two threads meet here: the trial's, which reports, and one that answers the driver's long polls (`take`). The rules that
make reporting cheap: a report is an append; nobody is woken for it if the other side is not asleep or has been woken
already; the poll, once it has something, waits a moment for more, unless it is *urgent*: an end, or a result that the
trial waits at. A trial that is far ahead of its driver waits for it, so that memory stays bounded.
"""

from __future__ import annotations

import sys
import threading
import time

import msgspec

from tune.messages import Action, Reported, TrialReported, Verdict
from tune.trial_process.wire import SlotEvent

#: Seconds that a poll waits for company of what is not urgent.
LINGER_S = 0.01
#: Results that are worth an answer at once.
BATCH = 500
#: Results that may wait for the driver; beyond, the trial waits for it.
LIMIT = 20_000

#: Verdicts that end the trial: valid at the next result, whether it waits there or not.
ENDS = frozenset({Action.STOP, Action.PAUSE})

_monotonic = time.monotonic


class Taken(msgspec.Struct, frozen=True):
    """What one poll got: events in order, and whether all metrics in them are plain."""

    events: list[SlotEvent]
    plain: bool


class Outbox:
    """See the module's docstring.

    Args:
        served: a driver polls while the trial runs; if not, all that happens is kept until it does.
    """

    def __init__(self, served: bool = True) -> None:
        self._served = served
        self._limit = LIMIT if served else sys.maxsize
        self._lock = threading.Lock()
        #: the poll sleeps here
        self._news = threading.Condition(self._lock)
        #: the trial sleeps here
        self._answers = threading.Condition(self._lock)
        self._events: list[SlotEvent] = []
        #: results of the running attempt not yet made an event
        self._reports: list[Reported] = []
        self._trial: tuple[str, int] = ("", 0)
        self._plain = True
        self._urgent = False
        #: when the oldest thing in here came (monotonic)
        self._since = 0.0
        #: a poll sleeps without a limit
        self._asleep = False
        self._newest_poll = -1
        #: the last poll that took something
        self._taken_by = -1
        #: the answer to the result that the trial waits at
        self._answer: Verdict | None = None
        #: said without being asked, for the next result
        self._word: Verdict | None = None

    # -- the trial's side -------------------------------------------------------------------------------------------

    def begin(self, trial_id: str, attempt: int) -> None:
        """A new attempt: what is reported from now on is its."""
        with self._lock:
            self._flush_reports(waiting=False)
            self._trial = (trial_id, attempt)
            self._answer = self._word = None

    def report(self, report: Reported, plain: bool) -> Verdict | None:
        """Add a result; return the verdict that came without being waited for, if one did."""
        with self._lock:
            if not self._reports and not self._events:
                self._since = _monotonic()
            self._reports.append(report)
            if not plain:
                self._plain = False
            if self._asleep or len(self._reports) == BATCH:
                self._asleep = False
                self._news.notify()
            while len(self._reports) >= self._limit:
                self._answers.wait()
            word, self._word = self._word, None
            return word

    def report_and_wait(self, report: Reported, plain: bool) -> tuple[Verdict | None, Verdict | None]:
        """Add a result and wait for the verdict about it.

        Returns:
            What was said without being asked, and the answer. One of them may be missing: an end need not be asked for.
        """
        with self._lock:
            self._reports.append(report)
            self._plain = self._plain and plain
            self._flush_reports(waiting=True)
            self._notify_urgent()
            while self._answer is None and (self._word is None or self._word.action not in ENDS):
                self._answers.wait()
            word, answer, self._word, self._answer = self._word, self._answer, None, None
            return word, answer

    def post(self, event: SlotEvent, *, urgent: bool = False) -> None:
        """Add an event other than a result."""
        with self._lock:
            self._flush_reports(waiting=False)
            if not self._events:
                self._since = _monotonic()
            self._events.append(event)
            if urgent:
                self._notify_urgent()
            elif self._asleep:
                self._asleep = False
                self._news.notify()

    def post_and_confirm(self, event: SlotEvent) -> None:
        """Add an event and wait until the driver has it: it polls again once it does."""
        self.post(event, urgent=True)
        with self._lock:
            while self._served and (self._events or self._newest_poll <= self._taken_by):
                self._answers.wait()

    def _flush_reports(self, *, waiting: bool) -> None:
        if self._reports:
            self._events.append(TrialReported(*self._trial, self._reports, waiting))
            self._reports = []

    def _notify_urgent(self) -> None:
        self._urgent = True
        self._asleep = False
        self._news.notify_all()

    # -- the driver's side ------------------------------------------------------------------------------------------

    def answer(self, trial_id: str, attempt: int, verdict: Verdict, *, asked: bool) -> None:
        """Give a verdict to the running attempt; void for another.

        Args:
            trial_id: whose.
            attempt: which of its attempts.
            verdict: what it is to do.
            asked: the answer to the result that the trial waits at; else a word for its next result.
        """
        with self._lock:
            if self._trial != (trial_id, attempt):
                return
            if asked:
                self._answer = verdict
            elif self._word is None or self._word.action not in ENDS:
                self._word = verdict
            self._answers.notify_all()

    def take(self, poll: int) -> Taken:
        """Wait until there is something, and return it all; nothing if a newer poll has come.

        Args:
            poll: number of this poll, higher than those of earlier ones.
        """
        with self._lock:
            if poll > self._newest_poll:
                self._newest_poll = poll
                self._news.notify_all()
                self._answers.notify_all()
            while poll == self._newest_poll and not self._ready():
                if self._events or self._reports:
                    self._news.wait(max(0.0, self._since + LINGER_S - _monotonic()))
                else:
                    self._asleep = True
                    self._news.wait()
            if poll != self._newest_poll:
                return Taken([], True)
            return self._take()

    def _ready(self) -> bool:
        if self._urgent or len(self._reports) >= BATCH:
            return True
        return bool(self._events or self._reports) and _monotonic() - self._since >= LINGER_S

    def _take(self) -> Taken:
        self._flush_reports(waiting=False)
        self._taken_by = self._newest_poll
        taken = Taken(self._events, self._plain)
        self._events = []
        self._plain = True
        self._urgent = False
        self._answers.notify_all()
        return taken
