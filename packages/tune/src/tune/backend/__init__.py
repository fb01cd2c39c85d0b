"""Where trials run: in actors (`core_backend`), or looked up in a table, in simulated time (`simulator`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune.backend.simulator import SimulatorBackend
    from tune.backend.table import TabularBenchmark

__all__ = ["SimulatorBackend", "TabularBenchmark"]


def __getattr__(name: str) -> Any:
    # Lazily: the table needs numpy, which an ordinary sweep need not import.
    if name == "SimulatorBackend":
        from tune.backend.simulator import SimulatorBackend  # noqa: PLC0415

        return SimulatorBackend
    if name == "TabularBenchmark":
        from tune.backend.table import TabularBenchmark  # noqa: PLC0415

        return TabularBenchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
