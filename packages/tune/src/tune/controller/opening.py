"""Opening a sweep: a new one, or one that goes on from what its directory has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from tune.callback import Callback
from tune.controller import history, journal, snapshot
from tune.controller.advice import Advice
from tune.controller.creation import TrialMaker
from tune.controller.journal import Position
from tune.controller.machine import Machine
from tune.controller.plan import ResumePlan, SweepPlan
from tune.controller.records import Began, Rules
from tune.controller.replay import replay
from tune.controller.return_of_trials import actions_for
from tune.controller.rules import rules_of
from tune.controller.snapshot import Advisers
from tune.controller.state import State
from tune.errors import ExperimentNotFoundError
from tune.schedulers.base import TrialScheduler
from tune.search.base import Searcher
from tune.trial import ResourceRequest

logger = logging.getLogger("tune")


@dataclass(frozen=True)
class Cluster:
    """What the machine knows of the place where trials run."""

    capacity: Callable[[ResourceRequest], int]
    resources: Mapping[str, float]


@dataclass(frozen=True)
class Opened:
    """A sweep that is about to begin or to go on."""

    machine: Machine
    advice: Advice
    began: Began
    resumed: bool


def open_sweep(plan: SweepPlan, cluster: Cluster, now: float) -> Opened:
    """Return the sweep of a plan.

    Raises:
        FileExistsError: the directory has one already, and the plan does not say that it goes on.
        JournalError: the journal is damaged.
        ValueError: the plan contradicts itself.
    """
    directory = plan.directory
    try:
        first = history.first_rules(directory) if history.exists(directory) else None
    except ExperimentNotFoundError:
        first = None  # the driver died before it wrote anything
    if first is None:
        return _open_new(plan, cluster, now)
    if plan.resume is None:
        raise FileExistsError(
            f"there is an experiment in {directory} already; go on with it (resume=True), or choose another name"
        )
    return _open_again(plan, plan.resume, first, cluster, now)


def _open_new(plan: SweepPlan, cluster: Cluster, now: float) -> Opened:
    rules = rules_of(plan)
    advice = Advice(plan.searcher, plan.scheduler, plan.stopper, TrialMaker(plan))
    machine = Machine(State(rules), advice, cluster.capacity, cluster.resources, str(plan.directory))
    return Opened(machine, advice, Began(now, rules), resumed=False)


def _open_again(plan: SweepPlan, resume: ResumePlan, first: Rules, cluster: Cluster, now: float) -> Opened:
    state, position, advisers = _restore(plan, first)
    searcher, scheduler, stopper = plan.searcher, plan.scheduler, plan.stopper
    if advisers is not None:
        searcher = snapshot.restore_searcher(advisers, plan.searcher)
        scheduler = advisers.scheduler
        stopper = advisers.stopper if plan.stopper is not None else None
        _restore_callbacks(plan, advisers)
    advice = Advice(searcher, scheduler, stopper, TrialMaker(plan))
    machine = Machine(state, advice, cluster.capacity, cluster.resources, str(plan.directory))
    replay(machine, advice, journal.read(plan.directory, position))
    return Opened(machine, advice, _go_on(plan, resume, state, advice, now), resumed=True)


def _restore(plan: SweepPlan, first: Rules) -> tuple[State, Position, Advisers | None]:
    """Return the newest books that come with their advisers; else the beginning."""
    taken = snapshot.read(plan.directory)
    if taken is not None and taken.advisers is not None:
        advisers = snapshot.unpickle(taken.advisers, "searcher, scheduler and stopper")
        state = snapshot.unpickle(taken.state, "the trials")
        if isinstance(advisers, Advisers) and isinstance(state, State):
            return history.relocated(state, plan.directory), taken.position, advisers
    return State(first), Position(), None


def _restore_callbacks(plan: SweepPlan, advisers: Advisers) -> None:
    kept = {name: state for name, state in advisers.callbacks if state is not None}
    for callback in plan.callbacks:
        state = kept.get(callback_key(plan, callback))
        if state is not None:
            callback.set_state(state)


def callback_key(plan: SweepPlan, callback: Callback) -> str:
    """Return what a callback's state is kept under: its class, and which of several of it."""
    same = [other for other in plan.callbacks if type(other) is type(callback)]
    return f"{type(callback).__module__}.{type(callback).__qualname__}/{same.index(callback)}"


def _go_on(plan: SweepPlan, resume: ResumePlan, state: State, advice: Advice, now: float) -> Began:
    """Tell the advisers what has changed, and return how the new driver begins."""
    earlier = state.rules
    rules = rules_of(plan, earlier)
    extra = _extra(earlier.num_samples, plan.num_samples)
    searcher = advice.searcher
    assert searcher is not None and advice.scheduler is not None
    if extra or plan.space_changed:
        advice.asking = "search algorithm's extend"
        searcher.extend(extra, plan.space if plan.space_changed else None)
        rules = _with_total(rules, plan, searcher)
    promoted: list[str] = []
    changed = rules.scheduler_parameters != earlier.scheduler_parameters
    if changed:
        promoted = _change_scheduler(plan.scheduler, state, advice)
    actions = actions_for(
        state.trials,
        finished=resume.finished,
        unfinished=resume.unfinished,
        errored=resume.errored,
        stop_bounds=plan.stop_bounds,
    )
    for trial_id in promoted:
        actions.pop(trial_id, None)
    return Began(
        now,
        rules,
        actions=actions,
        promoted=promoted,
        scheduler_changed=changed,
        extra_samples=extra,
        space_changed=plan.space_changed,
    )


def _extra(before: int, after: int) -> int:
    """Return how many more samples are wanted; -1 for no end counts as very many."""
    if before < 0 or after == before:
        return 0
    return max(0, (int(1e9) if after < 0 else after) - before)


def _with_total(rules: Rules, plan: SweepPlan, searcher: Searcher) -> Rules:
    """Return the rules with what the extended searcher says of its total."""
    total = searcher.total_samples() if plan.num_samples >= 0 else None
    return msgspec.structs.replace(rules, total_samples=total)


def _change_scheduler(scheduler: TrialScheduler, state: State, advice: Advice) -> list[str]:
    """Have the new scheduler take over; return the finished trials it wants to go on with."""
    previous = advice.scheduler
    assert previous is not None
    advice.asking = "scheduler's on_resume"
    wanted = scheduler.on_resume(previous, state.trials)
    advice.scheduler = scheduler
    advice.notice_advisers()
    return [trial_id for trial_id in wanted or [] if state.by_id[trial_id].status.finished]
