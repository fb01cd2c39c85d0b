"""The least controller there is, to test backends by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    Verdict,
)
from tune.trial import TrialFailure

#: Seconds after which a test gives up.
PATIENCE = 60.0
ENDS = (TrialReturned, TrialPaused, TrialFailed)


def launch(directory: Path, name: str = "t0", **fields: Any) -> Launch:
    """Return a launch of a trial of one CPU."""
    given: dict[str, Any] = {
        "trial_id": name,
        "attempt": 1,
        "config": {},
        "trial_dir": str(directory / name),
        "bundles": ({"CPU": 1.0},),
        "trial_name": name,
        "experiment_name": "experiment",
        **fields,
    }
    return Launch(**given)


def drive(
    backend: TrialBackend,
    launches: list[Launch],
    decide: Callable[[str, Reported], Verdict] = lambda _name, _report: Verdict(Action.CONTINUE, Sync(every=True)),
    on_event: Callable[[Event], None] = lambda _event: None,
) -> dict[str, list[Event]]:
    """Start trials and follow them to their ends; return the events of each."""
    events: dict[str, list[Event]] = {one.trial_id: [] for one in launches}
    for one in launches:
        backend.start(one)
    ended: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while len(ended) < len(launches):
        assert time.monotonic() < deadline, f"not ended: {set(events) - ended}; {events}"
        for event in backend.poll(1.0):
            events[event.trial_id].append(event)
            assert event.trial_id not in ended, f"after its end: {event}"
            if isinstance(event, ENDS):
                ended.add(event.trial_id)
            elif isinstance(event, TrialReported) and event.waiting:
                backend.answer(event.trial_id, decide(event.trial_id, event.reports[-1]))
            on_event(event)
    return events


def results(events: list[Event]) -> list[dict[str, Any]]:
    """Return the reported results."""
    return [report.result for event in events if isinstance(event, TrialReported) for report in event.reports]


def values(events: list[Event], name: str) -> list[Any]:
    """Return a metric of all reported results."""
    return [result[name] for result in results(events)]


def failure(events: list[Event]) -> TrialFailure:
    """Return why a trial failed."""
    last = events[-1]
    assert isinstance(last, TrialFailed), events
    return last.failure
