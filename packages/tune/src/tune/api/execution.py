"""A sweep from settings to results: the place, the plan, the session, the backend, the controller."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tune.api import environment, saved_settings
from tune.api.default_callbacks import SettingsFile, all_callbacks
from tune.api.earlier import Earlier, earlier_run
from tune.api.location import Location, locate
from tune.api.planning import make_plan, total_samples_wanted
from tune.api.results.analysis import ExperimentAnalysis
from tune.api.session import ensure_session
from tune.api.settings import Settings
from tune.api.wrappers import shipped
from tune.controller.loop import run_sweep
from tune.controller.outcome import EndReason, SweepOutcome
from tune.controller.plan import SweepPlan
from tune.errors import TrialFailedError

if TYPE_CHECKING:
    from tune.backend.base import TrialBackend


@dataclass(frozen=True)
class Finished:
    """A sweep that was run."""

    settings: Settings
    location: Location
    outcome: SweepOutcome

    def analysis(self, *, raise_on_failed_trial: bool) -> ExperimentAnalysis:
        """Return what came out.

        Raises:
            TrialFailedError: trials failed, and the caller wants to know.
            BaseException: what ended the sweep: a `CallbackError`, or the trial's own for ``fail_fast="raise"``.
        """
        if self.outcome.error is not None:
            raise self.outcome.error
        if raise_on_failed_trial and self.outcome.failed and self.outcome.ended is not EndReason.INTERRUPTED:
            raise _failure_of(self.outcome)
        return ExperimentAnalysis(
            self.location.storage.url,
            storage_filesystem=self.location.storage.storage.filesystem,
            trials=self.outcome.trials,
            constraints=self.settings.tune.constraints,
        )


def _failure_of(outcome: SweepOutcome) -> TrialFailedError:
    lines = [f"{len(outcome.failed)} of {len(outcome.trials)} trials failed:"]
    for trial in outcome.failed[:10]:
        error = trial.error
        lines.append(f"  {trial}: {trial.status}" + (f": {error.error_type}: {error.message}" if error else ""))
    if len(outcome.failed) > 10:
        lines.append(f"  ... and {len(outcome.failed) - 10} more")
    lines.append(
        f"The results of all are in {outcome.directory}; pass raise_on_failed_trial=False to get them returned, "
        "resume='AUTO+ERRORED' to try the failed ones again."
    )
    return TrialFailedError("\n".join(lines), tuple(trial.trial_id for trial in outcome.failed))


def execute(settings: Settings, location: Location | None = None) -> Finished:
    """Run a sweep.

    Args:
        settings: what the caller said.
        location: where the experiment is, if that is known already.
    """
    location = location or locate(settings)
    earlier = None if settings.resume is None else earlier_run(location.directory)
    settings = _with_total(settings, earlier)
    packed = saved_settings.pack(settings)  # before the plan: searcher and scheduler as they were given
    plan = make_plan(settings, location, earlier, all_callbacks(settings, location.storage))
    _save_settings(packed, plan, resumed=earlier is not None)
    backend = settings.backend or _session_backend(settings, location)
    with location.storage:
        outcome = run_sweep(plan, backend)  # which closes the backend
    return Finished(settings, location, outcome)


def _with_total(settings: Settings, earlier: Earlier | None) -> Settings:
    """Return the settings with the number of samples as a total, also for a later resumption."""
    total = total_samples_wanted(settings.tune.num_samples, earlier)
    return dataclasses.replace(settings, tune=dataclasses.replace(settings.tune, num_samples=total))


def _save_settings(packed: bytes, plan: SweepPlan, *, resumed: bool) -> None:
    if resumed:
        plan.callbacks = [SettingsFile(packed, plan.directory), *plan.callbacks]
    else:
        saved_settings.write_packed(packed, plan.directory)


def _session_backend(settings: Settings, location: Location) -> TrialBackend:
    ensure_session(settings.caller)
    # here: what runs trials in processes is not needed by those who look at results
    from tune.backend.core_backend import session_backend  # noqa: PLC0415

    return session_backend(
        shipped(settings.trainable),
        location.storage,
        reuse_actors=settings.tune.reuse_actors,
        log_to_file=settings.run.log_to_file,
        chdir_to_trial_dir=environment.chdir_to_trial_dir(),
        export_formats=settings.export_formats,
    )
