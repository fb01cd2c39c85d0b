"""The commands."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from tune.api.results.analysis import ExperimentAnalysis
from tune.api.results.nested import flatten
from tune.api.results.result import trial_metrics
from tune.api.results.scores import SCOPES
from tune.cli import output
from tune.cli.experiments import all_in, analyse, find
from tune.errors import TuneError
from tune.result import lookup, metrics_only
from tune.storage import default_storage_path
from tune.trial import Trial

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="tune",
    help="Look at experiments of skate-tune, find the best trial, go on with a sweep.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ExperimentArgument = Annotated[
    str, typer.Argument(help="The experiment's directory, its URL, or its name in the default storage path.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _reporting(command: Callable[P, R]) -> Callable[P, R]:
    """Print the errors that a user can do something about as one line, and exit with 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (TuneError, ValueError, TypeError, OSError, ImportError) as error:
            sys.stderr.write(f"tune: {error}\n")
            raise typer.Exit(1) from error

    return wrapped


@app.command("list")
@_reporting
def list_experiments(
    directory: Annotated[
        Path | None, typer.Argument(help="Where to look; by default ~/skate_results, or SKATE_TUNE_RESULTS.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the experiments in a directory, newest first."""
    place = directory or default_storage_path()
    if directory is not None and not place.is_dir():
        raise FileNotFoundError(f"there is no directory {place}")
    rows = [_summary(path) for path in all_in(place)]
    if as_json:
        output.print_json(rows)
    elif not rows:
        output.say(f"no experiments in {place}")
    else:
        columns = ("name", "state", "trials", "errors", "best", "metric", "time")
        output.print_table(columns, [[row[column] for column in columns] for row in rows])


def _summary(path: Path) -> dict[str, Any]:
    try:
        analysis = ExperimentAnalysis(path)
    except TuneError as error:
        return {"name": path.name, "state": f"unreadable: {error}", **dict.fromkeys(("trials", "errors", "best"))} | {
            "metric": None,
            "time": None,
            "path": str(path),
        }
    best = None
    if analysis.default_metric and analysis.default_mode and analysis.trials:
        trial = analysis.get_best_trial()
        best = None if trial is None else lookup(trial.last_result, analysis.default_metric)
    return {
        "name": path.name,
        "state": analysis.state,
        "trials": len(analysis.trials),
        "errors": sum(trial.status.errored for trial in analysis.trials),
        "best": best,
        "metric": analysis.default_metric,
        "time": output.duration(sum(trial.run_time for trial in analysis.trials)),
        "path": str(path),
    }


@app.command()
@_reporting
def show(
    experiment: ExperimentArgument,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many trials, the best ones first.")] = 20,
    sort: Annotated[str | None, typer.Option("--sort", help="A metric to sort by; default: the sweep's.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only failed trials, with their tracebacks.")] = False,
    as_json: Json = False,
) -> None:
    """Show the trials of an experiment: parameters, results, errors."""
    analysis = analyse(experiment)
    if as_json:
        output.print_json([_trial_record(trial, errors=errors) for trial in _shown(analysis, sort, errors)])
        return
    trials = _shown(analysis, sort, errors)
    output.say(f"{Path(analysis.experiment_path).name}: {analysis.state}, {_counts(analysis)}")
    if errors:
        for trial in trials[:limit]:
            _print_error(trial)
    elif trials:
        _print_trials(trials[:limit])
    if len(trials) > limit:
        output.say(f"... and {len(trials) - limit} more (--limit {len(trials)} shows all)")


def _shown(analysis: ExperimentAnalysis, sort: str | None, errors: bool) -> list[Trial]:
    if errors:
        return [trial for trial in analysis.trials if trial.status.errored]
    metric = sort or analysis.default_metric
    if metric is None:
        return analysis.trials
    highest_first = analysis.default_mode == "max"

    def key(trial: Trial) -> tuple[bool, float]:
        value = lookup(trial.last_result, metric)
        known = isinstance(value, int | float) and value == value  # noqa: PLR0124 - not NaN
        return (not known, (-value if highest_first else value) if known else 0.0)

    return sorted(analysis.trials, key=key)


def _counts(analysis: ExperimentAnalysis) -> str:
    counts = analysis.stats()["status"]
    return f"{len(analysis.trials)} trials" + (
        f" ({', '.join(f'{count} {status}' for status, count in counts.items())})" if counts else ""
    )


def _print_trials(trials: list[Trial]) -> None:
    params = list(dict.fromkeys(name for trial in trials for name in trial.evaluated_params))
    metrics = list(dict.fromkeys(name for trial in trials for name in flatten(metrics_only(trial.last_result))))
    rows = [
        [
            trial.trial_id,
            str(trial.status),
            *(trial.evaluated_params.get(name) for name in params),
            *(lookup(trial.last_result, name) for name in metrics),
            trial.iteration,
            output.duration(trial.run_time),
            trial.error.message.partition("\n")[0][:60] if trial.error else None,
        ]
        for trial in trials
    ]
    columns = ["trial", "status", *params, *metrics, "iter", "time", "error"]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    output.print_table(columns, rows)


def _print_error(trial: Trial) -> None:
    error = trial.error
    output.say(f"\n{trial} ({trial.status}, {len(trial.failures)} failures, {trial.dirname})")
    if error is not None:
        output.say(f"{error.error_type}: {error.message}")
        if error.traceback:
            output.say(error.traceback.rstrip())


def _trial_record(trial: Trial, *, errors: bool = False) -> dict[str, Any]:
    record: dict[str, Any] = {
        "trial_id": trial.trial_id,
        "status": str(trial.status),
        "params": trial.evaluated_params,
        "result": metrics_only(trial.last_result),
        "training_iteration": trial.iteration,
        "run_time": trial.run_time,
        "dirname": trial.dirname,
    }
    if trial.error is not None:
        record["error"] = {"type": trial.error.error_type, "message": trial.error.message}
        if errors:
            record["error"]["traceback"] = trial.error.traceback
    return record


@app.command()
@_reporting
def best(
    experiment: ExperimentArgument,
    metric: Annotated[str | None, typer.Option("--metric", help="Default: the sweep's.")] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="min or max; default: the sweep's.")] = None,
    scope: Annotated[str, typer.Option("--scope", help=f"What of a trial counts: {', '.join(SCOPES)}.")] = "last",
    as_json: Json = False,
) -> None:
    """Show the best trial: its parameters, its last result, its newest checkpoint."""
    analysis = analyse(experiment)
    trial = analysis.get_best_trial(metric, mode, scope)
    if trial is None:
        raise ValueError(f"no trial of {experiment} has reported a number as {metric or analysis.default_metric!r}")
    checkpoint = analysis.get_last_checkpoint(trial)
    if as_json:
        output.print_json(
            {
                **_trial_record(trial),
                "config": trial.config,
                "result": trial_metrics([trial])[trial.trial_id],
                "checkpoint": None if checkpoint is None else checkpoint.uri,
            }
        )
        return
    output.say(f"{trial} ({trial.status})")
    rows = [*flatten({"config": trial.config}).items(), *flatten(metrics_only(trial.last_result)).items()]
    rows += [("training_iteration", trial.iteration), ("directory", analysis.result_of(trial).path)]
    if checkpoint is not None:
        rows.append(("checkpoint", checkpoint.uri))
    output.print_table(("name", "value"), rows)


@app.command()
@_reporting
def resume(
    experiment: ExperimentArgument,
    errored: Annotated[bool, typer.Option("--errored", help="Also go on with failed trials.")] = False,
    restart_errored: Annotated[bool, typer.Option("--restart-errored", help="Also start failed trials anew.")] = False,
    num_samples: Annotated[
        str | None, typer.Option("--num-samples", help="The new total, or +50 for so many more.")
    ] = None,
) -> None:
    """Go on with an interrupted experiment, or with a finished one if there is more to do.

    Exits with 1 if trials have failed.
    """
    from tune.api.tuner import Tuner  # noqa: PLC0415 - and with it all that runs trials

    samples: int | str | None = num_samples
    if num_samples is not None and num_samples.lstrip("-").isdigit():
        samples = int(num_samples)
    # the trainable's module may lie beside where the sweep was started, as it did then
    sys.path.insert(0, str(Path.cwd()))
    tuner = Tuner.restore(
        find(experiment), resume_errored=errored, restart_errored=restart_errored, num_samples=samples
    )
    grid = tuner.fit()
    output.say(f"{grid.experiment_path}: {grid.num_terminated} trials ended well, {grid.num_errors} failed")
    if grid.num_errors:
        raise typer.Exit(1)


@app.command()
@_reporting
def plot(
    experiment: ExperimentArgument,
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: report.html in the experiment's directory.")
    ] = None,
) -> None:
    """Write a page with parallel coordinates, importance of parameters and learning curves."""
    from tune.cli.report import write_page_of  # noqa: PLC0415 - plotly, for those who want to see it

    output.say(str(write_page_of(analyse(experiment), output_file)))
