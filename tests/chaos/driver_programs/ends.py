"""Drivers whose end needs care; the argument says which."""

from __future__ import annotations

import sys

import core


@core.remote
def number(value: int) -> int:
    return value


def thousands_of_references() -> None:
    """References of every kind are still alive when the interpreter goes down, in modules, cycles and threads."""
    core.init(num_cpus=2)
    kept = [core.put(value) for value in range(5000)]
    kept += [number.remote(value) for value in range(5000)]
    cycle: list[object] = [kept, [core.put([ref]) for ref in kept[:100]]]
    cycle.append(cycle)
    sys.modules["kept_by_a_module"] = cycle  # type: ignore[assignment]
    core.get(kept)


def references_after_shutdown() -> None:
    """References that outlive the session are dropped when the interpreter goes down."""
    core.init(num_cpus=1)
    sys.modules["kept_by_a_module"] = [core.put(value) for value in range(2000)]  # type: ignore[assignment]
    core.shutdown()


def stale_reference() -> None:
    """A reference of an ended session is an error, and starts nothing."""
    core.init(num_cpus=1)
    refs = [core.put(1), number.remote(2)]
    core.get(refs)
    core.shutdown()
    for ref in refs:
        try:
            core.get(ref, timeout=60)
        except core.exceptions.RaySystemError:
            assert not core.is_initialized()
        else:
            raise AssertionError("a stale reference has a value")


def stale_reference_in_the_next_session() -> None:
    """A reference of an ended session is an error in the next one too."""
    core.init(num_cpus=1)
    stale = core.put(1)
    core.shutdown()
    core.init(num_cpus=1)
    for use in (lambda: core.get(stale, timeout=60), lambda: core.get(number.remote(stale), timeout=60)):
        try:
            use()
        except core.exceptions.GetTimeoutError:
            raise AssertionError("a stale reference is waited for") from None
        except (core.exceptions.RayError, ValueError):
            pass
        else:
            raise AssertionError("a stale reference has a value")
    assert core.get(number.remote(3), timeout=60) == 3


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("done")
