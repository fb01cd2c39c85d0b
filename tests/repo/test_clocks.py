"""Durations and deadlines of core are monotonic: the wall clock, which may jump, is for people and for files only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "packages/core/src/core"

#: Who may look at the wall clock, and what for.
ALLOWED = {
    "engine/inline/session.py": "when a task began, in the timeline",
    "node/session.py": "how old an abandoned directory is; the times of files are wall times",
    "runtime/history.py": "when a task began and ended, in the state API",
    "worker/executor.py": "when a task began, in the state API",
}
#: Their names in ``time`` and ``datetime``.
WALL = {"time", "time_ns", "now", "utcnow", "today"}


def looks_at_the_wall_clock(tree: ast.AST) -> bool:
    """Tell whether code calls or passes on ``time.time``, ``datetime.now`` and the like."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in WALL:
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner in ("time", "datetime", "date"):
                return True
        if isinstance(node, ast.ImportFrom) and node.module == "time" and WALL & {name.name for name in node.names}:
            return True
    return False


def test_only_those_listed_look_at_the_wall_clock() -> None:
    found = {
        str(path.relative_to(CORE))
        for path in CORE.rglob("*.py")
        if looks_at_the_wall_clock(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.time()",
        "import time\nclock = time.time",
        "from time import time",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import date\ndate.today()",
    ],
)
def test_the_check_sees_what_it_looks_for(code: str) -> None:
    assert looks_at_the_wall_clock(ast.parse(code))
    assert not looks_at_the_wall_clock(ast.parse("import time\ntime.monotonic()"))
