"""The documentation's programs run: every page is one program, run as a reader would, in a process of its own.

A page's ```` ```python ```` blocks are joined in order. A block that is not to be run is preceded by the comment
``<!-- not run: reason -->``. Blocks with other languages (``text``, ``shell``) are never run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: A page's program may take that long, in seconds; most take one or two.
LIMIT = 90
BLOCK = re.compile(
    r"^(?P<skip><!-- not run: .+? -->\s*\n)?^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def program(page: Path) -> str:
    """Return the page's blocks as one program, each line where the page has it, so that tracebacks point there."""
    text = page.read_text()
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        if block["skip"]:
            continue
        first = text.count("\n", 0, block.start("code"))
        for number, line in enumerate(block["code"].splitlines()):
            lines[first + number] = line.removeprefix(block["indent"])
    return "\n".join(lines).rstrip() + "\n"


PAGES = [
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")]
    if "_build" not in page.parts and program(page).strip()
]


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_programs_of_a_page_run(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"program_{page.stem.replace('-', '_')}.py"  # a name that hides no module
    script.write_text(program(page))
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert done.returncode == 0, f"{page.relative_to(ROOT)} (same line numbers):\n{done.stderr[-4000:]}"


def test_the_guides_have_programs() -> None:
    """If the blocks were not found any more, every test above would vanish in silence."""
    guides = {page.name for page in PAGES if page.parent.name == "guides"}
    assert guides >= {"tasks.md", "actors.md", "objects.md", "generators.md", "cancel.md"}
    assert ROOT / "README.md" in PAGES


def test_a_page_becomes_one_program(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n\n```python\na = 1\n```\n\n<!-- not run: shown only -->\n```python\nb\n```\n```text\nc\n```\n"
    )
    assert program(page) == "\n\n\na = 1\n"
