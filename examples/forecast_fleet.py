"""Back-test thousands of real forecasting models in parallel, keep the best per series, forecast the next year.

``python examples/forecast_fleet.py`` reads 148 monthly series of U.S. employment, trains six models on each of them
at four rolling origins (3,552 fits, every one a task), keeps the scores in a leaderboard actor, trains each series'
winner once more on all of its data, and writes forecasts with intervals, the fitted models and a report. A fit that
fails is counted and reported and costs nobody else anything. See docs/guides/forecasting.md for a walk-through.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
from fleet.backtest import Backtest, Outcome, Plan, learn_bands, run_fit, time_one_process
from fleet.leaderboard import Fit, Leaderboard, Standing
from fleet.models import BASELINE, MODELS, fit_and_forecast
from fleet.panel import Panel, PanelError, read_panel
from fleet.progress import progress
from fleet.results import SeriesForecast, summarise, write_forecasts, write_leaderboard, write_models
from fleet.scoring import LEVELS, seasonal_scale
from fleet.summary import print_accuracy, print_times, print_troubles
from numpy.typing import NDArray

import core as ray

DATA = Path(__file__).parent / "data" / "us_employment.parquet"
#: Every process uses one thread, so that processes are compared with processes.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

backtest_task = ray.remote(run_fit)


@ray.remote
def train_winner(panel: Panel, series: int, model: str, horizon: int) -> tuple[bytes, NDArray[np.float64]]:
    """Train ``model`` on the whole series; return it serialized, so that the driver need not import its library."""
    import joblib  # the driver serializes no models

    winner = MODELS[model]()
    forecast = fit_and_forecast(winner, panel.series(series), horizon)
    buffer = io.BytesIO()
    joblib.dump(winner, buffer, compress=3)
    return buffer.getvalue(), forecast


def run_backtest(panel: Panel, plan: Plan, board: ray.ActorHandle[Leaderboard], *, quiet: bool) -> Backtest:
    """Submit every fit as a task, report scores to the leaderboard as they come, and wait for all of them."""
    fits = plan.fits(panel)
    outcomes: dict[Fit, Outcome] = {}
    failures: dict[Fit, str] = {}
    first_result_after = 0.0
    started = time.perf_counter()
    shared_panel = ray.put(panel)  # one copy in shared memory, read by every task where it lies
    fit_of = {backtest_task.remote(shared_panel, fit, plan): fit for fit in fits}
    pending = list(fit_of)
    shown = progress(len(fits), "fits", quiet=quiet)
    try:
        while pending:
            ready, pending = ray.wait(pending, num_returns=min(len(pending), 25), timeout=0.25)
            finished = collect({ref: fit_of.pop(ref) for ref in ready}, failures)
            outcomes.update(finished)
            board.report.remote([outcome.score for outcome in finished.values()])
            if finished and not first_result_after:
                first_result_after = seconds_since_process_start()
            shown.update(len(fits) - len(pending), leader(ray.get(board.standings.remote())))
    finally:
        shown.close()
    return Backtest(outcomes, failures, time.perf_counter() - started, first_result_after)


def collect(ready: Mapping[ray.ObjectRef[Outcome], Fit], failures: dict[Fit, str]) -> dict[Fit, Outcome]:
    """Fetch finished tasks one by one, so that a failed fit is an entry in the report and not the end of the run."""
    finished = {}
    for ref, fit in ready.items():
        try:
            finished[fit] = ray.get(ref)
        except ray.exceptions.RayError as error:
            failures[fit] = last_line(error)
    return finished


def last_line(error: BaseException) -> str:
    """Return the line of a remote error that says what happened (its text ends in it)."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def leader(standings: Sequence[Standing]) -> str:
    """Say who leads the leaderboard."""
    if not standings or np.isnan(standings[0].mase_selection):
        return ""
    return f"leader {standings[0].model}, MASE {standings[0].mase_selection:.3f}"


def seconds_since_process_start() -> float:
    """Return the age of this process: what the user has waited since pressing return."""
    return time.time() - float(psutil.Process().create_time())


def forecast_winners(panel: Panel, plan: Plan, winners: Mapping[int, str], backtest: Backtest) -> list[SeriesForecast]:
    """Train the winners on all data (a task each); intervals come from the back-test's errors."""
    shared_panel = ray.put(panel)
    refs = [train_winner.remote(shared_panel, series, model, plan.horizon) for series, model in winners.items()]
    # The final intervals use every origin; those of the hold-out only what was known before it.
    bands = learn_bands(panel, winners, backtest.outcomes, range(plan.origins))
    holdout_bands = learn_bands(panel, winners, backtest.outcomes, range(plan.holdout))
    forecasts = []
    for ref, (series, model_name) in zip(refs, winners.items(), strict=True):
        try:
            model, forecast = ray.get(ref)
        except ray.exceptions.RayError as error:
            backtest.failures[Fit(series, model_name, plan.origins)] = last_line(error)
            continue
        name, values = panel.ids[series], panel.series(series)
        scale = seasonal_scale(values)
        holdout = backtest.outcomes[Fit(series, model_name, plan.holdout)]
        naive = backtest.outcomes.get(Fit(series, BASELINE, plan.holdout))
        forecasts.append(
            SeriesForecast(
                series_id=name,
                title=panel.titles[series],
                model_name=model_name,
                months=panel.months(series, start=values.size, count=plan.horizon),
                forecast=forecast,
                half_widths={level: bands.half_width(name, level, scale) for level in LEVELS},
                holdout_forecast=holdout.forecast,
                holdout_actual=holdout.actual,
                holdout_half_widths={level: holdout_bands.half_width(name, level, holdout.scale) for level in LEVELS},
                holdout_mase=holdout.score.mase,
                holdout_smape=holdout.score.smape,
                holdout_naive_mase=naive.score.mase if naive else float("nan"),
                model=model,
            )
        )
    return forecasts


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--series", type=int, help="how many series, evenly spaced over the panel (default: all)")
    parser.add_argument("--horizon", type=int, default=12, help="months to forecast and between origins (default: 12)")
    parser.add_argument("--origins", type=int, default=4, help="rolling origins; the last is the hold-out (default: 4)")
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), choices=list(MODELS), metavar="MODEL", help=", ".join(MODELS)
    )
    parser.add_argument("--data", type=Path, default=DATA, help="panel in long form (default: us_employment.parquet)")
    parser.add_argument("--out", type=Path, default=Path("out/forecast_fleet"), help="folder for the results")
    parser.add_argument("--cpus", type=int, default=os.cpu_count(), help="worker CPUs (default: all)")
    parser.add_argument("--full-baseline", action="store_true", help="time one process on all fits, not on a sample")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors, time no baseline")
    options = parser.parse_args(arguments)
    for name, least in (("series", 1), ("horizon", 1), ("origins", 2), ("cpus", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be at least {least}, got {value}")
    return options


def run(options: argparse.Namespace) -> int:
    """Do the whole job; return the exit status (1 when not one series could be forecast)."""
    panel = read_panel(options.data)
    panel = panel.evenly_spaced(options.series or len(panel))
    # The baseline always takes part: everything is measured against it.
    plan = Plan(tuple(dict.fromkeys([BASELINE, *options.models])), options.origins, options.horizon)
    if not options.quiet:
        shape = f"{len(panel)} series x {len(plan.models)} models x {plan.origins} origins"
        print(f"{shape} = {len(plan.fits(panel)):,} fits", flush=True)
    ray.init(num_cpus=options.cpus)
    board = ray.remote(Leaderboard).options(num_cpus=0).remote(plan.holdout)
    backtest = run_backtest(panel, plan, board, quiet=options.quiet)
    winners = ray.get(board.winners.remote())
    standings = ray.get(board.standings.remote())
    forecasts = forecast_winners(panel, plan, winners, backtest) if winners else []
    if forecasts:
        write_results(panel, forecasts, standings, options.out)
    if not options.quiet:
        if forecasts:
            print_accuracy(standings, Counter(item.model_name for item in forecasts), summarise(forecasts))
        print_troubles(panel, backtest)
    if not forecasts:
        print("error: no series could be forecast", file=sys.stderr)
        return 1
    if not options.quiet:
        print_times(backtest, time_one_process(panel, plan, full=options.full_baseline), options.cpus)
        print(f"\nForecasts, leaderboard, {len(forecasts)} fitted models and report.html are in {options.out}/")
    return 0


def write_results(
    panel: Panel, forecasts: Sequence[SeriesForecast], standings: Sequence[Standing], folder: Path
) -> None:
    """Write every file of the run into ``folder``."""
    from fleet.report import write_report  # matplotlib takes most of a second to import and is needed only now

    folder.mkdir(parents=True, exist_ok=True)
    wins = Counter(item.model_name for item in forecasts)
    write_forecasts(forecasts, folder)
    write_leaderboard(standings, wins, folder)
    write_models(forecasts, folder)
    write_report(panel, forecasts, standings, folder)


def main() -> int:
    """Run the program; Ctrl-C ends it with status 130 and leaves no process behind."""
    options = parse_arguments()
    os.environ.update(ONE_THREAD)  # before init: workers inherit it
    try:
        return run(options)
    except PanelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
