"""What ``log_to_file`` may be."""

from __future__ import annotations

from typing import Any


def log_files(log_to_file: Any) -> tuple[str, str] | None:
    """Return the names of the files for standard output and error, None for none.

    Raises:
        TypeError: it is neither a bool, a name, nor two names.
    """
    match log_to_file:
        case False | None:
            return None
        case True:
            return ("stdout", "stderr")
        case str(name):
            return (name, name)
        case (str(out), str(err)):
            return (out, err)
        case _:
            raise TypeError(
                f"log_to_file must be True, False, a file name or two of them (stdout, stderr), got {log_to_file!r}"
            )
