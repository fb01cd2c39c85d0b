"""The rules of a sweep, from its plan."""

from __future__ import annotations

from tune.controller.plan import SweepPlan
from tune.controller.records import Rules
from tune.schedulers.base import TrialScheduler

_PLAIN = (str, int, float, bool, type(None))


def rules_of(plan: SweepPlan, earlier: Rules | None = None) -> Rules:
    """Return what of a plan decides what becomes of trials.

    Args:
        plan: of the driver that begins.
        earlier: the rules of the sweep's first driver: what names trials and makes their seeds stays.

    Raises:
        ValueError: the plan contradicts itself.
    """
    metrics = _listed(plan.metric)
    modes = _listed(plan.mode) or ("max",)
    if len(modes) == 1:
        modes *= len(metrics)
    if len(modes) != len(metrics):
        raise ValueError(f"there are {len(metrics)} metrics and {len(modes)} modes: give one for each, or one for all")
    if plan.scheduler.needs_checkpoints and plan.can_save is False:
        raise ValueError(
            f"{type(plan.scheduler).__name__} pauses trials and goes on with them, and {plan.trainable_name} cannot be "
            "saved: give it save_checkpoint and load_checkpoint, or use a scheduler that only stops trials"
        )
    total = plan.total_samples if plan.total_samples is not None else plan.searcher.total_samples()
    checkpoints, failures = plan.checkpoints, plan.failures
    return Rules(
        name=plan.name,
        metrics=metrics,
        modes=modes,
        num_samples=plan.num_samples,
        total_samples=total,
        stop_bounds=plan.stop_bounds,
        max_concurrent=plan.max_concurrent,
        time_budget_s=plan.time_budget_s,
        num_to_keep=checkpoints.num_to_keep,
        score_attribute=checkpoints.score_attribute,
        score_order=checkpoints.score_order,
        max_failures=failures.max_failures,
        fail_fast=bool(failures.fail_fast),
        strict_metric=failures.strict_metric,
        seed=plan.seed if earlier is None else earlier.seed,
        ordered=_needs_order(plan) if earlier is None else earlier.ordered,
        trial_prefix=plan.trial_prefix if earlier is None else earlier.trial_prefix,
        trainable_name=plan.trainable_name,
        searcher=type(plan.searcher).__name__,
        scheduler=type(plan.scheduler).__name__,
        scheduler_parameters=parameters(plan.scheduler),
    )


def _listed(names: str | list[str] | None) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)


def _needs_order(plan: SweepPlan) -> bool:
    """Tell whether the order of events could make a difference to what is tried."""
    plain = type(plan.scheduler).on_trial_result is TrialScheduler.on_trial_result
    return plan.deterministic and (plan.searcher.adaptive or not plain or plan.stopper is not None)


def parameters(scheduler: TrialScheduler) -> str:
    """Return a scheduler's type and parameters as text: its public attributes that are plain values.

    The seed is left out: a sweep that goes on keeps its own.
    """
    values = {
        name: value
        for name, value in sorted(vars(scheduler).items())
        if not name.startswith("_") and name != "seed" and isinstance(value, _PLAIN)
    }
    return f"{type(scheduler).__qualname__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"
