"""Names for trainables and environments: ``tune.run("my_trainable")``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tune.argument_checks import did_you_mean, function, instance


class Registry:
    """Names of one kind of thing, in this process."""

    def __init__(self, kind: str, remedy: str) -> None:
        self._kind = kind
        self._remedy = remedy
        self._known: dict[str, Any] = {}

    def register(self, name: str, value: Any) -> None:
        """Give `value` a name; a name may be given anew.

        Raises:
            TypeError: the name is not a text.
            ValueError: the name is empty.
        """
        if not instance(f"the name of a {self._kind}", name, str):
            raise ValueError(f"the name of a {self._kind} must not be empty.")
        self._known[name] = value

    def find(self, name: str) -> Any:
        """Return what has this name.

        Raises:
            ValueError: nothing has.
        """
        if name not in self._known:
            listed = ", ".join(map(repr, sorted(self._known))) or "none"
            raise ValueError(
                f"no {self._kind} is registered as {name!r}; registered: {listed}."
                f"{did_you_mean(name, self._known)} {self._remedy}"
            )
        return self._known[name]


trainables: Registry = Registry(
    "trainable", "Register it with tune.register_trainable(name, trainable), or pass it itself."
)
environments: Registry = Registry("environment", "Register it with tune.register_env(name, creator).")


def register_trainable(name: str, trainable: Any, warn: bool = True) -> None:
    """Give a function or `Trainable` class a name, for ``tune.run(name)``.

    Args:
        name: the name; it may be given anew.
        trainable: a function of a config, or a `Trainable` class.
        warn: as in Ray, where it silences warnings; there are none here.

    Raises:
        TypeError: not a trainable.
    """
    del warn
    function("a trainable", trainable, "(config), or a tune.Trainable class")
    trainables.register(name, trainable)


def register_env(name: str, env_creator: Callable[..., Any]) -> None:
    """Give a maker of environments a name, for reinforcement learning.

    Args:
        name: the name; it may be given anew.
        env_creator: ``(config) -> environment``.

    Raises:
        TypeError: not a function.
    """
    environments.register(name, function("env_creator", env_creator, "(config) -> environment"))


def get_env_creator(name: str) -> Callable[..., Any]:
    """Return what `register_env` gave this name.

    Raises:
        ValueError: nothing has it.
    """
    creator: Callable[..., Any] = environments.find(name)
    return creator
