"""Getting the books back: a snapshot, and what the journal says since."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator

from tune.controller import records
from tune.controller.advice import Advice
from tune.controller.journal import Entry
from tune.controller.machine import Machine
from tune.controller.records import INPUTS, REMARKS, Answer, Input, Record

logger = logging.getLogger("tune")


def rounds(entries: Iterable[Entry]) -> Iterator[tuple[Input, list[Answer]]]:
    """Yield the recorded inputs, each with the answers that were given for it.

    A driver that died between writing an input and all of its answers cannot be: they are one write.
    """
    recorded: Input | None = None
    answers: list[Answer] = []
    for entry in entries:
        record: Record = records.decode(entry.payload)
        if isinstance(record, INPUTS):
            if recorded is not None:
                yield recorded, answers
            recorded, answers = record, []
        elif not isinstance(record, REMARKS):
            answers.append(record)
    if recorded is not None:
        yield recorded, answers


def replay(machine: Machine, advice: Advice, entries: Iterable[Entry]) -> None:
    """Have a machine go through what the journal says.

    Args:
        machine: in the state that the entries follow on.
        advice: the machine's. Whoever it asks is asked again; the recorded answers hold.
        entries: from the journal.
    """
    left = 0
    for recorded, answers in rounds(entries):
        advice.script = deque(answers)
        machine.replay(recorded)
        left += len(advice.script)
    advice.script = None
    if left:
        logger.warning("%d recorded decisions did not fit; the journal may be of another version of tune", left)
