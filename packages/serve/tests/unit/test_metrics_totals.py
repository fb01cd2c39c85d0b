"""Sums over processes: nothing that was collected is lost, no counter goes backwards, nothing grows without end."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serve.metrics.report import Distribution, Family, Labels, Report
from serve.metrics.totals import KEPT_S, Totals

PLAIN: Labels = (("route", "/"),)


def of_replica(name: str) -> Labels:
    return (("replica", name), ("route", "/"))


def report(process: str, count: float, gauge: float = 0.0) -> Report:
    counts = [int(count), 0]
    return Report(
        process,
        0,
        {},
        [
            Family("counter", "requests", "", (), {PLAIN: count}),
            Family("counter", "of_replicas", "", (), {of_replica(process): count}),
            Family("gauge", "now", "", (), {(): gauge}),
            Family("histogram", "latency", "", (1.0,), {}, {PLAIN: Distribution(counts, count)}),
        ],
    )


def values(totals: Totals, name: str, now: float = 0.0) -> dict[Labels, float]:
    return {
        labels: value
        for family in totals.families(now)
        if family.name == name
        for labels, value in family.values.items()
    }


class Processes(RuleBasedStateMachine):
    """Processes come, count, report, are replaced under their name, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.totals = Totals()
        self.counted: dict[str, float] = {}
        self.process: dict[str, str] = {}
        self.ever = 0
        self.expected = 0.0
        self.seen = 0.0
        self.now = 0.0

    @rule(source=st.sampled_from("abc"), more=st.integers(0, 5))
    def reports(self, source: str, more: int) -> None:
        if source not in self.process:
            self.ever += 1
            self.process[source] = f"p{self.ever}"
            self.counted[source] = 0
        self.counted[source] += more
        self.expected += more
        self.totals.report(source, report(self.process[source], self.counted[source], 1.0), self.now)

    @precondition(lambda self: self.process)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(sorted(self.process)))
        del self.process[source]
        self.totals.end(source, self.now)

    @precondition(lambda self: self.process)
    @rule(data=st.data())
    def is_restarted_before_anybody_notices(self, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(sorted(self.process)))
        self.ever += 1
        self.process[source] = f"p{self.ever}"
        self.counted[source] = 0
        self.totals.report(source, report(self.process[source], 0, 1.0), self.now)

    @rule(seconds=st.floats(0, KEPT_S * 2))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        total = sum(values(self.totals, "requests", self.now).values())
        assert total == self.expected
        assert total >= self.seen
        self.seen = total
        histograms = [f for f in self.totals.families(self.now) if f.name == "latency"]
        assert sum(d.total for f in histograms for d in f.distributions.values()) == self.expected

    @invariant()
    def gauges_are_of_those_who_live(self) -> None:
        assert sum(values(self.totals, "now", self.now).values()) == len(self.process)


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


def test_an_ended_replicas_series_stay_for_a_while_and_go() -> None:
    totals = Totals()
    totals.report("a", report("p1", 3), 0.0)
    totals.end("a", 10.0)
    assert values(totals, "of_replicas", 10.0 + KEPT_S - 1) == {of_replica("p1"): 3}
    assert values(totals, "of_replicas", 10.0 + KEPT_S) == {}
    assert values(totals, "requests", 10.0 + KEPT_S) == {PLAIN: 3}


def test_what_has_ended_twice_has_ended() -> None:
    totals = Totals()
    totals.end("nobody", 0.0)
    totals.report("a", report("p1", 1), 0.0)
    totals.end("a", 0.0)
    totals.end("a", 0.0)
    assert values(totals, "requests") == {PLAIN: 1}


def test_the_newest_process_says_what_a_metric_is() -> None:
    totals = Totals()
    old = Family("histogram", "h", "", (1.0,), {}, {(): Distribution([1, 0], 1.0)})
    new = Family("histogram", "h", "", (1.0, 2.0), {}, {(): Distribution([0, 1, 0], 1.5)})
    totals.report("old", Report("p1", 0, {}, [old]), 0.0)
    totals.report("new", Report("p2", 0, {}, [new]), 0.0)
    (family,) = totals.families(0.0)
    assert family.distributions == {(): Distribution([0, 1, 0], 1.5)}


def test_reports_are_not_changed() -> None:
    totals = Totals()
    one, other = report("p1", 2), report("p2", 3)
    totals.report("a", one, 0.0)
    totals.report("b", other, 0.0)
    totals.families(0.0)
    totals.end("a", 0.0)
    totals.families(0.0)
    assert one == report("p1", 2)
    assert other == report("p2", 3)


def test_a_restarted_controller_goes_on() -> None:
    first, second = Totals(), Totals()
    first.report("a", report("p1", 3), 0.0)
    first.end("a", 0.0)
    second.restore(first.settled)
    second.report("b", report("p2", 2), 0.0)
    assert values(second, "requests") == {PLAIN: 5}
