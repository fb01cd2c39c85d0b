"""Those who decide: searcher, scheduler and stopper, behind a record of their answers.

While the sweep runs, they are asked and their answers are recorded. When the journal is replayed, they are asked the
same questions again, so that they get into the state they were in, but the recorded answers hold: a searcher that
answers differently today (no seed, a changed library) cannot change what has happened. It is told once in a warning.
With nobody to ask (reading somebody else's experiment) the record alone answers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import msgspec

from tune.controller import codec
from tune.controller.creation import TrialMaker
from tune.controller.records import (
    Answer,
    Created,
    Decided,
    Directed,
    Launched,
    Record,
    Resumed,
    Stopped,
    StoppedAll,
)
from tune.messages import Sync
from tune.schedulers.base import (
    CONTINUE,
    WAIT,
    Continue,
    Decision,
    Exploit,
    New,
    Pause,
    Resize,
    Resume,
    Stop,
    TrialScheduler,
    View,
)
from tune.search.base import Searcher, _Finished
from tune.stopper.base import Stopper
from tune.trial import Config, Result, Trial

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)

_EVERY = Sync(every=True)


class NewTrial(msgspec.Struct, frozen=True):
    """A trial of a new configuration."""

    trial: Trial
    #: the scheduler changed the searcher's configuration
    overridden: bool


class Advice:
    """Asks, records, and answers from the record.

    Args:
        searcher: None if there is nobody to ask, and so for the others.
        scheduler: as above.
        stopper: None also if the sweep has none.
        maker: makes trials of the searcher's configurations.
    """

    def __init__(
        self,
        searcher: Searcher | None,
        scheduler: TrialScheduler | None,
        stopper: Stopper | None,
        maker: TrialMaker | None,
    ) -> None:
        self.searcher = searcher
        self.scheduler = scheduler
        self.stopper = stopper
        self._maker = maker
        #: answers left of the input that is being replayed; None while the sweep runs
        self.script: deque[Answer] | None = None
        #: steps done for the current input
        self.moment = 0
        #: takes answers down
        self.record: Callable[[Record, int], None] = lambda _record, _index: None
        #: whom the current question is put to: for the message if he raises
        self.asking = ""
        #: what the user should know, once
        self.warnings: list[str] = []
        self.notice_advisers()

    def notice_advisers(self) -> None:
        """Find out who has something to say about results; called when an adviser was replaced."""
        self._scheduler_judges = self.scheduler is not None and (
            type(self.scheduler).on_trial_result is not TrialScheduler.on_trial_result
        )
        self._searcher_listens = self.searcher is not None and (
            type(self.searcher).on_trial_result is not Searcher.on_trial_result
        )

    # -- results

    def sync(self, trial: Trial) -> Sync:
        """Say at which of its next results a trial waits."""
        if self.stopper is not None and self.stopper.bounds() is None:
            return _EVERY
        return self.scheduler.sync(trial) if self.scheduler is not None else Sync()

    def decide(self, trial: Trial, result: Result, view: View) -> Decision:
        """Ask what a trial does after a result."""
        if self._searcher_listens and self.searcher is not None:
            self.asking = "search algorithm's on_trial_result"
            self.searcher.on_trial_result(trial.trial_id, result)
        decision: Decision = CONTINUE
        if self._scheduler_judges and self.scheduler is not None:
            self.asking = "scheduler's on_trial_result"
            decision = self.scheduler.on_trial_result(trial, result, view)
        if self.script is not None:
            said = self._next(Decided)
            return decision_of(said) if said is not None else CONTINUE
        if decision is not CONTINUE and decision != CONTINUE:
            if not isinstance(decision, Decision):
                raise TypeError(
                    f"{type(self.scheduler).__name__} answered {decision!r} to a result: a scheduler answers CONTINUE, "
                    "STOP or another Decision of tune.schedulers.base, to (trial, result, view)"
                )
            self.record(record_of(self.moment, trial.trial_id, decision), trial.index)
        return decision

    def stops(self, trial: Trial, result: Result) -> bool:
        """Ask whether the stopper ends a trial."""
        self.asking = "stopper"
        ends = bool(self.stopper(trial.trial_id, result)) if self.stopper is not None else False
        if self.script is not None:
            return self._next(Stopped) is not None
        if ends:
            self.record(Stopped(self.moment, trial.trial_id), trial.index)
        return ends

    def stops_all(self) -> bool:
        """Ask whether the stopper ends the sweep."""
        if self.script is not None:
            return self._next(StoppedAll) is not None
        self.asking = "stopper's stop_all"
        ends = self.stopper is not None and bool(self.stopper.stop_all())
        if ends:
            self.record(StoppedAll(self.moment), -1)
        return ends

    # -- ends

    def complete(self, trial: Trial, seen: Result | None, *, own_point: bool) -> None:
        """Tell of a trial that ended well.

        Args:
            trial: it.
            seen: its last result, None if there is nothing to learn from it.
            own_point: whether the searcher knows this configuration by the trial's id, and has not been told of its end
                before.
        """
        self.asking = "scheduler's on_trial_complete"
        if self.scheduler is not None:
            self.scheduler.on_trial_complete(trial, seen or {})
        self._tell_searcher(trial, seen, own_point)

    def error(self, trial: Trial, *, own_point: bool) -> None:
        """Tell of a trial that failed for good."""
        self.asking = "scheduler's on_trial_error"
        if self.scheduler is not None:
            self.scheduler.on_trial_error(trial)
        self._tell_searcher(trial, None, own_point)

    def pause(self, trial: Trial) -> None:
        """Tell the searcher of a trial that takes no place for now."""
        self.asking = "search algorithm's on_pause"
        if self.searcher is not None:
            self.searcher.on_pause(trial.trial_id)

    def unpause(self, trial: Trial) -> None:
        """Tell the searcher of a paused trial that goes on."""
        self.asking = "search algorithm's on_unpause"
        if self.searcher is not None:
            self.searcher.on_unpause(trial.trial_id)

    def _tell_searcher(self, trial: Trial, seen: Result | None, own_point: bool) -> None:
        if self.searcher is None:
            return
        self.asking = "search algorithm's on_trial_complete"
        if own_point:
            self.searcher.on_trial_complete(trial.trial_id, seen, error=seen is None)
        elif seen is not None:
            self._add_point(trial, seen)

    def _add_point(self, trial: Trial, seen: Result) -> None:
        assert self.searcher is not None
        metric = self.searcher.metric
        names = [metric] if isinstance(metric, str) else list(metric or ())
        values = [seen.get(name) for name in names]
        if not values or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            return
        numbers = [float(value) for value in values if value is not None]
        try:
            self.searcher.add_evaluated_point(trial.config, numbers[0] if isinstance(metric, str) else numbers)
        except (NotImplementedError, ValueError, KeyError):
            # It cannot take points that it has not suggested: it learns less, and nothing else is lost.
            self.warnings.append(f"{type(self.searcher).__name__} cannot learn from configurations of others")

    # -- places

    def choose(self, view: View) -> New | Resume | None:
        """Ask what a free place is given to; None to leave it free. Not asked while replaying."""
        if self.scheduler is None:
            return None
        self.asking = "scheduler's choose"
        choice = self.scheduler.choose(view)
        return None if choice == WAIT else choice  # type: ignore[return-value]  # Wait is excluded

    def create(self, trial_id: str, index: int) -> NewTrial | _Finished | None:
        """Ask for a new trial; None if there is none now, FINISHED if there will never be one again."""
        if self.searcher is None or self._maker is None:
            return None
        self.asking = "search algorithm's suggest"
        config = self.searcher.suggest(trial_id)
        if config is None or isinstance(config, _Finished):
            return config
        self.asking = "making of a new trial"
        trial = self._maker.make(trial_id, index, config)
        new = NewTrial(trial, self._introduce(trial))
        self.record(self._created(new), index)
        return new

    def _created(self, new: NewTrial) -> Created:
        trial = new.trial
        return Created(
            self.moment,
            trial.trial_id,
            codec.exact(trial.config),
            codec.exact(trial.evaluated_params),
            trial.dirname,
            trial.name,
            trial.resources,
            trial.seed,
            new.overridden,
        )

    def recreate(self, said: Created, trial: Trial, view: View) -> bool:
        """Repeat the calls that led to a recorded trial.

        Returns:
            Whether the searcher suggested another configuration than the recorded one.
        """
        if self.scheduler is not None:
            self.scheduler.choose(view)
        config = self.searcher.suggest(trial.trial_id) if self.searcher is not None else said.config
        if self.scheduler is not None:
            trial.config = config if isinstance(config, dict) else said.config
            config = self.scheduler.on_trial_add(trial) or config
        trial.config = said.config
        if _same(config, said.config):
            return False
        self.warnings.append(
            f"{type(self.searcher).__name__} answers differently than before: the recorded configurations hold"
        )
        return True

    def introduce_again(self, trial: Trial) -> None:
        """Tell the scheduler of a trial that goes on after its end; its configuration stays."""
        if self.scheduler is not None:
            self.asking = "scheduler's on_trial_add"
            self.scheduler.on_trial_add(trial)

    def _introduce(self, trial: Trial) -> bool:
        """Tell the scheduler of a new trial, and return whether it changed the configuration."""
        if self.scheduler is None:
            return False
        self.asking = "scheduler's on_trial_add"
        config = self.scheduler.on_trial_add(trial)
        if config is not None:
            trial.config = config
        return config is not None

    def directives(self, view: View) -> list[tuple[str, Decision]]:
        """Ask for decisions about paused trials."""
        if self.script is not None:
            said = self._next(Directed)
            if said is None:
                return []
            if self.scheduler is not None:
                self.scheduler.directives(view)
            return [(decided.trial_id, decision_of(decided)) for decided in said.decisions]
        if self.scheduler is None:
            return []
        self.asking = "scheduler's directives"
        decisions = self.scheduler.directives(view)
        if decisions:
            taken_down = [record_of(self.moment, trial_id, decision) for trial_id, decision in decisions]
            self.record(Directed(self.moment, taken_down), -1)
        return decisions

    # -- the record

    def peek(self) -> Answer | None:
        """Return the recorded answer that belongs to this moment, without taking it."""
        if self.script and self.script[0].moment == self.moment:
            return self.script[0]
        return None

    def take(self) -> None:
        """Take the recorded answer that `peek` returned."""
        assert self.script
        self.script.popleft()

    def repeat_choice(self, said: Launched | Resumed, view: View) -> None:
        """Repeat the question that led to a recorded choice."""
        if self.scheduler is not None and (isinstance(said, Resumed) or said.chosen):
            self.scheduler.choose(view)

    def _next(self, kind: type[AnyAnswer]) -> AnyAnswer | None:
        said = self.peek()
        if not isinstance(said, kind):
            return None
        self.take()
        return said


def record_of(moment: int, trial_id: str, decision: Decision) -> Decided:
    """Return a decision as a record."""
    match decision:
        case Continue():
            return Decided(moment, trial_id, "save" if decision.save else "continue")
        case Stop():
            return Decided(moment, trial_id, "stop")
        case Pause():
            return Decided(moment, trial_id, "pause")
        case Exploit():
            config, tags = codec.exact(decision.config), codec.exact(decision.tags)
            return Decided(moment, trial_id, "exploit", decision.donor_id, config, tags)
        case Resize():
            return Decided(moment, trial_id, "resize", resources=decision.resources)


def decision_of(said: Decided) -> Decision:
    """Return the decision of a record."""
    match said.action:
        case "stop":
            return Stop()
        case "pause":
            return Pause()
        case "exploit":
            return Exploit(said.donor_id, said.config, said.tags or {})
        case "resize":
            assert said.resources is not None
            return Resize(said.resources)
        case _:
            return Continue(save=said.action == "save")


def _same(one: Config | object, other: Config | object) -> bool:
    """Compare configurations as the journal has them: they may hold arrays, for which == is no answer."""
    return codec.ENCODER.encode(codec.exact(one)) == codec.ENCODER.encode(codec.exact(other))
