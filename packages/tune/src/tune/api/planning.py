"""Settings become a plan: names become objects, defaults are filled in, the parts are made acquainted."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cloudpickle

from tune.api import environment
from tune.api.directory_names import trial_dirname
from tune.api.earlier import Earlier
from tune.api.location import Location
from tune.api.resources import resource_request
from tune.api.settings import Settings
from tune.api.wrappers import resources_of, trainable_name
from tune.argument_checks import instance, seconds
from tune.callback import Callback
from tune.controller.plan import CheckpointPlan, FailurePlan, LimitPlan, SweepPlan
from tune.schedulers.base import TrialScheduler
from tune.search.base import Searcher
from tune.space import as_space, has_domains
from tune.stopper import coerce_stop
from tune.trainable import Trainable
from tune.trial import Config, ResourceRequest

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_plan(
    settings: Settings, location: Location, earlier: Earlier | None, callbacks: Sequence[Callback]
) -> SweepPlan:
    """Return the plan of a sweep.

    Args:
        settings: what the caller said.
        location: where the experiment is.
        earlier: what there was before, if it is resumed.
        callbacks: all of them, loggers included.

    Raises:
        TypeError: a part of a wrong type.
        ValueError: parts that do not fit together.
    """
    tune, run = settings.tune, settings.run
    num_samples = total_samples_wanted(tune.num_samples, earlier)
    searcher = _searcher(settings, num_samples)
    scheduler = _scheduler(settings)
    stopper, bounds = coerce_stop(run.stop)
    trainable = settings.trainable
    _check_checkpoint_config(settings)
    return SweepPlan(
        name=location.name,
        directory=location.directory,
        storage=location.storage.url,
        space=settings.space,
        metric=_plain(tune.metric),
        mode=_plain(tune.mode),
        num_samples=num_samples,
        searcher=searcher,
        scheduler=scheduler,
        stopper=stopper,
        stop_bounds=bounds,
        resources=_resources(settings),
        # A searcher's own limit keeps it from suggesting; this one also holds for paused trials that go on.
        max_concurrent=tune.max_concurrent_trials or getattr(searcher, "max_concurrent", 0) or None,
        time_budget_s=_seconds(tune.time_budget_s),
        checkpoints=CheckpointPlan(*dataclasses.astuple(run.checkpoint_config)),
        failures=FailurePlan(
            run.failure_config.max_failures, run.failure_config.fail_fast, strict_metric=environment.strict_metrics()
        ),
        restore=settings.restore,
        limits=LimitPlan(_seconds(tune.trial_time_limit_s), _number(tune.trial_memory_limit)),
        callbacks=callbacks,
        seed=tune.seed,
        deterministic=tune.seed is not None if tune.deterministic is None else tune.deterministic,
        trainable_name=trainable_name(trainable),
        trial_prefix=_prefix(tune.seed),
        total_samples=searcher.total_samples(),
        evaluated_params=_evaluated_params(settings, searcher),
        can_save=_can_save(trainable),
        trial_name=tune.trial_name_creator,
        trial_dirname=tune.trial_dirname_creator or trial_dirname(),
        resume=settings.resume if earlier is not None else None,
        space_changed=earlier is not None and earlier.space not in (None, cloudpickle.dumps(settings.space)),
        constraints=tune.constraints,
        resume_hint=f"tune resume {location.storage.url}",
    )


def total_samples_wanted(asked: int | str, earlier: Earlier | None) -> int:
    """Return how many samples there are to be in all.

    A resumed sweep never gets fewer than it was to have: asking for less, or for the same, changes nothing.

    Raises:
        ValueError: more samples of nothing: ``"+50"`` without a sweep to go on with.
    """
    if isinstance(asked, str):
        if earlier is None:
            raise ValueError(f"num_samples={asked!r} adds to an earlier run, and there is none: write a number.")
        return -1 if earlier.num_samples < 0 else earlier.num_samples + int(asked)
    if earlier is None:
        return asked
    return -1 if -1 in (asked, earlier.num_samples) else max(asked, earlier.num_samples)


def _searcher(settings: Settings, num_samples: int) -> Searcher:
    # here: numpy, and with it half of the import time, is needed only by a sweep
    from tune.search import BasicVariantGenerator, ConcurrencyLimiter, create_searcher  # noqa: PLC0415

    tune = settings.tune
    searcher = tune.search_alg
    if searcher is None:
        searcher = BasicVariantGenerator()
    elif isinstance(searcher, str):
        searcher = create_searcher(searcher)
    instance("search_alg", searcher, Searcher, "Or pass the name of one, as 'optuna'.")
    limit = tune.max_concurrent_trials
    if isinstance(searcher, ConcurrencyLimiter) and limit and searcher.max_concurrent != limit:
        raise ValueError(
            f"max_concurrent_trials={limit} contradicts ConcurrencyLimiter(max_concurrent={searcher.max_concurrent}): "
            "leave out one of them."
        )
    taken = searcher.set_search_properties(
        _plain(tune.metric),
        _plain(tune.mode),
        settings.space,
        seed=tune.seed,
        num_samples=num_samples,
        constraints=tune.constraints,
    )
    if not taken and (callable(settings.space) or has_domains(settings.space)):
        raise ValueError(
            f"{settings.caller} got a search space, but its {type(searcher).__name__} has one of its own: leave the "
            "domains out of one of them."
        )
    return searcher


def _scheduler(settings: Settings) -> TrialScheduler:
    from tune.schedulers import FIFOScheduler, create_scheduler  # noqa: PLC0415 - as above
    from tune.schedulers.judging import JudgingScheduler  # noqa: PLC0415

    scheduler = settings.tune.scheduler
    if scheduler is None:
        scheduler = FIFOScheduler()
    elif isinstance(scheduler, str):
        scheduler = create_scheduler(scheduler)
    instance("scheduler", scheduler, TrialScheduler, "Or pass the name of one, as 'asha'.")
    if isinstance(scheduler, JudgingScheduler) and scheduler.constraints is None:
        scheduler.constraints = settings.tune.constraints
    scheduler.set_search_properties(_plain(settings.tune.metric), _plain(settings.tune.mode), seed=settings.tune.seed)
    return scheduler


def _resources(settings: Settings) -> Callable[[Config], ResourceRequest]:
    """Return what a configuration needs: said by the caller, or ``with_resources``, or the class, or one CPU."""
    if settings.resources is not None:
        request = settings.resources
        return lambda config: request
    said = resources_of(settings.trainable)
    if isinstance(said, ResourceRequest):
        return lambda config: said
    default: Callable[[Config], Any] | None = said or getattr(settings.trainable, "default_resource_request", None)

    def of_config(config: Config) -> ResourceRequest:
        resources = None if default is None else default(config)
        return ResourceRequest() if resources is None else resource_request(resources)

    return of_config


def _evaluated_params(settings: Settings, searcher: Searcher) -> Callable[[Config], dict[str, Any]]:
    """Return what picks the searched parameters out of a configuration: by the searcher's space, else the sweep's."""
    own = getattr(searcher, "search_space", None)
    space = None if own is None else own()
    if space is None:
        space = as_space(settings.space)
    return space.evaluated_params


def _check_checkpoint_config(settings: Settings) -> None:
    """Refuse for functions what only classes can do, as Ray does."""
    config = settings.run.checkpoint_config
    if isinstance(settings.trainable, type):
        return
    for name in ("checkpoint_at_end", "checkpoint_frequency"):
        if getattr(config, name):
            raise ValueError(
                f"{name} is for tune.Trainable classes, and {trainable_name(settings.trainable)} is a function: "
                "it saves by tune.report(metrics, checkpoint=...)."
            )


def _can_save(trainable: Any) -> bool | None:
    """Whether a class can be saved; None for functions: only they know."""
    return trainable.can_save() if isinstance(trainable, type) and issubclass(trainable, Trainable) else None


def _prefix(seed: int | None) -> str:
    """Return the first part of trial ids: made of the seed, so that ids are repeatable too, or drawn."""
    return secrets.token_hex(4) if seed is None else f"s{seed}"


def _plain(names: Any) -> str | list[str] | None:
    return names if names is None or isinstance(names, str) else list(names)


def _seconds(value: Any) -> float | None:
    return None if value is None else seconds("a duration", value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
