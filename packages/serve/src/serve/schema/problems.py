"""What is wrong with a config, for people: where, what was found, what was expected, what was perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

#: keys and indices that lead to a value
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or has no effect."""

    location: Location
    #: begins in the middle of a sentence: the location is put in front
    message: str
    #: the key is wrong, not its value
    on_key: bool = False

    def __str__(self) -> str:
        return f"{path(self.location) or 'the config'}: {self.message}"


class ConfigError(ValueError):
    """A config cannot be used; the text names all that is wrong with it.

    Args:
        problems: all that is wrong.
        text: the same with places in the file; by default one line each.
    """

    def __init__(self, problems: Iterable[Problem], text: str = "") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(text or "\n".join(map(str, self.problems)))


def path(location: Location) -> str:
    """Return a location as people write it: ``applications[0].name``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def unknown(name: str, known: Iterable[str]) -> str:
    """Return what to say about a name that is none of the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"there is no such option; did you mean {close[0]}?"
    return f"there is no such option; expected one of {', '.join(names)}"
