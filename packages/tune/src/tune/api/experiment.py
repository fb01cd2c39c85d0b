"""`Experiment`: the description of a sweep as an object."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tune.api.configs import CheckpointConfig, SyncConfig
from tune.api.resources import PlacementGroupFactory
from tune.api.settings import settings_of
from tune.argument_checks import did_you_mean
from tune.trial import Trial

#: defaults that are neither None nor False
_DEFAULTS: dict[str, Any] = {"num_samples": 1, "max_failures": 0}


class Experiment:
    """A trainable with what to search and where: what ``tune.run`` takes in place of a trainable.

    The arguments mean what those of ``tune.run`` mean; `run` is the trainable. Those that are given go before those of
    the same name given to ``tune.run``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an argument with a wrong value.
    """

    def __init__(
        self,
        name: str | None,
        run: Callable[..., Any] | type | str,
        *,
        stop: Any = None,
        time_budget_s: float | datetime.timedelta | None = None,
        config: dict[str, Any] | Callable[[Any], dict[str, Any] | None] | None = None,
        resources_per_trial: Mapping[str, Any] | PlacementGroupFactory | None = None,
        num_samples: int | str = 1,
        storage_path: str | Path | None = None,
        storage_filesystem: Any = None,
        sync_config: SyncConfig | None = None,
        checkpoint_config: CheckpointConfig | None = None,
        trial_name_creator: Callable[[Trial], str] | None = None,
        trial_dirname_creator: Callable[[Trial], str] | None = None,
        log_to_file: bool | str | Sequence[str] = False,
        export_formats: Sequence[str] | None = None,
        max_failures: int = 0,
        restore: str | Path | None = None,
    ) -> None:
        given = dict(locals())  # the first statement: here they are the arguments and nothing else
        del given["self"], given["run"]
        self.run = run
        #: the arguments that differ from their defaults, by name
        self.spec: dict[str, Any] = {
            argument: value
            for argument, value in given.items()
            if not (value is None or value is False or value == _DEFAULTS.get(argument))
        }
        settings_of("tune.Experiment(...)", run, **self.spec)  # checks them here, not when it is run

    @classmethod
    def from_json(cls, name: str, spec: Mapping[str, Any]) -> Experiment:
        """Return the experiment that a dict describes: ``{"run": trainable, "num_samples": 10, ...}``.

        Raises:
            TypeError: an unknown key.
            ValueError: no key ``"run"``.
        """
        arguments = dict(spec)
        if "run" not in arguments:
            raise ValueError(f"the experiment {name!r} has no 'run': its trainable, or the name of one.")
        run = arguments.pop("run")
        known = list(inspect.signature(cls).parameters)
        for key in arguments:
            if key not in known:
                raise TypeError(f"the experiment {name!r} has an unknown key {key!r}.{did_you_mean(key, known)}")
        for key, kind in (("checkpoint_config", CheckpointConfig), ("sync_config", SyncConfig)):
            if isinstance(arguments.get(key), Mapping):
                arguments[key] = kind(**arguments[key])
        return cls(name, run, **arguments)

    @property
    def name(self) -> str | None:
        """The experiment's name; None for one made when it is run."""
        return self.spec.get("name")

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, {self.run!r})"
