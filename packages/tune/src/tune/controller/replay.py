"""Getting the books back: a snapshot, and what the journal says since."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from tune.controller import records
from tune.controller.advice import Advice
from tune.controller.journal import Entry
from tune.controller.machine import Machine
from tune.controller.records import ANSWERS, INPUTS, Began

logger = logging.getLogger("tune")


def replay(machine: Machine, advice: Advice, entries: Iterable[Entry]) -> None:
    """Have a machine go through what the journal says.

    Args:
        machine: in the state that the entries follow on.
        advice: the machine's. Whoever it asks is asked again; the recorded answers hold.
        entries: from the journal.
    """
    left = 0
    for entry in entries:
        recorded, *rest = records.decode(entry.payload)
        if not isinstance(recorded, INPUTS):
            continue
        advice.script = deque(record for record in rest if isinstance(record, ANSWERS))
        if isinstance(recorded, Began) and recorded.extra_samples and advice.searcher is not None:
            advice.searcher.extend(recorded.extra_samples, None)
        machine.replay(recorded)
        left += len(advice.script)
    advice.script = None
    if left:
        logger.warning("%d recorded decisions did not fit; the journal may be of another version of tune", left)
