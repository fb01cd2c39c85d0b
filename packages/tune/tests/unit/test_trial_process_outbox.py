"""Where events wait for the driver: order, batches, verdicts, confirmation, limits. Threads stand for the two sides."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.eventually import eventually
from tune.messages import Action, Reported, Sync, TrialReported, TrialReturned, TrialStarted, Verdict
from tune.trial_process import outbox as module
from tune.trial_process.metrics import Opaque
from tune.trial_process.outbox import Outbox, Taken
from tune.trial_process.wire import TrialUnreadable, decode, encode

CONTINUE, STOP, SAVE = Verdict(Action.CONTINUE, Sync(at=5)), Verdict(Action.STOP), Verdict(Action.SAVE)


@pytest.fixture
def outbox() -> Outbox:
    box = Outbox()
    box.begin("t", 1)
    return box


@pytest.fixture
def aside() -> Any:
    """Run something in another thread."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


Aside = Callable[..., "Future[Any]"]


def result(number: int) -> Reported:
    return Reported({"n": number})


def test_results_become_one_event_and_order_is_kept(outbox: Outbox) -> None:
    outbox.post(TrialStarted("t", 1, 7, "here"))
    for number in range(3):
        assert outbox.report(result(number), True) is None
    outbox.post(TrialReturned("t", 1), urgent=True)
    taken = outbox.take(0)
    assert taken == Taken(
        [
            TrialStarted("t", 1, 7, "here"),
            TrialReported("t", 1, [result(0), result(1), result(2)]),
            TrialReturned("t", 1),
        ],
        True,
    )


def test_a_poll_waits_for_news(outbox: Outbox, aside: Aside) -> None:
    poll = aside(outbox.take, 0)
    outbox.report(result(1), True)
    assert poll.result(10).events == [TrialReported("t", 1, [result(1)])]


def test_a_newer_poll_sends_the_older_one_home(outbox: Outbox, aside: Aside) -> None:
    older = aside(outbox.take, 0)
    newer = aside(outbox.take, 1)
    assert older.result(10).events == []
    assert outbox.take(0).events == [], "also one that comes late"
    outbox.post(TrialReturned("t", 1), urgent=True)
    assert newer.result(10).events == [TrialReturned("t", 1)]


def test_a_full_batch_does_not_wait_for_company(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_S", 1e9)
    monkeypatch.setattr(module, "BATCH", 3)
    for number in range(3):
        outbox.report(result(number), True)
    (event,) = outbox.take(0).events
    assert isinstance(event, TrialReported) and len(event.reports) == 3


def test_a_trial_waits_for_its_verdict(outbox: Outbox, aside: Aside) -> None:
    waiting = aside(outbox.report_and_wait, result(1), True)
    assert outbox.take(0).events == [TrialReported("t", 1, [result(1)], waiting=True)]
    outbox.answer("t", 2, STOP, asked=True)  # another attempt
    outbox.answer("t", 1, Verdict(Action.CONTINUE), asked=False)  # said before the driver knew that it waits
    assert not waiting.done()
    outbox.answer("t", 1, CONTINUE, asked=True)
    word, answer = waiting.result(10)
    assert (word, answer) == (Verdict(Action.CONTINUE), CONTINUE)


def test_an_end_need_not_be_asked_for(outbox: Outbox, aside: Aside) -> None:
    waiting = aside(outbox.report_and_wait, result(1), True)
    outbox.take(0)
    outbox.answer("t", 1, STOP, asked=False)
    assert waiting.result(10) == (STOP, None)


def test_a_word_is_heard_at_the_next_result_and_an_end_is_not_taken_back(outbox: Outbox) -> None:
    outbox.answer("t", 1, SAVE, asked=False)
    assert outbox.report(result(1), True) == SAVE
    assert outbox.report(result(2), True) is None
    outbox.answer("t", 1, STOP, asked=False)
    outbox.answer("t", 1, SAVE, asked=False)
    assert outbox.report(result(3), True) == STOP


def test_a_new_attempt_hears_nothing_of_the_old_one(outbox: Outbox) -> None:
    outbox.answer("t", 1, STOP, asked=False)
    outbox.report(result(1), True)
    outbox.answer("t", 1, STOP, asked=False)
    outbox.begin("u", 1)
    assert outbox.report(result(2), True) is None
    outbox.post(TrialReturned("u", 1), urgent=True)
    assert [event.trial_id for event in outbox.take(0).events] == ["t", "u", "u"]


def test_a_trial_far_ahead_waits_for_the_driver(aside: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 3)
    box = Outbox()
    box.begin("t", 1)
    box.report(result(0), True)
    box.report(result(1), True)
    ahead = aside(box.report, result(2), True)
    eventually(lambda: len(box._reports) == 3)
    assert not ahead.done()
    (event,) = box.take(0).events
    assert isinstance(event, TrialReported) and len(event.reports) == 3
    assert ahead.result(10) is None


def test_without_a_driver_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 3)
    box = Outbox(served=False)
    box.begin("t", 1)
    for number in range(10):
        box.report(result(number), True)
    box.post_and_confirm(TrialReturned("t", 1))
    assert len(box.take(0).events) == 2


def test_a_confirmed_event_has_reached_the_driver(outbox: Outbox, aside: Aside) -> None:
    posted = threading.Event()

    def post() -> None:
        outbox.post_and_confirm(TrialStarted("t", 1, 7, "here"))
        posted.set()

    trial = aside(post)
    assert outbox.take(0).events == [TrialStarted("t", 1, 7, "here")]
    assert not posted.is_set()
    next_poll = aside(outbox.take, 1)
    trial.result(10)
    outbox.post(TrialReturned("t", 1), urgent=True)
    next_poll.result(10)


# -- bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "plain"), [(1.5, True), (2**80, True), ("\ud800", True), ((1, {2: "x"}), False)], ids=repr
)
def test_events_survive_the_wire(value: Any, plain: bool) -> None:
    events: list[Any] = [TrialReported("t", 1, [Reported({"x": value, "nan": None})]), TrialReturned("t", 1, True)]
    assert decode(encode(Taken(events, plain))) == events


def test_a_value_that_cannot_be_unpickled_spoils_its_result_only() -> None:
    reports = [Reported({"x": 1}), Reported({"x": [Opaque(b"rubbish")]}), Reported({"x": 3})]
    first, second, third = decode(encode(Taken([TrialReported("t", 1, reports), TrialReturned("u", 1)], False)))
    assert first == TrialReported("t", 1, [Reported({"x": 1})])
    assert isinstance(second, TrialUnreadable) and "cannot be unpickled in the driver" in second.message
    assert third == TrialReturned("u", 1)
