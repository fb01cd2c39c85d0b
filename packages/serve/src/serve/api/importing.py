"""From an import path to an application: ``module:attribute``, which may be a function that builds one."""

from __future__ import annotations

import importlib
import inspect
import re
import traceback
import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from serve.api.deployment import Application, Deployment

#: frames of a traceback that are none of the user's business
_NOT_THE_USERS = re.compile(r"^<frozen importlib|/importlib/__init__\.py$|/serve/api/\w+\.py$|/core/worker/\w+\.py$")


class LoadError(ImportError):
    """An application cannot be had from its import path."""


def load(import_path: str, args: dict[str, Any] | None = None) -> Application:
    """Return the application at an import path.

    Args:
        import_path: ``module:attribute``, or Ray's older ``module.attribute``. The attribute is an application, a
            deployment that needs no arguments, or a function that returns an application.
        args: for that function. It takes them as one dictionary, or as the pydantic model that its only parameter is
            annotated with, so that they are checked and converted; a function without parameters takes none.

    Raises:
        ImportError: there is no such module.
        AttributeError: it has no such attribute.
        TypeError: the attribute is none of the above, or ``args`` are missing or of no use.
        ValueError: the path is not of the form, or ``args`` are not what the function's model wants.
    """
    module_name, attribute = _split(import_path)
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        found = getattr(found, part)
    if isinstance(found, Deployment):
        found = found.bind()
    elif callable(found) and not isinstance(found, Application):
        return _checked(_call(found, import_path, args or {}), import_path)
    if args:
        names = ", ".join(args)
        raise TypeError(f"{import_path} is no function, so it takes no arguments; given were {names}")
    return _checked(found, import_path)


def load_or_explain(import_path: str, args: dict[str, Any] | None = None) -> Application:
    """Return the application at an import path, as `load` does.

    Raises:
        LoadError: it cannot be had; the text is for people, with the user's traceback if his code raised.
    """
    try:
        return load(import_path, args)
    except (Exception, SystemExit) as error:
        raise LoadError(explained(import_path, error)) from error


def _split(import_path: str) -> tuple[str, str]:
    module_name, mark, attribute = import_path.partition(":")
    if not mark:
        module_name, mark, attribute = import_path.rpartition(".")
    if not (module_name and mark and attribute):
        raise ValueError(f"expected module:attribute, such as app:app, not {import_path!r}")
    return module_name, attribute


def _call(function: Callable[..., Any], import_path: str, args: dict[str, Any]) -> Any:
    parameters = list(inspect.signature(function).parameters.values())
    required = [
        each
        for each in parameters
        if each.default is each.empty and each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
    ]
    if not parameters:
        if args:
            raise TypeError(f"{import_path} has no parameters, so it takes no arguments; given were {', '.join(args)}")
        return function()
    if len(required) > 1:
        names = ", ".join(each.name for each in required)
        raise TypeError(
            f"{import_path} has {len(required)} parameters ({names}); expected one: a dictionary, or a pydantic model"
        )
    model = _model_of(function, parameters[0].name)
    if model is None:
        return function(args)
    try:
        return function(model.model_validate(args))
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, each['loc'])) or 'args'}: {each['msg']}, not {each['input']!r}"
            for each in error.errors(include_url=False)
        ]
        raise ValueError(
            "\n".join([f"the arguments of {import_path} are not what {model.__name__} wants:", *lines])
        ) from None


def _model_of(function: Callable[..., Any], parameter: str) -> type[BaseModel] | None:
    try:
        annotation = typing.get_type_hints(function).get(parameter)
    except (NameError, TypeError, AttributeError):  # annotations that only type checkers can resolve
        return None
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None


def _checked(found: Any, import_path: str) -> Application:
    if not isinstance(found, Application):
        raise TypeError(f"{import_path} gives {found!r}, which is no application; make one with MyDeployment.bind(...)")
    return found


def explained(import_path: str, error: BaseException) -> str:
    """Return the user's traceback where his code raised; where we did, the message says it all."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _NOT_THE_USERS.search(frame.filename)]
    last = "".join(traceback.format_exception_only(error)).rstrip()
    if not frames:
        return f"{error}" if import_path in str(error) else f"{import_path}: {error}"
    lines = ["Traceback (most recent call last):", "".join(traceback.format_list(frames)) + last]
    return "\n".join([f"{import_path} cannot be imported: its code raised an error.", *lines])
