"""``with_parameters`` and ``with_resources``: a trainable with something bound to it.

A wrapped function is a `Bound` function; a wrapped class is a subclass with two attributes more. The values of
``with_parameters`` stay in the driver until a sweep starts: `shipped` then puts each into the object store once and
binds the references in place of the values, so that what is sent to each process of trials is small.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import core
from tune.api.resources import PlacementGroupFactory, resource_request
from tune.trainable import Trainable
from tune.trial import Config, ResourceRequest

_PARAMETERS = "_tune_parameters"
_RESOURCES = "_tune_resources"
_UNBOUND = "_tune_unbound"


class Stored:
    """A value in the object store, fetched when it is used."""

    def __init__(self, ref: core.ObjectRef[Any]) -> None:
        self.ref = ref

    def fetch(self) -> Any:
        """Return the value: arrays are read in place, not copied."""
        return core.get(self.ref)


def _fetched(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.fetch() if isinstance(value, Stored) else value for name, value in parameters.items()}


class Bound:
    """A function trainable with parameters, resources, or both."""

    def __init__(self, function: Callable[..., Any], parameters: Mapping[str, Any], resources: Any) -> None:
        self.function = function
        self.parameters: dict[str, Any] = dict(parameters)
        self.resources = resources
        self.__name__: str = trainable_name(function)
        self.__doc__ = function.__doc__

    def __call__(self, config: Config) -> Any:
        """Run the function with what is bound to it."""
        return self.function(config, **_fetched(self.parameters))


def with_parameters(trainable: Any, **kwargs: Any) -> Any:
    """Bind values, large ones too, to a trainable: each is put into the object store once, not sent with each trial.

    Args:
        trainable: a function that takes them after its config, or a `Trainable` class whose ``setup`` does.
        **kwargs: the values, by name.

    Returns:
        A trainable.

    Raises:
        TypeError: not a trainable, or it does not take these names.
    """
    _check_trainable("with_parameters", trainable)
    _check_takes(trainable, kwargs)
    if isinstance(trainable, type):
        bound = {**getattr(trainable, _PARAMETERS, {}), **kwargs}
        return _subclass(trainable, **{_PARAMETERS: bound})
    if isinstance(trainable, Bound):
        return Bound(trainable.function, {**trainable.parameters, **kwargs}, trainable.resources)
    return Bound(trainable, kwargs, None)


def with_resources(trainable: Any, resources: Any) -> Any:
    """Say what each trial of a trainable needs.

    Args:
        trainable: a function or a `Trainable` class; it is not changed.
        resources: a dict as ``{"cpu": 2}``, a `PlacementGroupFactory`, or a function of the config that returns one
            of these.

    Returns:
        A trainable.

    Raises:
        TypeError: not a trainable, or not resources.
        ValueError: a negative amount.
    """
    _check_trainable("with_resources", trainable)
    if isinstance(resources, Mapping | PlacementGroupFactory | ResourceRequest) or not callable(resources):
        resources = resource_request(resources)
    if isinstance(trainable, type):
        return _subclass(trainable, **{_RESOURCES: resources})
    if isinstance(trainable, Bound):
        return Bound(trainable.function, trainable.parameters, resources)
    return Bound(trainable, {}, resources)


def resources_of(trainable: Any) -> Any:
    """Return what ``with_resources`` bound: a `ResourceRequest` or a function of the config; None if nothing."""
    if isinstance(trainable, Bound):
        return trainable.resources
    resources = inspect.getattr_static(trainable, _RESOURCES, None)
    return getattr(resources, "__func__", resources)  # a function bound to a class is kept as a staticmethod


def shipped(trainable: Any) -> Any:
    """Return the trainable with references in place of its parameters' values. Needs a running session."""
    if isinstance(trainable, Bound):
        return Bound(trainable.function, _stored(trainable.parameters), None) if trainable.parameters else trainable
    parameters = getattr(trainable, _PARAMETERS, None)
    if not parameters:
        return trainable
    return _subclass(trainable, **{_PARAMETERS: _stored(parameters)})


def _stored(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, Stored) else Stored(core.put(value)) for name, value in parameters.items()}


def _subclass(trainable: type, **attributes: Any) -> type:
    """Return a subclass of the class as it was before anything was bound, with all that is bound now."""
    unbound: type = getattr(trainable, _UNBOUND, trainable)
    bound = {name: getattr(trainable, name) for name in (_PARAMETERS, _RESOURCES) if hasattr(trainable, name)}
    bound |= attributes
    if callable(bound.get(_RESOURCES)):
        bound[_RESOURCES] = staticmethod(bound[_RESOURCES])
    namespace: dict[str, Any] = {
        **bound,
        _UNBOUND: unbound,
        "__module__": unbound.__module__,
        "__doc__": unbound.__doc__,
    }
    if bound.get(_PARAMETERS):
        namespace["setup"] = _setup_of(unbound)
    return type(unbound.__name__, (unbound,), namespace)


def _setup_of(unbound: Any) -> Callable[..., Any]:
    def setup(self: Any, config: Config) -> Any:
        return unbound.setup(self, config, **_fetched(getattr(self, _PARAMETERS)))

    return setup


def trainable_name(trainable: Any) -> str:
    """Return a name for tables and directories: that of the function or class."""
    name: str | None = getattr(trainable, "__name__", None)
    if name is None and hasattr(trainable, "func"):  # functools.partial
        return trainable_name(trainable.func)
    if name is None:
        return type(trainable).__name__
    return "lambda" if name == "<lambda>" else name


def is_trainable(trainable: Any) -> bool:
    """Tell whether something is a function, or a `Trainable` class."""
    if isinstance(trainable, type):
        return issubclass(trainable, Trainable)
    return callable(trainable)


def _check_trainable(caller: str, trainable: Any) -> None:
    if not is_trainable(trainable):
        raise TypeError(
            f"tune.{caller} takes a function of a config or a tune.Trainable class; got {trainable!r} "
            f"({type(trainable).__name__})."
        )


def _check_takes(trainable: Any, kwargs: Mapping[str, Any]) -> None:
    """Refuse parameters that the trainable would not take, now, not in each trial."""
    function = getattr(trainable, "setup" if isinstance(trainable, type) else "function", trainable)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some C functions do not say
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    missing = [name for name in kwargs if name not in parameters]
    if missing:
        what = f"{trainable.__name__}.setup" if isinstance(trainable, type) else trainable_name(trainable)
        raise TypeError(
            f"{what} takes no parameter {', '.join(map(repr, missing))}; it takes ({', '.join(parameters)}). "
            "Add it to the signature after the config."
        )
