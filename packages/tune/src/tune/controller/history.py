"""Reading a sweep from its directory: its trials and their results, while it runs or after, without its code.

Nothing here asks a searcher, a scheduler or the trainable, and nothing is changed. What the journal has in places that
only Python can read (configurations with objects in them) needs the classes of those objects.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tune.controller import journal, records, snapshot
from tune.controller.advice import Advice
from tune.controller.journal import Position
from tune.controller.lock import running_pid
from tune.controller.machine import Machine
from tune.controller.outcome import EndReason
from tune.controller.records import Arrived, Began, Cut, Rules
from tune.controller.replay import replay
from tune.controller.state import State
from tune.errors import ExperimentNotFoundError, JournalError
from tune.messages import Reported, TrialReported
from tune.trial import Result, Trial


@dataclass(frozen=True)
class Experiment:
    """A sweep as its journal has it."""

    directory: Path
    rules: Rules
    #: in order of creation
    trials: list[Trial]
    #: why it ended; None if it has not, or its driver died
    ended: EndReason | None
    #: process id of the driver that runs it now
    running: int | None


def exists(directory: Path) -> bool:
    """Tell whether there is an experiment in this directory."""
    return next(journal.read(directory), None) is not None


def read_experiment(directory: Path) -> Experiment:
    """Return a sweep as it is now.

    Raises:
        ExperimentNotFoundError: there is none in this directory.
        JournalError: its journal is damaged.
    """
    state = read_state(directory)
    ended = state.ending if state.finished else None
    if state.finished and ended is None:
        ended = EndReason.COMPLETE
    return Experiment(directory, state.rules, state.trials, ended, running_pid(directory))


def read_state(directory: Path) -> State:
    """Return the books of a sweep, from the snapshot and what the journal says since."""
    state, position = _newest_books(directory)
    advice = Advice(None, None, None, None)
    machine = Machine(state, advice, lambda _request: 1 << 30, {}, str(directory))
    replay(machine, advice, journal.read(directory, position))
    return state


def _newest_books(directory: Path) -> tuple[State, Position]:
    taken = snapshot.read(directory)
    state = snapshot.unpickle(taken.state, "the trials") if taken is not None else None
    if taken is not None and isinstance(state, State):
        return relocated(state, directory), taken.position
    return State(first_rules(directory)), Position()


def relocated(state: State, directory: Path) -> State:
    """Return the books of a directory that may have been moved since."""
    for trial in state.trials:
        trial.experiment_dir = str(directory)
    return state


def first_rules(directory: Path) -> Rules:
    """Return the rules of a sweep's first driver.

    Raises:
        ExperimentNotFoundError: the directory has no journal, or an empty one.
        JournalError: its journal is damaged.
    """
    for entry in journal.read(directory):
        began = records.decode(entry.payload)[0]
        if not isinstance(began, Began):
            raise JournalError(f"the journal in {directory} does not begin with the beginning of a sweep")
        return began.rules
    raise ExperimentNotFoundError(f"there is no experiment in {directory}: its journal is missing or empty")


class ResultReader:
    """Reads results of trials. Memory: eight bytes per record of the journal.

    Args:
        directory: of the experiment.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        #: where a trial's records begin: segments and offsets, alternating
        self._places: dict[int, array[int]] = {}
        self._read_up_to = Position()

    def results(self, trial: Trial) -> Iterator[Result]:
        """Yield all results of a trial, in order, each once.

        What was reported after the result that decided a trial's end is left out, and so is what an attempt repeated.
        """
        self._scan()
        kept: list[Result] = []
        for place in self._places_of(trial.index):
            for record in records.decode(journal.read_entry(self._directory, place).payload):
                if isinstance(record, Cut) and record.trial_id == trial.trial_id:
                    del kept[record.iteration :]
                elif isinstance(record, Arrived) and record.event.trial_id == trial.trial_id and record.first:
                    del kept[record.first - 1 :]
                    kept.extend(report.result for report in _reports(record))
        yield from kept[: trial.iteration]

    def _places_of(self, index: int) -> Iterator[Position]:
        both = [*_positions(self._places.get(index)), *_positions(self._places.get(-1))]
        yield from sorted(both)

    def _scan(self) -> None:
        """Note where the records are that were added since the last time."""
        for entry in journal.read(self._directory, self._read_up_to):
            places = self._places.setdefault(entry.index, array("Q"))
            places.append(entry.start.segment)
            places.append(entry.start.offset)
            self._read_up_to = entry.end


def _reports(arrived: Arrived) -> list[Reported]:
    return arrived.event.reports if isinstance(arrived.event, TrialReported) else []


def _positions(places: array[int] | None) -> Iterator[Position]:
    if places is not None:
        for at in range(0, len(places), 2):
            yield Position(places[at], places[at + 1])
