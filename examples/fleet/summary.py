"""What a run prints at its end: accuracy, times, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fleet.backtest import Backtest, OneProcess
from fleet.leaderboard import Standing
from fleet.models import BASELINE
from fleet.panel import Panel
from fleet.results import BestPerSeries


def print_accuracy(standings: Sequence[Standing], wins: Counter[str], best: BestPerSeries) -> None:
    """Print the leaderboard and how the choice per series did on months that no choice had seen."""
    naive = next((row.mase_holdout for row in standings if row.model == BASELINE), float("nan"))
    columns = (("fits", 7), ("ms/fit", 9), ("MASE select", 13), ("MASE hold-out", 15), ("sMAPE %", 9), ("vs naive", 10))
    header = f"{'model':<23}" + "".join(f"{name:>{width}}" for name, width in columns) + f"{'won':>6}"
    print(f"\n{header}\n{'-' * len(header)}")
    for row in standings:
        print(
            f"{row.model:<23}{row.fits:>7,}{row.seconds_per_fit * 1e3:>9.1f}{row.mase_selection:>13.3f}"
            f"{row.mase_holdout:>15.3f}{row.smape_holdout:>9.2f}{row.mase_holdout / naive:>10.2f}{wins[row.model]:>6}"
        )
    print(
        f"{'best per series':<23}{'':>29}{best.mase:>15.3f}{best.smape:>9.2f}"
        f"{best.mase / best.naive_mase:>10.2f}{best.series:>6}"
    )
    covered = ", ".join(f"{share:.0%} in the {level}% intervals" for level, share in best.coverage.items())
    print(f"\nIntervals on the hold-out held {covered}.")


def print_times(backtest: Backtest, one: OneProcess, cpus: int) -> None:
    """Print rate, start-up and speed-up, and how the one-process time was come by."""
    busy = sum(outcome.score.seconds for outcome in backtest.outcomes.values()) / (backtest.seconds * cpus)
    done = len(backtest.outcomes)
    print(
        f"{done:,} fits in {backtest.seconds:.1f} s on {cpus} CPUs: {done / backtest.seconds:.0f} fits/s. "
        f"CPUs spent {busy:.0%} of that time fitting. First result {backtest.first_result_after:.1f} s after start."
    )
    how = f"estimated from {one.measured:,} of the {one.total:,} fits, drawn at random by series"
    if one.measured == one.total:
        how = "measured on all fits"
    print(f"One process, one thread: {one.seconds:.1f} s ({how}). Speed-up {one.seconds / backtest.seconds:.2f}x.")


def print_troubles(panel: Panel, backtest: Backtest) -> None:
    """Print failed fits and warnings, if any, by series and by what was said."""
    if backtest.failures:
        series = {fit.series for fit in backtest.failures}
        print(f"\n{len(backtest.failures)} fits of {len(series)} series failed (all others are unaffected):")
        reasons = Counter((panel.ids[fit.series], text) for fit, text in backtest.failures.items())
        for (name, text), count in reasons.most_common(5):
            print(f"  {count:>4} x {name}: {text}")
    given = sum(outcome.warnings for outcome in backtest.outcomes.values())
    if given:
        print(f"Models gave {given} warnings (their forecasts are finite and were scored like the others).")
