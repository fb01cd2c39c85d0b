"""Free places: what is done with paused trials, who goes on, who begins, and when the sweep is over."""

from __future__ import annotations

from tune.controller.advice import NewTrial
from tune.controller.creation import trial_id_of
from tune.controller.desk import Desk
from tune.controller.endings import Endings
from tune.controller.instructions import Finish, Start
from tune.controller.outcome import EndReason
from tune.controller.records import Closed, Created, Ended, Exhausted, Infeasible, Launched, Resumed
from tune.controller.state import Phase, Run
from tune.schedulers.base import Exploit, Resize, Resume, Stop
from tune.search.base import FINISHED
from tune.trial import EndCause, FailureKind, Trial, TrialFailure, TrialStatus


class Placing:
    """Gives places away."""

    def __init__(self, desk: Desk, endings: Endings) -> None:
        self._desk = desk
        self._state = desk.state
        self._advice = desk.advice
        self._endings = endings
        #: whether a mere result may make the scheduler do something: a place is free, or a trial is paused
        self.loose = True

    def advance(self, now: float) -> None:
        """After a step: give directives and free places, and end the sweep if nothing can come any more."""
        if self._state.ending is None:
            self._direct(now)
            if self._desk.replaying:
                self._repeat(now)
            else:
                self._fill(now)
        self._check_end(now)

    # -- paused trials

    def _direct(self, now: float) -> None:
        state = self._state
        if not any(run.phase is Phase.PAUSED for run in state.runs.values()):
            return
        for trial_id, decision in self._advice.directives(self._desk.view()):
            run = state.runs.get(trial_id)
            if run is None or run.phase is not Phase.PAUSED:
                raise ValueError(f"the scheduler decided {decision} about {trial_id}, which is not paused")
            if isinstance(decision, Stop):
                self._endings.complete(run, EndCause.SCHEDULER, now)
            elif isinstance(decision, Exploit):
                self._endings.exploit(run, decision)
            elif isinstance(decision, Resize):
                run.trial.resources = decision.resources

    # -- places, while the sweep runs

    def _fill(self, now: float) -> None:
        state = self._state
        self.loose = True
        while state.returning:
            first = state.runs[state.returning[0]]
            if not self._may_launch(first, now):
                return
            self._record_launch(first, Launched(self._advice.moment, first.trial.trial_id), now)
        starved = False
        while self._is_room():
            choice = self._advice.choose(self._desk.view(starved=starved))
            if choice is None:
                return
            if isinstance(choice, Resume):
                self._take_up(choice.trial_id, starved, now)
                continue
            waited = bool(state.pending)
            run: Run | None = state.runs[state.pending[0]] if waited else self._create()
            if run is None:
                if starved:
                    return
                starved = True
            elif self._may_launch(run, now):
                self._record_launch(run, Launched(self._advice.moment, run.trial.trial_id, chosen=waited), now)
            elif run.phase is Phase.PENDING and (run.trial.trial_id in state.runs or state.wanted is None):
                return
        self.loose = any(run.phase is Phase.PAUSED for run in state.runs.values())

    def _is_room(self) -> bool:
        """Tell whether there is room for the next trial, as far as one can know what it will ask for."""
        state, places = self._state, self._desk.places
        if not state.trials:
            return True
        request = state.by_id[state.pending[0]].resources if state.pending else state.trials[-1].resources
        return places.fits(request) if places.feasible(request) else not len(places)

    def _may_launch(self, run: Run, now: float) -> bool:
        """Tell whether there is room for a trial. One that no room will ever do for fails."""
        request = run.trial.resources
        if self._desk.places.feasible(request):
            return self._desk.places.fits(request)
        message = (
            f"the trial needs {request.total}, and the cluster has nowhere that much: {dict(self._desk.view().cluster)}"
        )
        self._desk.record(Infeasible(self._advice.moment, run.trial.trial_id, message), run.trial.index)
        self._refuse(run, message, now)
        return False

    def _refuse(self, run: Run, message: str, now: float) -> None:
        failure = TrialFailure(FailureKind.INFEASIBLE, "InfeasibleResources", message)
        self._endings.fail_for_good(run, failure, now)

    def _create(self) -> Run | None:
        state = self._state
        if state.exhausted:
            return None
        created = self._advice.create(self._next_id(), len(state.trials))
        if created is FINISHED:
            self._desk.record(Exhausted(self._advice.moment))
            state.exhausted = True
        if not isinstance(created, NewTrial):
            return None
        return self._enter(created.trial, estranged=created.overridden)

    def _enter(self, trial: Trial, *, estranged: bool) -> Run:
        """Enter a new trial in the books."""
        state = self._state
        run = Run(trial, estranged=estranged)
        state.trials.append(trial)
        state.by_id[trial.trial_id] = trial
        state.runs[trial.trial_id] = run
        state.live[trial.trial_id] = trial
        state.pending.append(trial.trial_id)
        state.exhausted = state.exhausted or len(state.trials) == state.wanted
        return run

    def _take_up(self, trial_id: str, starved: bool, now: float) -> None:
        run = self._state.runs.get(trial_id)
        if run is None or run.phase is not Phase.PAUSED:
            raise ValueError(f"the scheduler chose to go on with {trial_id}, which is not paused")
        self._desk.record(Resumed(self._advice.moment, trial_id, starved), run.trial.index)
        self._endings.send_back(run)
        if self._may_launch(run, now):
            self._record_launch(run, Launched(self._advice.moment, trial_id), now)

    def _record_launch(self, run: Run, record: Launched, now: float) -> None:
        self._desk.record(record, run.trial.index)
        self._launch(run, now)

    def _launch(self, run: Run, now: float) -> None:
        state, trial = self._state, run.trial
        for queue in (state.pending, state.returning):
            if trial.trial_id in queue:
                queue.remove(trial.trial_id)
        trial.attempts += 1
        trial.status = TrialStatus.RUNNING
        trial.start_time = now if trial.start_time is None else trial.start_time
        run.phase, run.started, run.waiting = Phase.ACTIVE, now, 0
        run.delivered = run.origin.iteration if run.origin is not None else 0
        self._desk.places.take(trial.trial_id, trial.resources)
        if state.rules.ordered:
            state.order.open(trial.index)
        sync = self._desk.sync(run)
        self._desk.out.append(Start(trial, trial.attempts, trial.config, trial.resources, run.origin, sync))
        self._desk.hook("on_trial_start", trial)
        if run.origin is not None:
            self._desk.hook("on_trial_restore", trial)

    # -- places, while the journal is read back

    def _repeat(self, now: float) -> None:
        while (said := self._advice.peek()) is not None:
            match said:
                case Created():
                    self._repeat_creation(said)
                case Exhausted():
                    self._state.exhausted = True
                case Launched():
                    self._advice.repeat_choice(said, self._desk.view())
                    self._launch(self._state.runs[said.trial_id], now)
                case Resumed():
                    self._advice.repeat_choice(said, self._desk.view(starved=said.starved))
                    self._endings.send_back(self._state.runs[said.trial_id])
                case Infeasible():
                    self._refuse(self._state.runs[said.trial_id], said.message, now)
                case _:
                    return
            self._advice.take()

    def _next_id(self) -> str:
        return trial_id_of(self._state.rules.trial_prefix, len(self._state.trials))

    def _repeat_creation(self, said: Created) -> None:
        trial = Trial(
            trial_id=said.trial_id,
            index=len(self._state.trials),
            config=said.config,
            evaluated_params=said.evaluated_params,
            dirname=said.dirname,
            name=said.name,
            experiment_dir=self._desk.experiment_dir,
            resources=said.resources,
            seed=said.seed,
        )
        differs = self._advice.recreate(said, trial, self._desk.view())
        self._enter(trial, estranged=differs or said.overridden)

    # -- the end

    def _check_end(self, now: float) -> None:
        """See whether the sweep is over: nothing runs, and nothing is to come or may."""
        state = self._state
        if len(self._desk.places) or state.finished:
            return
        if state.ending is None:
            if state.returning or state.pending or not state.exhausted:
                return
            if state.runs and not self._close(now):
                return
        reason = state.ending or EndReason.COMPLETE
        state.finished = True
        self._desk.record(Ended(now, reason.value))
        self._desk.out.append(Finish(reason, state.culprit))

    def _close(self, now: float) -> bool:
        """End paused trials that the scheduler has left lying. It has been asked, and nothing will happen any more."""
        if self._desk.replaying:
            if not isinstance(self._advice.peek(), Closed):
                return False
            self._advice.take()
        else:
            self._desk.record(Closed(self._advice.moment))
        for run in list(self._state.runs.values()):
            self._endings.complete(run, EndCause.SCHEDULER, now)
        return True
