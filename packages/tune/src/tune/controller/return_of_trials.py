"""What becomes of the trials of an earlier driver when another one goes on with the sweep."""

from __future__ import annotations

from tune.controller.desk import Desk
from tune.controller.endings import Endings
from tune.controller.records import Began, Cut
from tune.controller.state import Delivery, Phase, Run
from tune.controller.vault import Vault, origin_of
from tune.messages import Reported, StopRule, TrialPaused, TrialReturned
from tune.trial import EndCause, Trial, TrialStatus

RESUME, RESTART, SKIP = "RESUME", "RESTART", "SKIP"


class ReturnOfTrials:
    """Applies the beginning of a driver to the books."""

    def __init__(self, desk: Desk, vault: Vault, endings: Endings) -> None:
        self._desk = desk
        self._state = desk.state
        self._vault = vault
        self._endings = endings

    def begin(self, began: Began) -> None:
        """Set the books to the new driver's rules, and every trial to where it goes on."""
        state = self._state
        self._desk.use(began.rules)
        state.began, state.ending, state.finished, state.culprit = began.now, None, False, None
        self._set_wanted(began)
        self._desk.advice.notice_advisers()
        state.returning.clear()
        for run in [run for run in state.runs.values() if run.phase in {Phase.ACTIVE, Phase.RETURNING}]:
            self._end_attempt(run, began.now)
        for trial_id, action in began.actions.items():
            self._apply(state.by_id[trial_id], action, began.now)
        for trial_id in began.promoted:
            self._revive(state.by_id[trial_id], Phase.PAUSED)
        self._sort()

    def _set_wanted(self, began: Began) -> None:
        state, rules = self._state, began.rules
        state.wanted = rules.total_samples
        if state.wanted is None and rules.num_samples >= 0:
            state.wanted = rules.num_samples
        if began.extra_samples or began.space_changed:
            state.exhausted = False
        state.exhausted = state.exhausted or (state.wanted is not None and len(state.trials) >= state.wanted)

    def _end_attempt(self, run: Run, now: float) -> None:
        """The attempt is over, if one was under way: its process ended with its driver."""
        trial, order = run.trial, self._state.order
        if run.phase is Phase.ACTIVE and any(map(_is_end, order.buffered(trial.index))):
            # It had ended before. Its turn comes, and until then its place is not free.
            self._desk.places.take(trial.trial_id, trial.resources)
            return
        run.waiting = 0
        end: TrialReturned | TrialPaused
        if run.phase is Phase.ACTIVE and (run.imposed is not None or run.ending not in {None, EndCause.SWEEP}):
            end = TrialReturned(trial.trial_id, trial.attempts, stopped=True)
        elif run.phase is Phase.ACTIVE and run.parking is not None and not self._must_pause_again(run):
            end = TrialPaused(trial.trial_id, trial.attempts)
        else:
            run.ending = None
            self._endings.send_back(run)
            return
        run.ending = None if run.ending is EndCause.SWEEP else run.ending
        if order.waits_for(trial.index):
            saved, run.saved = run.saved, []
            order.push(trial.index, Delivery(now, end, saved))
            self._desk.places.take(trial.trial_id, trial.resources)
        elif isinstance(end, TrialReturned):
            self._endings.returned(run, True, now)
        else:
            self._endings.paused(run, now)

    def _must_pause_again(self, run: Run) -> bool:
        """Tell whether a trial that was about to pause runs up to there again, to save what it would have saved.

        Virtual order wants that: whether there is a checkpoint may decide what becomes of other trials.
        """
        saved = run.origin is not None and run.origin.iteration >= run.trial.iteration
        return self._state.rules.ordered and not saved

    def _apply(self, trial: Trial, action: str, now: float) -> None:
        state = self._state
        run = state.runs.get(trial.trial_id)
        if run is None and trial.trial_id in state.shelved:
            run = self._unshelve(trial)
        if action == SKIP:
            if run is not None:
                self._endings.complete(run, EndCause.SWEEP, now)
            return
        if run is None:
            run = self._revive(trial, Phase.RETURNING)
        if action == RESTART:
            self._restart(run)

    def _unshelve(self, trial: Trial) -> Run:
        run = self._state.shelved.pop(trial.trial_id)
        self._enter(run)
        self._endings.send_back(run)
        return run

    def _revive(self, trial: Trial, phase: Phase) -> Run:
        """Go on with a trial that had ended, from its newest checkpoint."""
        self._state.shelved.pop(trial.trial_id, None)
        run = Run(trial, arrived=trial.iteration, estranged=True)
        if trial.checkpoint is not None:
            run.origin = origin_of(trial, trial.checkpoint, trial.checkpoint.iteration)
        self._enter(run)
        if phase is Phase.PAUSED:
            self._endings.pause(run)
        else:
            self._endings.send_back(run)
            self._desk.advice.introduce_again(trial)
        return run

    def _enter(self, run: Run) -> None:
        trial, state = run.trial, self._state
        trial.ended_by = trial.end_time = None
        state.runs[trial.trial_id] = run
        state.live[trial.trial_id] = trial

    def _restart(self, run: Run) -> None:
        """Begin anew, as if it had never run."""
        trial = run.trial
        self._state.order.close(trial.index)
        self._vault.set_origin(run, None)
        self._vault.set_donor(run, None)
        self._vault.clear(trial)
        trial.iteration, trial.last_result, trial.failures = 0, {}, []
        run.arrived = run.delivered = run.failed = run.saving = 0
        run.parking = run.imposed = run.ending = None
        run.saved = []
        if run.phase is not Phase.PENDING:
            self._endings.send_back(run)
        self._desk.record(Cut(trial.trial_id, 0), trial.index)

    def _sort(self) -> None:
        """Put everything back into the order of creation."""
        state = self._state
        for mapping in (state.runs, state.live):
            entries = sorted(mapping.items(), key=lambda entry: state.by_id[entry[0]].index)
            mapping.clear()
            mapping.update(entries)  # type: ignore[arg-type]  # each its own kind of value
        ids = sorted(state.returning, key=lambda trial_id: state.by_id[trial_id].index)
        state.returning.clear()
        state.returning.extend(ids)


def _is_end(delivery: Delivery) -> bool:
    return not isinstance(delivery.thing, Reported)


def actions_for(
    trials: list[Trial], *, finished: str, unfinished: str, errored: str, stop_bounds: dict[str, float]
) -> dict[str, str]:
    """Return what a resuming driver wants with each trial, where it wants something.

    A trial that ended at a bound which is not reached any more (it was raised since) goes on if it can.
    """
    actions: dict[str, str] = {}
    for trial in trials:
        if not trial.status.finished or trial.ended_by is EndCause.SWEEP:
            action = unfinished
        elif trial.status.errored:
            action = errored
        elif finished == SKIP and trial.ended_by is EndCause.BOUND:
            action = RESUME if _may_go_on(trial, stop_bounds) else SKIP
        else:
            action = finished
        if action != SKIP or not trial.status.finished or trial.ended_by is EndCause.SWEEP:
            actions[trial.trial_id] = action
    return actions


def _may_go_on(trial: Trial, stop_bounds: dict[str, float]) -> bool:
    reached = StopRule(stop_bounds).holds(trial.last_result)
    return trial.status is TrialStatus.TERMINATED and trial.checkpoint is not None and not reached
