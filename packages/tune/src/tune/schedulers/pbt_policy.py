"""The policy of population based training as text: which trial took over which, when, and how it went on.

A line is a JSON list in Ray's order: the trial, the trial it took over, how many iterations of training were in
either, the mutated parameters before and after. The file of a trial, ``pbt_policy_<trial_id>.txt``, is the whole
history of what it is now: the lines of the trial that it took over, then its own. ``pbt_global.txt`` has all lines in
the order of time.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tune.trial import Config


class Takeover(NamedTuple):
    """A line of a policy."""

    trial: str
    donor: str
    trial_iteration: int
    donor_iteration: int
    old: Config
    new: Config

    def line(self) -> str:
        """Return the line, without an end of line."""
        return json.dumps(list(self), default=_plain)


class PolicyBook:
    """The policies of a population."""

    def __init__(self) -> None:
        self._all: list[str] = []
        self._of: dict[str, list[str]] = {}
        #: trials whose file changed since `changed` was asked
        self._dirty: dict[str, None] = {}

    def record(self, takeover: Takeover) -> None:
        """Add a takeover."""
        line = takeover.line()
        self._all.append(line)
        self._of[takeover.trial] = [*self._of.get(takeover.donor, []), line]
        self._dirty[takeover.trial] = None

    def changed(self) -> dict[str, str]:
        """Return the files that changed since last asked, name to content."""
        if not self._dirty:
            return {}
        files = {f"pbt_policy_{trial}.txt": _text(self._of[trial]) for trial in self._dirty}
        self._dirty.clear()
        return {"pbt_global.txt": _text(self._all), **files}


def parse_policy(text: str, source: str) -> tuple[Config, list[tuple[int, Config]]]:
    """Read a trial's policy.

    Args:
        text: of the file, ours or Ray's.
        source: named in errors.

    Returns:
        The mutated parameters at the start, and those from each iteration on at which they changed.

    Raises:
        ValueError: a line is none of a policy.
    """
    takeovers = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            takeover = Takeover(*json.loads(line))
        except (TypeError, ValueError):
            raise ValueError(
                f"line {number} of {source} is none of a policy: expected a JSON list [trial, donor, its iteration, "
                f"the donor's iteration, old parameters, new parameters], got {line[:80]!r}"
            ) from None
        takeovers.append(takeover)
    chain: list[Takeover] = []
    for takeover in reversed(takeovers):
        if chain and takeover.trial != chain[-1].donor:
            break  # what came before was overwritten by this takeover
        chain.append(takeover)
    start = chain[-1].old if chain else {}
    return start, [(takeover.donor_iteration, takeover.new) for takeover in reversed(chain)]


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _plain(value: Any) -> Any:
    """Return numpy's scalars as Python's, and anything else as text."""
    return value.item() if hasattr(value, "item") else repr(value)
