"""Everything a caller can say about a sweep, in one record: what ``tune.run`` and `Tuner` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tune.api.configs import (
    CheckpointConfig,
    FailureConfig,
    ResumeConfig,
    RunConfig,
    SyncConfig,
    TrialResume,
    TuneConfig,
)
from tune.api.registry import trainables
from tune.api.resources import resource_request
from tune.api.wrappers import is_trainable, resources_of
from tune.argument_checks import did_you_mean, instance
from tune.controller.plan import ResumePlan
from tune.trial import ResourceRequest

if TYPE_CHECKING:
    from tune.backend.base import TrialBackend


@dataclass
class Settings:
    """A sweep as the caller described it, checked part by part; `tune.api.planning` makes a plan of it."""

    trainable: Any
    #: a dict with domains in it, or a function of a trial
    space: Any = field(default_factory=dict)
    tune: TuneConfig = field(default_factory=TuneConfig)
    run: RunConfig = field(default_factory=RunConfig)
    #: None: what the trainable says, and without that one CPU
    resources: ResourceRequest | None = None
    export_formats: tuple[str, ...] = ()
    #: a checkpoint that every trial starts from
    restore: str | None = None
    #: None: actors
    backend: TrialBackend | None = None
    #: what happens to an earlier run's trials; None starts anew
    resume: ResumePlan | None = None
    #: the call, for messages: ``tune.run(...)``
    caller: str = "tune.run(...)"

    def __post_init__(self) -> None:
        if isinstance(self.trainable, str):
            self.trainable = trainables.find(self.trainable)
        check_trainable(self.caller, self.trainable)
        if self.resources is not None and resources_of(self.trainable) is not None:
            raise ValueError(
                f"{self.caller}: resources_per_trial={dict(self.resources.total)} contradicts what "
                "tune.with_resources() bound to the trainable: leave out one of them."
            )


def settings_of(
    caller: str,
    trainable: Any,
    *,
    name: str | None = None,
    config: Any = None,
    stop: Any = None,
    resources_per_trial: Any = None,
    storage_path: Any = None,
    storage_filesystem: Any = None,
    checkpoint_config: CheckpointConfig | None = None,
    verbose: int | None = None,
    progress_reporter: Any = None,
    log_to_file: Any = False,
    sync_config: SyncConfig | None = None,
    export_formats: Any = None,
    max_failures: int = 0,
    fail_fast: bool | str = False,
    restore: Any = None,
    resume: Any = None,
    resume_config: ResumeConfig | None = None,
    callbacks: Any = None,
    backend: TrialBackend | None = None,
    **tune: Any,
) -> Settings:
    """Return the record for arguments of ``tune.run``, those of `TuneConfig` among them as `tune`.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an argument with a wrong value.
    """
    return Settings(
        trainable,
        space=check_space("config", config),
        tune=TuneConfig(**tune),
        run=RunConfig(
            name=name,
            storage_path=storage_path,
            storage_filesystem=storage_filesystem,
            failure_config=FailureConfig(max_failures=max_failures, fail_fast=fail_fast),
            checkpoint_config=checkpoint_config,  # type: ignore[arg-type]  # None for the default, as documented
            sync_config=sync_config,  # type: ignore[arg-type]
            verbose=verbose,
            stop=stop,
            callbacks=callbacks,
            progress_reporter=progress_reporter,
            log_to_file=log_to_file,
        ),
        resources=None if resources_per_trial is None else resource_request(resources_per_trial),
        export_formats=check_export_formats(export_formats),
        restore=None if restore is None else str(restore),
        backend=backend,
        resume=resume_plan(resume, resume_config),
        caller=caller,
    )


def check_trainable(caller: str, trainable: Any) -> None:
    """Refuse what cannot be a trainable.

    Raises:
        TypeError: neither a function nor a class `Trainable`.
    """
    if is_trainable(trainable):
        return
    if isinstance(trainable, type):
        raise TypeError(
            f"{caller}: the class {trainable.__name__} must derive from tune.Trainable and have setup() and step()."
        )
    raise TypeError(
        f"{caller}: the trainable must be a function of a config, a tune.Trainable class, or the name of one given by "
        f"tune.register_trainable; got {trainable!r} ({type(trainable).__name__})."
    )


def check_space(name: str, space: Any) -> Any:
    """Return the space: a dict, or a function of a trial.

    Raises:
        TypeError: neither, or keys that are not names.
    """
    if space is None:
        return {}
    if callable(space):
        return space
    if not isinstance(space, Mapping):
        to_dict = getattr(space, "to_dict", None)
        if to_dict is None:
            raise TypeError(
                f"{name} must be a dict of parameters such as {{'lr': tune.loguniform(1e-4, 1e-1)}}; got {space!r} "
                f"({type(space).__name__})."
            )
        space = to_dict()
    for key in space:
        if not isinstance(key, str):
            raise TypeError(f"{name} must have names as keys; got {key!r} ({type(key).__name__}).")
    return dict(space)


def check_export_formats(formats: Any) -> tuple[str, ...]:
    """Return names of formats for ``Trainable.export_model``.

    Raises:
        TypeError: not a list of names.
    """
    if formats is None:
        return ()
    if isinstance(formats, str) or not isinstance(formats, Sequence):
        raise TypeError(f"export_formats must be a list of names such as ['onnx']; got {formats!r}.")
    return tuple(instance("each of export_formats", name, str) for name in formats)


_SUFFIXES = {
    "ERRORED": {"errored": "RESUME"},
    "RESTART_ERRORED": {"errored": "RESTART"},
    "ERRORED_ONLY": {"unfinished": "SKIP", "errored": "RESUME"},
    "RESTART_ERRORED_ONLY": {"unfinished": "SKIP", "errored": "RESTART"},
}


def resume_plan(resume: bool | str | None, config: ResumeConfig | None) -> ResumePlan | None:
    """Return what happens to an earlier run's trials; None if nothing is resumed.

    Args:
        resume: None or False, True, ``"AUTO"``, and the latter with suffixes as ``"AUTO+ERRORED"``.
        config: says it in full; None takes what `resume` says.

    Raises:
        TypeError: not of these types.
        ValueError: an unknown word, or both `config` and suffixes.
    """
    if config is not None:
        instance("resume_config", config, ResumeConfig)
        if resume is False:
            raise ValueError("resume_config says how to resume, and resume=False not to: leave out one of them.")
        if isinstance(resume, str) and "+" in resume:
            raise ValueError(f"resume={resume!r} and resume_config both say how to resume: leave out one of them.")
        return plan_of(config)
    if resume is None or resume is False:
        return None
    if resume is True:
        return ResumePlan()
    if not isinstance(resume, str):
        raise TypeError(f"resume must be True, False, 'AUTO' or as 'AUTO+ERRORED'; got {resume!r}.")
    word, *suffixes = resume.split("+")
    if word != "AUTO":
        raise ValueError(f"resume must be True, False, 'AUTO' or as 'AUTO+ERRORED'; got {resume!r}.")
    chosen: dict[str, str] = {}
    for suffix in suffixes:
        if suffix not in _SUFFIXES:
            known = ", ".join(f"'+{name}'" for name in _SUFFIXES)
            raise ValueError(f"resume={resume!r}: suffixes are {known}.{did_you_mean(suffix, _SUFFIXES)}")
        chosen |= _SUFFIXES[suffix]
    return ResumePlan(**chosen)


def plan_of(config: ResumeConfig) -> ResumePlan:
    """Return a `ResumeConfig` as the controller's record."""

    def name(kind: TrialResume | str) -> str:
        return TrialResume(kind).name

    return ResumePlan(finished=name(config.finished), unfinished=name(config.unfinished), errored=name(config.errored))
