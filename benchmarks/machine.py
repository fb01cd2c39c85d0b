"""What the run happened on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

_PACKAGES = ("skate-core", "ray", "distributed", "numpy", "msgspec", "cloudpickle")
_VERSIONS = (
    "import importlib.metadata as m, json, platform\n"
    "found = {'python': platform.python_version()}\n"
    f"for name in {_PACKAGES!r}:\n"
    "    try: found[name] = m.version(name)\n"
    "    except m.PackageNotFoundError: pass\n"
    "print(json.dumps(found))"
)


def describe() -> dict[str, str]:
    """Return the machine's processor, cores, memory, kernel and Python."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{_memory_gb():.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "benchmarks": _own_version(),
    }


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def versions_script() -> str:
    """Return a program that prints, as JSON, the versions of an interpreter's relevant packages."""
    return _VERSIONS


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def _own_version() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return _package_version()
    return done.stdout.strip()


def _package_version() -> str:
    try:
        return importlib.metadata.version("skate-core")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
