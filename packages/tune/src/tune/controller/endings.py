"""How attempts and trials end: well, badly and for good, badly and tried again, paused, put on the shelf."""

from __future__ import annotations

from tune.controller.desk import Desk
from tune.controller.records import Cut
from tune.controller.state import Phase, Run
from tune.controller.vault import Vault, origin_of
from tune.messages import Action, Reported, StopRule
from tune.result import TIME_TOTAL_S
from tune.schedulers.base import Exploit, Resize
from tune.trial import EndCause, FailureKind, TrialFailure, TrialStatus

#: what may be tried again: the same would come of the others
_WORTH_ANOTHER_TRY = frozenset({FailureKind.RAISED, FailureKind.DIED, FailureKind.OUT_OF_MEMORY})
_STATUS = {
    FailureKind.TIMEOUT: TrialStatus.TIMEOUT,
    FailureKind.OUT_OF_MEMORY: TrialStatus.OUT_OF_MEMORY,
}


class Endings:
    """Ends attempts and trials."""

    def __init__(self, desk: Desk, vault: Vault) -> None:
        self._desk = desk
        self._state = desk.state
        self._vault = vault

    # -- ends of attempts, as the trial's process reports them

    def returned(self, run: Run, stopped: bool, now: float) -> None:
        """The attempt ended without an error."""
        self._over(run, now)
        if run.imposed is not None:
            self.fail_for_good(run, run.imposed, now)
            return
        cause = self._cause(run, stopped)
        if cause is EndCause.SWEEP:
            self._put_aside(run, now)
        elif run.trial.iteration == 0 and run.ending is None and (failure := self._desk.judge.silence()):
            self.fail_for_good(run, failure, now)
        else:
            self.complete(run, cause, now)

    def _cause(self, run: Run, stopped: bool) -> EndCause:
        if not stopped:
            return EndCause.RETURNED
        bounds = StopRule(self._state.rules.stop_bounds)
        if run.ending is None or (run.ending is EndCause.SWEEP and bounds.holds(run.trial.last_result)):
            return EndCause.BOUND
        return run.ending

    def paused(self, run: Run, now: float) -> None:
        """The attempt gave its process back."""
        self._over(run, now)
        if run.ending is not None:
            # Told to pause, and then to end before it had.
            self.complete(run, run.ending, now) if run.ending is not EndCause.SWEEP else self._put_aside(run, now)
            return
        self._settle(run)

    def failed(self, run: Run, failure: TrialFailure, now: float) -> None:
        """The attempt ended badly."""
        self._over(run, now)
        state = self._state
        if run.ending is not None and run.imposed is None:
            if run.ending is EndCause.SWEEP:
                self._put_aside(run, now)
            else:
                self._desk.warn(f"{run.trial} failed when it was told to end: {failure.error_type}: {failure.message}")
                self.complete(run, run.ending, now)
            return
        failure = run.imposed or failure
        limit = state.rules.max_failures
        again = failure.kind in _WORTH_ANOTHER_TRY and (limit < 0 or run.failed < limit) and not state.rules.fail_fast
        if not again:
            self.fail_for_good(run, failure, now)
            return
        run.failed += 1
        run.trial.failures.append(failure)
        self._desk.hook("on_trial_recover", run.trial)
        if run.parking is None:
            self.send_back(run)
        else:
            self._settle(run)

    def _over(self, run: Run, now: float) -> None:
        self._desk.places.give_back(run.trial.trial_id)
        run.trial.run_time += max(0.0, now - run.started)
        run.waiting = run.saving = 0

    def _settle(self, run: Run) -> None:
        """Do what the trial was paused for."""
        parking, run.parking = run.parking, None
        if isinstance(parking, Exploit):
            self._reconfigure(run, parking)
            self.send_back(run)
        elif isinstance(parking, Resize):
            run.trial.resources = parking.resources
            self.send_back(run)
        else:
            self.pause(run)

    # -- what becomes of the trial

    def complete(self, run: Run, cause: EndCause, now: float) -> None:
        """The trial ends well."""
        trial = run.trial
        trial.status, trial.ended_by = TrialStatus.TERMINATED, cause
        self._remove(run, now)
        self._desk.advice.complete(trial, self._desk.learnable(trial), own_point=not run.estranged)
        self._desk.hook("on_trial_complete", trial)

    def fail_for_good(self, run: Run, failure: TrialFailure, now: float) -> None:
        """The trial ends in an error."""
        trial = run.trial
        trial.failures.append(failure)
        trial.status = _STATUS.get(failure.kind, TrialStatus.ERROR)
        self._remove(run, now)
        self._desk.advice.error(trial, own_point=not run.estranged)
        self._desk.hook("on_trial_error", trial)
        if self._state.rules.fail_fast and self._state.culprit is None:
            self._state.culprit = failure

    def pause(self, run: Run) -> None:
        """The trial waits until the scheduler takes it up again."""
        run.phase, run.trial.status = Phase.PAUSED, TrialStatus.PAUSED
        if not run.estranged:
            self._desk.advice.pause(run.trial)
        self._state.order.close(run.trial.index)
        if run.origin is None and run.trial.iteration:
            self._desk.warn(
                f"{run.trial} was paused without a checkpoint, so it will begin anew when it goes on (results that it "
                "repeats are not counted again); call tune.report(..., checkpoint=...) to save that time"
            )

    def send_back(self, run: Run) -> None:
        """The trial goes on as soon as there is a place, before any other."""
        if run.phase is Phase.PAUSED and not run.estranged:
            self._desk.advice.unpause(run.trial)
        run.phase, run.trial.status = Phase.RETURNING, TrialStatus.PENDING
        if run.trial.trial_id not in self._state.returning:
            self._state.returning.append(run.trial.trial_id)

    def _put_aside(self, run: Run, now: float) -> None:
        """The sweep ended the trial. Nobody is told, because it goes on as if nothing had been if the sweep does."""
        trial = run.trial
        run.ending = None
        if run.parking is not None:
            self._settle(run)
            return
        trial.status, trial.ended_by = TrialStatus.TERMINATED, EndCause.SWEEP
        self._state.shelved[trial.trial_id] = run
        self._remove(run, now)
        self._desk.hook("on_trial_complete", trial)

    def suspend(self, run: Run, now: float) -> None:
        """The attempt ended because the sweep is interrupted: the books stay as they are, as if the driver had died."""
        self._over(run, now)
        run.ending = None
        run.trial.status = TrialStatus.PENDING

    def stop(self, run: Run) -> None:
        """Tell a trial to end, and forget what it has delivered since the result that decided it."""
        self._desk.tell(run, Action.STOP)
        trial, order = run.trial, self._state.order
        if not order.waits_for(trial.index):
            return
        dropped = order.forget(trial.index)
        for delivery in dropped:
            if not isinstance(delivery.thing, Reported):
                order.push(trial.index, delivery)
            elif delivery.thing.checkpoint is not None:
                self._vault.discard(trial, delivery.thing.checkpoint)
        if dropped:
            self.cut(run)

    def exploit(self, run: Run, decision: Exploit) -> bool:
        """Take hold of the donor's checkpoint; return whether there is one. The configuration follows in a pause."""
        trial = run.trial
        donor = self._state.by_id[decision.donor_id]
        if donor is not trial:
            if donor.checkpoint is None:
                self._desk.warn(
                    f"{trial} cannot go on from {donor}, which has no checkpoint; call tune.report(..., checkpoint=...)"
                )
                return False
            time_total_s = trial.last_result.get(TIME_TOTAL_S, 0.0)
            self._vault.set_donor(run, origin_of(donor, donor.checkpoint, trial.iteration, time_total_s))
        if run.phase is Phase.PAUSED:
            self._reconfigure(run, decision)
        else:
            run.parking = decision
        return True

    def _reconfigure(self, run: Run, decision: Exploit) -> None:
        run.trial.config = decision.config
        run.trial.tags = {**run.trial.tags, **decision.tags}
        if run.donor is not None:
            self._vault.set_origin(run, run.donor)
            self._vault.set_donor(run, None)

    def cut(self, run: Run) -> None:
        """Results of the trial that were not handled do not count; should it go on, it delivers them again."""
        run.arrived = run.trial.iteration
        self._desk.record(Cut(run.trial.trial_id, run.trial.iteration), run.trial.index)

    def _remove(self, run: Run, now: float) -> None:
        trial, state = run.trial, self._state
        trial.end_time = now
        state.runs.pop(trial.trial_id, None)
        state.live.pop(trial.trial_id, None)
        for queue in (state.pending, state.returning):
            if trial.trial_id in queue:
                queue.remove(trial.trial_id)
        state.order.close(trial.index)
        self._vault.set_donor(run, None)
        if trial.trial_id not in state.shelved:
            self._vault.set_origin(run, None)
        self._vault.prune(trial)
