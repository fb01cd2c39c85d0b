"""The public face of each package is completely typed: no symbol a user can reach has an unknown or inferred type.

Runs ``basedpyright --verifytypes`` on each and judges what it says of the public modules. The inner rooms are mypy's
matter: pyright counts every module without a leading underscore as public, and asks them to repeat what is obvious.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: Public modules of each package; the names of the package itself are always judged.
PUBLIC = {
    "core": ("api", "util", "refs", "exceptions", "actor", "runtime_context", "runtime_env"),
    "serve": ("api", "config", "context", "errors", "handle", "schema"),
    "tune": (
        "api",
        "callback",
        "checkpoint",
        "errors",
        "logger",
        "schedulers",
        "search",
        "sklearn",
        "stopper",
        "trial",
    ),
}
#: Derived from classes of optional packages that ship no types.
UNTYPED_BASES = ("core.util.joblib.backend.", "tune.sklearn.")


def main() -> int:
    """Judge every package, and return the exit code."""
    return max([judge(package) for package in PUBLIC])


def judge(package: str) -> int:
    """Print each symbol of the package that is not known; return 1 if there is one, or if there are no symbols."""
    program = Path(sys.executable).parent / "basedpyright"
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin"}  # --verifytypes asks the first python on the path
    command = [program, "--verifytypes", package, "--ignoreexternal", "--outputjson"]
    report = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout)
    symbols = [symbol for symbol in report["typeCompleteness"]["symbols"] if is_public(symbol["name"])]
    unknown = [symbol for symbol in symbols if symbol["isExported"] and not symbol["isTypeKnown"]]
    for symbol in unknown:
        for diagnostic in symbol["diagnostics"]:
            print(f"{symbol['name']}: {diagnostic['message']}")
    print(f"{package}: {len(symbols)} public symbols, {len(unknown)} not completely typed")
    return 1 if unknown or not symbols else 0


def is_public(name: str) -> bool:
    """Tell whether users reach the symbol ``name``."""
    parts = name.split(".")
    return (len(parts) == 2 or parts[1] in PUBLIC[parts[0]]) and not name.startswith(UNTYPED_BASES)


if __name__ == "__main__":
    sys.exit(main())
