"""What the parts of the machine share: the books, the advisers, and the two piles of paper that go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tune.controller.advice import Advice
from tune.controller.checkpoints import CheckpointKeeper
from tune.controller.instructions import Hook, Instruction, Tell, Warn
from tune.controller.judging import Judge
from tune.controller.places import Places
from tune.controller.records import Record, Rules
from tune.controller.state import Run, State
from tune.messages import Action, Sync, Verdict
from tune.schedulers.base import View
from tune.trial import ResourceRequest, Result, Trial, TrialFailure


class Desk:
    """The shared parts.

    Args:
        state: the books.
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
        self.experiment_dir = experiment_dir
        self.advice = advice
        self.places = Places(capacity, state.rules.max_concurrent)
        self.out: list[Instruction] = []
        #: with the index of the trial each is about, -1 for none
        self.records: list[tuple[int, Record]] = []
        self._capacity = capacity
        live, resources = MappingProxyType(state.live), MappingProxyType(dict(cluster))
        self._views = {
            (more, exhausted): View(live=live, more_trials=more, cluster=resources, exhausted=exhausted)
            for more in (False, True)
            for exhausted in (False, True)
        }
        advice.record = self.record
        self.use(state.rules)

    @property
    def replaying(self) -> bool:
        """Whether the inputs come from the journal."""
        return self.advice.script is not None

    def use(self, rules: Rules) -> None:
        """Go by these rules from now on. Nothing may be running."""
        self.state.rules = rules
        self.judge = Judge(rules.metrics, rules.modes, rules.strict_metric)
        self.keeper = CheckpointKeeper(rules.num_to_keep, rules.score_attribute, rules.score_order)
        self.places = Places(self._capacity, rules.max_concurrent)

    def record(self, record: Record, index: int = -1) -> None:
        """Take something down, unless it is being read back."""
        if self.advice.script is None:
            self.records.append((index, record))

    def view(self, *, starved: bool = False) -> View:
        """Return what a scheduler may see.

        Args:
            starved: the searcher has just said that it has nothing now.
        """
        state = self.state
        return self._views[not starved and (bool(state.pending) or not state.exhausted), state.exhausted]

    def tell(self, run: Run, action: Action) -> None:
        """Say something to a trial."""
        self.out.append(Tell(run.trial.trial_id, Verdict(action, self.sync(run))))

    def sync(self, run: Run) -> Sync:
        """Return where a trial waits next.

        One that goes on from before the point at which it was told to pause or to save waits there again.
        """
        iteration = run.trial.iteration
        if run.delivered < iteration and (run.parking is not None or run.saving == iteration):
            return Sync(at=iteration)
        return self.advice.sync(run.trial)

    def hook(self, name: str, trial: Trial, argument: object = None) -> None:
        """Have a hook of the callbacks called."""
        self.out.append(Hook(name, trial, argument))

    def warn(self, text: str) -> None:
        """Tell the user something, once."""
        self.out.append(Warn(text))

    def learnable(self, trial: Trial) -> Result | None:
        """Return the last result as searchers and schedulers may see it, None if there is nothing to learn from it."""
        if not self.state.rules.metrics:
            return trial.last_result
        seen = self.judge.judge(trial.last_result)
        return None if isinstance(seen, TrialFailure) else seen
