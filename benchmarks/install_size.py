"""The installed size of a distribution together with everything it requires."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import tomllib
from pathlib import Path

_NOT_INSTALLED = {"__pycache__", ".mypy_cache", ".ruff_cache"}
_NAME = re.compile(r"[A-Za-z0-9._-]+")
#: What an environment marker says when this interpreter does not need the requirement.
_UNNEEDED = re.compile(r"extra\s*==|platform_system\s*==\s*['\"]Windows|sys_platform\s*==\s*['\"]win32")


def install_size_mb(distribution: str, source: Path | None = None) -> float:
    """Return the MB (10^6 bytes) of files, without bytecode, of ``distribution`` and its required dependencies.

    Args:
        distribution: the name on the package index. Extras are not counted.
        source: a checkout (with ``pyproject.toml`` and ``src``) to count instead when it is not installed, or only
            linked (an editable install has no files of its own).

    Raises:
        importlib.metadata.PackageNotFoundError: neither installed nor in ``source``.
    """
    seen: set[str] = set()
    total = 0
    queue = [distribution]
    while queue:
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name != distribution:
                continue  # needed on other Pythons or platforms only
            if source is None or not (source / "pyproject.toml").exists():
                raise
            found = None
        if name == distribution and source is not None and (found is None or _is_editable(found)):
            total += sum(_size(path) for path in (source / "src").rglob("*"))
            project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
            queue += _needed(project.get("dependencies", []))
        elif found is not None:
            total += sum(_size(Path(str(found.locate_file(file)))) for file in found.files or ())
            queue += _needed(found.requires or [])
    return total / 1e6


def _needed(requirements: list[str]) -> list[str]:
    names = []
    for requirement in requirements:
        specifier, _, marker = requirement.partition(";")
        if not _UNNEEDED.search(marker) and (match := _NAME.match(specifier)):
            names.append(match.group())
    return names


def _is_editable(found: importlib.metadata.Distribution) -> bool:
    origin: dict[str, dict[str, bool]] = json.loads(found.read_text("direct_url.json") or "{}")
    return origin.get("dir_info", {}).get("editable", False)


def _size(path: Path) -> int:
    """Return the size of a file that an installation has: no bytecode, and no checker's cache."""
    return path.stat().st_size if path.is_file() and not _NOT_INSTALLED.intersection(path.parts) else 0


if __name__ == "__main__":
    print(install_size_mb(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None))
