"""The machine that owns the trials of a sweep.

Theory of operation. Inputs go in: a driver's beginning, events of trials, ticks of the clock, an interruption.
Instructions come out: start this trial, tell that one to pause, call a callback, finish. The machine does no I/O,
knows no time but what the inputs say, and draws no lots. Those who decide (searcher, scheduler, stopper) are asked
through `Advice`, which records what they say. So inputs and answers are all there is to a sweep: they are its journal,
and a new machine that is given them again is in the same state.

An input is handled in steps. A result, or the end of an attempt, is one step; after each the scheduler may direct
paused trials, and free places are given away. With ``rules.ordered`` the steps are not taken as events arrive but in
virtual order (`tune.controller.virtual_order`).

What comes of a trial a second time, because it went back to a checkpoint after a death, is recognised by its iteration
and left out: nobody sees a result twice.

=================  =================================================================
phase of a trial   goes to
=================  =================================================================
PENDING            ACTIVE (a place), ended (infeasible)
ACTIVE             ended; PAUSED; RETURNING (failure, exploit, resize, driver's death)
RETURNING          ACTIVE (a place)
PAUSED             RETURNING (the scheduler takes it up), ended
ended              RETURNING or PAUSED, if the sweep is resumed and wants it
=================  =================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tune.controller.advice import Advice
from tune.controller.desk import Desk
from tune.controller.endings import Endings
from tune.controller.instructions import Instruction, Kill
from tune.controller.outcome import EndReason
from tune.controller.placing import Placing
from tune.controller.records import Arrived, Began, Input, Interrupted, Record, Ticked
from tune.controller.return_of_trials import ReturnOfTrials
from tune.controller.state import Delivery, Phase, Run, State
from tune.controller.vault import Vault
from tune.messages import (
    Action,
    Event,
    Reported,
    StopRule,
    TrialFailed,
    TrialPaused,
    TrialReported,
    TrialReturned,
    TrialSaved,
    TrialStarted,
)
from tune.schedulers.base import CONTINUE, Continue, Decision, Exploit, Pause, Resize, Stop
from tune.trial import EndCause, ResourceRequest, TrialFailure

#: seconds that trials get to end by themselves once the sweep is to end
GRACE = 0.5
#: seconds after which killed ones are not waited for any more
_LAST_WAIT = 10.0


class Machine:
    """Owns the trials of one sweep.

    Args:
        state: the books: new ones, or those of a snapshot.
        advice: whom to ask.
        capacity: how many trials of a request fit on the empty cluster.
        cluster: the cluster's resources.
        experiment_dir: absolute path of the experiment's local directory.
    """

    def __init__(
        self,
        state: State,
        advice: Advice,
        capacity: Callable[[ResourceRequest], int],
        cluster: Mapping[str, float],
        experiment_dir: str,
    ) -> None:
        self.state = state
        self._advice = advice
        self._desk = Desk(state, advice, capacity, cluster, experiment_dir)
        self._vault = Vault(self._desk)
        self._endings = Endings(self._desk, self._vault)
        self._placing = Placing(self._desk, self._endings)

    # -- the face

    def begin(self, began: Began) -> list[Instruction]:
        """A driver begins the sweep, or goes on with it."""
        self._desk.record(began)
        self._input(began)
        return self._instructions()

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Something came of a trial. What comes of attempts that are over is ignored."""
        run = self.state.runs.get(event.trial_id)
        if run is None or run.phase is not Phase.ACTIVE or event.attempt != run.trial.attempts:
            return []
        if isinstance(event, TrialReported):
            self._receive(run, event, now)
        else:
            self._accept(run, Arrived(now, 0, event))
        return self._instructions()

    def tick(self, now: float) -> list[Instruction]:
        """Time goes by. To be called now and then, and at `next_deadline`."""
        before = len(self._desk.records)
        self._desk.record(Ticked(now))
        if not self._input(Ticked(now)) and len(self._desk.records) == before + 1:
            self._desk.records.pop()
        return self._instructions()

    def interrupt(self, now: float) -> list[Instruction]:
        """Somebody wants the sweep to stop for now."""
        self._desk.record(Interrupted(now))
        self._input(Interrupted(now))
        return self._instructions()

    def replay(self, recorded: Input) -> None:
        """Take an input from the journal. The advice must have the answers."""
        if isinstance(recorded, Arrived):
            run = self.state.runs.get(recorded.event.trial_id)
            if run is not None:
                self._accept(run, recorded)
        else:
            self._input(recorded)
        self._desk.out.clear()

    def take_records(self) -> list[tuple[int, Record]]:
        """Return what is to go into the journal, with the index of the trial each is about."""
        records, self._desk.records = self._desk.records, []
        return records

    @property
    def busy(self) -> bool:
        """Whether anything runs that events may come of."""
        return len(self._desk.places) > 0

    def next_deadline(self) -> float | None:
        """Return when `tick` must be called at the latest, None if it does not matter."""
        state = self.state
        if state.finished:
            return None
        if state.ending is not None:
            return state.kill_at
        budget = state.rules.time_budget_s
        return None if budget is None else state.began + budget

    # -- inputs

    def _input(self, recorded: Began | Arrived | Ticked | Interrupted) -> bool:
        """Take an input that is no event; return whether it changed anything that the record does not show."""
        self._advice.moment = 0
        match recorded:
            case Began():
                ReturnOfTrials(self._desk, self._vault, self._endings).begin(recorded)
                self._drain()
                self._advance(recorded.now)
                return True
            case Interrupted():
                self._end(EndReason.INTERRUPTED, recorded.now)
                return True
            case _:
                return self._tick(recorded.now)

    def _tick(self, now: float) -> bool:
        state = self.state
        if state.finished:
            return False
        if state.ending is not None:
            return self._press(now)
        budget = state.rules.time_budget_s
        if budget is not None and now >= state.began + budget:
            self._end(EndReason.TIME_BUDGET, now)
            return True
        if self._advice.stops_all():
            self._end(EndReason.STOPPER, now)
            return True
        self._advance(now)
        return state.finished

    def _instructions(self) -> list[Instruction]:
        for text in self._advice.warnings:
            self._desk.warn(text)
        self._advice.warnings.clear()
        out, self._desk.out = self._desk.out, []
        return out

    # -- what arrives

    def _receive(self, run: Run, event: TrialReported, now: float) -> None:
        """Leave out what came before, record the rest, accept it."""
        first = run.delivered + 1
        run.delivered += len(event.reports)
        if self._is_deaf(run):
            self._drop(run, event.reports)
            return
        repeated = min(len(event.reports), max(0, run.arrived + 1 - first))
        for report in event.reports[:repeated]:
            if report.checkpoint is not None and not self._vault.knows(run.trial, report.checkpoint.name):
                self._accept(run, Arrived(now, 0, TrialSaved(event.trial_id, event.attempt, report.checkpoint)))
        if event.waiting:
            run.waiting = run.delivered
        if repeated < len(event.reports):
            if repeated:
                fresh = event.reports[repeated:]
                event = TrialReported(event.trial_id, event.attempt, fresh, event.waiting)
            self._accept(run, Arrived(now, first + repeated, event))
        elif event.waiting and run.delivered <= run.trial.iteration:
            run.waiting = 0
            self._desk.tell(run, self._said_before(run))

    def _said_before(self, run: Run) -> Action:
        """Return what a trial was told at a result that it waits at once more."""
        if run.delivered < run.trial.iteration:
            return Action.CONTINUE
        if run.parking is not None:
            return Action.PAUSE
        return Action.SAVE if run.saving == run.delivered else Action.CONTINUE

    def _is_deaf(self, run: Run) -> bool:
        """Tell whether what a trial delivers is of no interest any more: it was told to end."""
        if run.ending is None and run.imposed is None:
            return False
        cut_short = self.state.ending in {EndReason.STOPPER, EndReason.FAIL_FAST} and self.state.rules.ordered
        return run.ending is not EndCause.SWEEP or cut_short

    def _drop(self, run: Run, reports: list[Reported]) -> None:
        for report in reports:
            if report.checkpoint is not None and not self._vault.knows(run.trial, report.checkpoint.name):
                self._vault.discard(run.trial, report.checkpoint)

    def _accept(self, run: Run, arrived: Arrived) -> None:
        self._desk.record(arrived, run.trial.index)
        self._advice.moment = 0
        event, now = arrived.event, arrived.now
        match event:
            case TrialReported():
                run.delivered = run.arrived = arrived.first - 1 + len(event.reports)
                run.saving = 0  # what a trial saves when it is told to comes before its next result
                if self.state.rules.ordered and self.state.ending in {None, EndReason.INTERRUPTED}:
                    for report in event.reports:
                        self._deliver(run, Delivery(now, report))
                else:
                    self._handle_results(run, arrived.first, event.reports, now)
            case TrialStarted():
                run.trial.pid, run.trial.hostname = event.pid, event.hostname
            case TrialSaved():
                run.saving = 0
                if self._is_buffered(run):
                    run.saved.append(event.checkpoint)
                else:
                    self._vault.add(run, event.checkpoint)
            case _:
                self._accept_end(run, event, now)
        self._drain()

    def _is_buffered(self, run: Run) -> bool:
        return self.state.order.waits_for(run.trial.index)

    def _accept_end(self, run: Run, event: TrialReturned | TrialPaused | TrialFailed, now: float) -> None:
        interrupted = self.state.ending is EndReason.INTERRUPTED
        if interrupted and run.ending is EndCause.SWEEP and not self._ended_by_itself(run, event):
            self._unpack_saved(run)
            self._endings.suspend(run, now)
            self._advance(now)
        elif not self._is_buffered(run):
            self._handle_end(run, event, now)
        else:
            self._deliver(run, Delivery(now, event))
            if interrupted:
                self._desk.places.give_back(run.trial.trial_id)
                self._advance(now)

    def _ended_by_itself(self, run: Run, event: TrialReturned | TrialPaused | TrialFailed) -> bool:
        """Tell whether a trial of an interrupted sweep had come to its end anyway."""
        if not isinstance(event, TrialReturned) or not event.stopped:
            return isinstance(event, TrialReturned)
        results = [delivery.thing.result for delivery in self._buffered(run) if isinstance(delivery.thing, Reported)]
        return StopRule(self.state.rules.stop_bounds).holds(results[-1] if results else run.trial.last_result)

    def _buffered(self, run: Run) -> Sequence[Delivery]:
        return self.state.order.buffered(run.trial.index)

    def _unpack_saved(self, run: Run) -> None:
        saved, run.saved = run.saved, []
        for record in saved:
            self._vault.add(run, record)

    def _deliver(self, run: Run, delivery: Delivery) -> None:
        if run.saved:
            delivery.saved, run.saved = run.saved, []
        self.state.order.push(run.trial.index, delivery)

    def _drain(self) -> None:
        """Handle what can be handled in virtual order. Interrupted, the order stands still until the sweep goes on."""
        state = self.state
        while state.ending is None and (popped := state.order.pop()) is not None:
            index, delivery = popped
            run = state.runs[state.trials[index].trial_id]
            self._unpack(run, delivery)

    def _unpack(self, run: Run, delivery: Delivery) -> None:
        for record in delivery.saved:
            self._vault.add(run, record)
        if isinstance(delivery.thing, Reported):
            self._handle_results(run, run.trial.iteration + 1, [delivery.thing], delivery.now)
        else:
            self.state.order.close(run.trial.index)
            self._handle_end(run, delivery.thing, delivery.now)

    # -- steps

    def _handle_end(self, run: Run, event: TrialReturned | TrialPaused | TrialFailed, now: float) -> None:
        match event:
            case TrialReturned():
                self._endings.returned(run, event.stopped, now)
            case TrialPaused():
                self._endings.paused(run, now)
            case TrialFailed():
                self._endings.failed(run, event.failure, now)
        self._advance(now)
        self._advice.moment += 1

    def _handle_results(self, run: Run, first: int, reports: list[Reported], now: float) -> None:
        trial, advice = run.trial, self._advice
        for iteration, report in enumerate(reports, first):
            if self._is_deaf(run):
                self._drop(run, reports[iteration - first :])
                self._endings.cut(run)
                return
            trial.last_result = report.result
            trial.iteration = iteration
            self._desk.hook("on_trial_result", trial, report.result)
            if report.checkpoint is not None:
                self._vault.add(run, report.checkpoint)
            decision = self._judge(run)
            waiting = run.waiting == iteration
            if waiting:
                run.waiting = 0
            if decision is not CONTINUE or waiting:
                self._follow(run, decision, waiting)
            if self.state.ending is None and advice.stopper is not None and advice.stops_all():
                self._end(EndReason.STOPPER, now)
            if decision is not CONTINUE or self._placing.loose or advice.peek() is not None:
                self._advance(now)
            advice.moment += 1

    def _judge(self, run: Run) -> Decision:
        """Have the last result judged by all who have a say; in an ending sweep nobody has."""
        if self.state.ending is not None:
            return CONTINUE
        trial = run.trial
        seen = self._desk.judge.judge(trial.last_result)
        if isinstance(seen, TrialFailure):
            run.imposed = seen
            return Stop()
        decision: Decision = CONTINUE
        if seen is not None:
            decision = self._advice.decide(trial, seen, self._desk.view())
        if self._advice.stopper is not None and self._advice.stops(trial, trial.last_result):
            run.ending = EndCause.STOPPER
            return Stop()
        return decision

    def _follow(self, run: Run, decision: Decision, waiting: bool) -> None:
        """Tell a trial what was decided."""
        if run.ending is EndCause.SWEEP:
            self._desk.tell(run, Action.STOP)
        elif isinstance(decision, Stop):
            run.ending = run.ending or EndCause.SCHEDULER
            run.parking = None
            self._endings.stop(run)
        elif run.parking is not None:
            self._desk.tell(run, Action.PAUSE)
        elif isinstance(decision, Pause | Resize):
            run.parking = decision
            self._desk.tell(run, Action.PAUSE)
        elif isinstance(decision, Exploit) and self._endings.exploit(run, decision):
            self._desk.tell(run, Action.PAUSE)
        elif waiting or (isinstance(decision, Continue) and decision.save):
            save = isinstance(decision, Continue) and decision.save
            run.saving = run.trial.iteration if save and run.arrived == run.trial.iteration else 0
            self._desk.tell(run, Action.SAVE if save else Action.CONTINUE)

    def _advance(self, now: float) -> None:
        if self.state.culprit is not None and self.state.ending is None:
            self._end(EndReason.FAIL_FAST, now)
        self._placing.advance(now)
        if self.state.culprit is not None and self.state.ending is None:
            self._end(EndReason.FAIL_FAST, now)

    # -- the end of the sweep

    def _end(self, reason: EndReason, now: float) -> None:
        """Give no place away any more, and tell everybody to end."""
        state = self.state
        if state.ending is not None:
            return
        state.ending, state.kill_at, state.killed = reason, now + GRACE, False
        for run in [run for run in state.runs.values() if run.phase is Phase.ACTIVE]:
            if run.ending is None:
                run.ending = EndCause.SWEEP
            self._desk.tell(run, Action.STOP)
            if reason is not EndReason.INTERRUPTED:
                self._settle_lane(run, reason)
        self._advance(now)

    def _settle_lane(self, run: Run, reason: EndReason) -> None:
        """Handle what waits for its turn in virtual order: there will be no other turn."""
        deliveries = self.state.order.close(run.trial.index)
        self._unpack_saved(run)
        if reason is not EndReason.TIME_BUDGET and deliveries:
            self._drop(run, [delivery.thing for delivery in deliveries if isinstance(delivery.thing, Reported)])
            deliveries = [delivery for delivery in deliveries if not isinstance(delivery.thing, Reported)]
            self._endings.cut(run)
            if deliveries:
                end = TrialReturned(run.trial.trial_id, run.trial.attempts, stopped=True)
                deliveries = [Delivery(deliveries[0].now, end, deliveries[0].saved)]
        for delivery in deliveries:
            self._unpack(run, delivery)

    def _press(self, now: float) -> bool:
        """Kill what has not ended; in the end do not wait for it any more."""
        state = self.state
        if now < state.kill_at:
            return False
        active = [run for run in state.runs.values() if run.trial.trial_id in self._desk.places]
        if not state.killed:
            state.killed = True
            state.kill_at = now + _LAST_WAIT
            self._desk.out.extend(Kill(run.trial.trial_id) for run in active)
            return True
        for run in active:
            self._desk.warn(f"{run.trial} could not be ended")
            self._handle_end(run, TrialReturned(run.trial.trial_id, run.trial.attempts, stopped=True), now)
        return True

    def validate(self) -> None:
        """Check every invariant; for tests."""
        state = self.state
        assert list(state.by_id) == [trial.trial_id for trial in state.trials]
        assert [trial.index for trial in state.trials] == list(range(len(state.trials)))
        assert list(state.runs) == list(state.live)
        assert [run.trial.index for run in state.runs.values()] == sorted(
            run.trial.index for run in state.runs.values()
        )
        for trial in state.trials:
            assert trial.status.finished != (trial.trial_id in state.runs), trial
        for trial_id, run in state.runs.items():
            assert (run.phase is Phase.PENDING) == (trial_id in state.pending), run
            assert (run.phase is Phase.RETURNING) == (trial_id in state.returning), run
            assert run.trial.iteration <= run.arrived, run
            if run.origin is not None:
                owner = state.by_id[run.origin.owner_id]
                assert self._vault.knows(owner, run.origin.name), (run, owner)
        state.order.validate()
