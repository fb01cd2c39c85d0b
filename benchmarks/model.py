"""What a benchmark is made of: rows of the table, programs that measure them, themes that share a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: How a system is programmed. Skate and Ray share one kind: they run the very same code.
Kind = Literal["raylike", "dask", "executor", "pool", "floor"]

#: What a variant measured: the value of the program's only row, or values by row name.
Measured = float | Mapping[str, float]

#: One program on one kind of system: ``(session, meter) -> Measured``. The session is what the adapter's ``open`` gives
#: (Ray's module, a Dask client, an executor, a pool, None for floors), or the adapter itself in a bare theme.
Variant = Callable[[Any, Any], Measured]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    #: what the values are: "calls/s", "s", "MB", ...
    unit: str
    #: whether a larger or a smaller value is the better one
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True)
class Program:
    """A piece of work that measures one or more rows, with one variant per kind of system that can run it."""

    rows: tuple[Row, ...]
    variants: Mapping[Kind, Variant]
    #: rounds that run it at most; None for as many as the run has. For programs that take long
    max_rounds: int | None = None
    #: systems that run it unless ``--full`` is given; None for all
    only: frozenset[str] | None = None
    #: part of ``--quick`` runs
    quick: bool = True

    @property
    def name(self) -> str:
        """The name of the first row stands for the program."""
        return self.rows[0].name


@dataclass(frozen=True)
class Theme:
    """Programs that run one after another in one process and one session of a system."""

    name: str
    programs: tuple[Program, ...]
    #: custom resources the session is opened with
    resources: Mapping[str, float] = field(default_factory=dict)
    #: the programs open and close the session themselves, and receive the system's adapter
    bare: bool = False


def program(
    name: str,
    unit: str,
    *,
    better: Literal["higher", "lower"] = "higher",
    max_rounds: int | None = None,
    only: frozenset[str] | None = None,
    quick: bool = True,
    generic: Mapping[Kind, Variant] | None = None,
    raylike: Variant | None = None,
    dask: Variant | None = None,
    executor: Variant | None = None,
    pool: Variant | None = None,
    floor: Variant | None = None,
) -> Program:
    """Return a program with a single row; ``generic`` holds variants that are made for several kinds at once."""
    named: dict[Kind, Variant | None] = {
        "raylike": raylike,
        "dask": dask,
        "executor": executor,
        "pool": pool,
        "floor": floor,
    }
    variants = {**(generic or {}), **{kind: variant for kind, variant in named.items() if variant is not None}}
    return Program((Row(name, unit, better),), variants, max_rounds=max_rounds, only=only, quick=quick)
