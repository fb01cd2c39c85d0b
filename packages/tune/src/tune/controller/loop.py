"""The skin of the machine: time, trials' processes, files, callbacks.

One round: wait for events, have the machine handle them, write its record, carry out what it says. The record is in the
kernel before anything that follows from it is done or shown, so a driver that is killed between the two repeats what it
had not done yet, and forgets nothing that anybody has seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from tune.backend.base import TrialBackend
from tune.controller import records, snapshot
from tune.controller.header import write_header
from tune.controller.history import ResultReader
from tune.controller.hooks import Hooks
from tune.controller.instructions import DeleteCheckpoint, Finish, Hook, Instruction, Kill, Start, Tell, Warn
from tune.controller.journal import JournalWriter
from tune.controller.lock import ExperimentLock
from tune.controller.opening import Cluster, Opened, callback_key, open_sweep
from tune.controller.outcome import EndReason, SweepOutcome
from tune.controller.plan import SweepPlan
from tune.controller.signals import Interruption
from tune.errors import CallbackError, TrialFailedError, TuneError
from tune.messages import Launch, StopRule
from tune.schedulers.base import TrialScheduler
from tune.trial import ResourceRequest, Result, TrialFailure, TrialStatus

logger = logging.getLogger("tune")

#: seconds that a round waits for events at most
_ROUND = 1.0
#: the same while nothing runs: the searcher is asked again
_IDLE_ROUND = 0.05
#: seconds between two snapshots at least, and how much longer than it took to make the last one
_SNAPSHOT_EVERY = 10.0
_SNAPSHOT_SHARE = 20.0


def run_sweep(plan: SweepPlan, backend: TrialBackend) -> SweepOutcome:
    """Run a sweep, or go on with one, until it ends.

    Args:
        plan: checked and complete; its directory exists.
        backend: where trials run; it is closed at the end.

    Returns:
        What became of it. An error of a callback, a searcher, a scheduler or a stopper is in `SweepOutcome.error`.

    Raises:
        ExperimentInUseError: another process runs this experiment.
        FileExistsError: the directory has an experiment, and the plan does not say that it goes on.
        JournalError: the journal is damaged.
        ValueError: the plan contradicts itself.
        KeyboardInterrupt: a second Ctrl-C; what was recorded can be resumed.
    """
    lock = ExperimentLock(plan.directory)
    try:
        return _Sweep(plan, backend).run()
    finally:
        backend.close()
        lock.release()


class _Sweep:
    """One driver's run of a sweep."""

    def __init__(self, plan: SweepPlan, backend: TrialBackend) -> None:
        self._plan = plan
        self._backend = backend
        self._root = plan.storage or str(plan.directory)
        cluster = Cluster(_remembered(backend.capacity), backend.cluster())
        self._began_at = time.monotonic()
        self._opened: Opened = open_sweep(plan, cluster, backend.now())
        self._machine = self._opened.machine
        self._advice = self._opened.advice
        self._state = self._machine.state
        self._reader = ResultReader(plan.directory)
        self._hooks = Hooks(plan.callbacks, self._state.trials)
        self._shows_results = self._hooks.listens("on_trial_result")
        self._journal = JournalWriter(plan.directory)
        self._interruption = Interruption()
        self._warned: set[str] = set()
        self._finish: Finish | None = None
        self._snapshot_at = 0.0
        self._snapshot_cost = 0.0
        scheduler = type(self._advice.scheduler)
        self._has_documents = scheduler.documents is not TrialScheduler.documents  # type: ignore[union-attr]

    # -- the run

    def run(self) -> SweepOutcome:
        error: BaseException | None = None
        try:
            with self._interruption.listening():
                self._begin()
                while self._finish is None:
                    self._round()
        except CallbackError as raised:
            error = raised
        finally:
            self._backend.close()
            self._write_journal(whole=False)
            errors = self._hooks.experiment_end()
            self._end(error or (errors[0] if errors else None))
        for later in errors if error is not None else errors[1:]:
            logger.warning("%s", later)
        return self._outcome(error or (errors[0] if errors else None))

    def _begin(self) -> None:
        plan, rules = self._plan, self._opened.began.rules
        self._hooks.setup(
            stop=plan.stop_bounds or plan.stopper,
            num_samples=plan.num_samples,
            total_num_samples=rules.total_samples,
            experiment_name=plan.name,
            experiment_path=str(plan.directory),
            metric=plan.metric,
            mode=plan.mode,
            searcher=rules.searcher,
            scheduler=rules.scheduler,
            resumed=self._opened.resumed,
            recorded=self._recorded,
        )
        if not self._opened.resumed:
            self._snapshot()  # of the advisers as they are before anything: what a replay from the start begins with
        self._hooks.step("on_step_begin")
        instructions = self._ask(self._machine.begin, self._opened.began)
        self._write_journal()
        if self._opened.resumed:
            self._snapshot()  # what has changed since the earlier driver is in no record of its
        self._carry_out(instructions)
        self._hooks.step("on_step_end")

    def _round(self) -> None:
        events = self._backend.poll(self._patience())
        now = self._backend.now()
        hooks, machine = self._hooks, self._machine
        hooks.iteration += 1
        hooks.step("on_step_begin")
        instructions: list[Instruction] = []
        for event in events:
            instructions += self._ask(machine.handle, event, now)
        instructions += self._ask(machine.tick, now)
        if self._interruption.wanted and self._state.ending is None:
            instructions += self._ask(machine.interrupt, now)
        self._write_journal()
        self._carry_out(instructions)
        if self._has_documents:
            self._write_documents()
        hooks.step("on_step_end")
        if time.monotonic() - self._snapshot_at > max(_SNAPSHOT_EVERY, _SNAPSHOT_SHARE * self._snapshot_cost):
            self._snapshot()

    def _patience(self) -> float:
        """Return how many seconds to wait for events."""
        if not self._machine.busy:
            return _IDLE_ROUND
        deadline = self._machine.next_deadline()
        return _ROUND if deadline is None else min(_ROUND, max(0.0, deadline - self._backend.now()))

    def _ask(self, handle: Callable[..., list[Instruction]], *arguments: Any) -> list[Instruction]:
        """Have the machine handle something; what the user's code raises there becomes a `CallbackError`."""
        try:
            return handle(*arguments)
        except TuneError:
            raise
        except Exception as error:
            raise CallbackError(f"the {self._advice.asking} raised {type(error).__name__}: {error}") from error

    # -- instructions

    def _carry_out(self, instructions: list[Instruction]) -> None:
        backend, hooks = self._backend, self._hooks
        for instruction in instructions:
            match instruction:
                case Hook("on_trial_result"):
                    if self._shows_results:
                        hooks.result(instruction.trial, instruction.argument)
                case Hook():
                    hooks.trial(instruction.name, instruction.trial, instruction.argument)
                case Tell():
                    backend.answer(instruction.trial_id, instruction.verdict)
                case Start():
                    backend.start(self._launch(instruction))
                case Kill():
                    backend.kill(instruction.trial_id)
                case DeleteCheckpoint():
                    backend.delete_checkpoint(f"{self._root}/{instruction.dirname}", instruction.name)
                case Warn():
                    self._warn(instruction.text)
                case Finish():
                    self._finish = instruction

    def _launch(self, start: Start) -> Launch:
        trial, plan, origin = start.trial, self._plan, start.origin
        (plan.directory / trial.dirname).mkdir(exist_ok=True)
        return Launch(
            trial_id=trial.trial_id,
            attempt=start.attempt,
            config=start.config,
            trial_dir=f"{self._root}/{trial.dirname}",
            bundles=start.resources.bundles,
            strategy=start.resources.strategy,
            checkpoint=plan.restore if origin is None else f"{self._root}/{origin.dirname}/{origin.name}",
            iteration=0 if origin is None else origin.iteration,
            time_total_s=0.0 if origin is None else origin.time_total_s,
            seed=trial.seed,
            sync=start.sync,
            stop=StopRule(plan.stop_bounds),
            time_limit_s=plan.limits.time_limit_s,
            memory_limit=plan.limits.memory_limit,
            checkpoint_frequency=plan.checkpoints.frequency,
            checkpoint_at_end=plan.checkpoints.at_end,
            trial_name=trial.name,
            experiment_name=plan.name,
            metadata=plan.metadata,
        )

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning("%s", text)

    # -- files

    def _write_journal(self, *, whole: bool = True) -> None:
        """Write what the machine has recorded.

        Args:
            whole: whether the last input was handled to its end. If not it is left out, as if it had not come.
        """
        rounds = list(records.rounds(self._machine.take_records()))
        if not whole:
            del rounds[-1:]
        for index, round_ in rounds:
            self._journal.append(records.encode(round_), index)
        self._journal.write()

    def _write_documents(self) -> None:
        assert self._advice.scheduler is not None
        for name, content in self._advice.scheduler.documents().items():
            snapshot.replace_file(self._plan.directory / name, content.encode())

    def _snapshot(self, condition: str = "running") -> None:
        """Save the books and the advisers as they are at the journal's end."""
        began = time.monotonic()
        plan, advice = self._plan, self._advice
        assert advice.searcher is not None
        states = [(callback_key(plan, callback), callback.get_state()) for callback in plan.callbacks]
        advisers = snapshot.pack_advisers(advice.searcher, advice.scheduler, advice.stopper, states)
        self._journal.sync()
        snapshot.write(plan.directory, self._journal.position, self._state, advisers)
        write_header(plan.directory, self._state, self._backend.now(), condition)
        self._snapshot_at = time.monotonic()
        self._snapshot_cost = self._snapshot_at - began

    def _recorded(self, trial_id: str) -> list[Result]:
        """Return the results that the journal has of a trial."""
        trial = self._state.by_id.get(trial_id)
        return [] if trial is None else list(self._reader.results(trial))

    # -- the end

    def _end(self, error: BaseException | None) -> None:
        """Save everything, if it is in a state worth saving, and say how to go on."""
        if self._finish is not None:
            if self._has_documents:
                self._write_documents()
            self._snapshot((EndReason.ERROR if error else self._finish.reason).value)
        else:
            write_header(self._plan.directory, self._state, self._backend.now(), EndReason.ERROR.value)
        self._journal.close()
        if self._finish is not None and self._finish.reason is EndReason.INTERRUPTED and self._plan.resume_hint:
            logger.warning("interrupted; the sweep is saved. To go on with it: %s", self._plan.resume_hint)

    def _outcome(self, error: BaseException | None) -> SweepOutcome:
        for trial in self._state.trials:
            if trial.status is TrialStatus.RUNNING:
                trial.status = TrialStatus.PENDING
        finish = self._finish
        if error is None and finish is not None and finish.failure and self._plan.failures.fail_fast == "raise":
            error = _exception_of(finish.failure)
        reason = finish.reason if finish is not None else EndReason.ERROR
        return SweepOutcome(self._plan.directory, self._state.trials, reason, time.monotonic() - self._began_at, error)


def _remembered(capacity: Callable[[ResourceRequest], int]) -> Callable[[ResourceRequest], int]:
    """Return a function that asks only once for each request. Requests are shared objects: there are few."""
    known: dict[int, tuple[ResourceRequest, int]] = {}

    def ask(request: ResourceRequest) -> int:
        entry = known.get(id(request))
        if entry is None:
            entry = known[id(request)] = (request, capacity(request))
        return entry[1]

    return ask


def _exception_of(failure: TrialFailure) -> BaseException:
    if failure.pickled is not None:
        exception = snapshot.unpickle(failure.pickled, "an exception")
        if isinstance(exception, BaseException):
            return exception
    return TrialFailedError(f"{failure.error_type}: {failure.message}\n{failure.traceback}".rstrip())
