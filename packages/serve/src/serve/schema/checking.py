"""Check a config that was read or received: every problem of it at once, in words for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from serve.schema.deploy import RuntimeEnvSchema, ServeDeploySchema
from serve.schema.foreign import sort_out
from serve.schema.problems import ConfigError, Location, Problem, path, unknown

#: longest text of a bad value in a message
_LONGEST = 80


@dataclass(frozen=True)
class Checkup:
    """A config that can be used."""

    config: ServeDeploySchema
    #: fields of it that have no effect
    warnings: tuple[Problem, ...]


def check(data: Any) -> Checkup:
    """Check a config.

    Args:
        data: as YAML or JSON give it. A single application, as Ray's first config files had it, becomes a list of one.

    Raises:
        ConfigError: something is wrong.
    """
    cleaned, warnings, errors = sort_out(data)
    config = None
    try:
        config = ServeDeploySchema.model_validate(cleaned)
    except ValidationError as error:
        errors += _problems(error)
    errors += _twice(cleaned)
    if errors or config is None:
        raise ConfigError(errors)
    return Checkup(config, tuple(warnings))


def _problems(error: ValidationError) -> list[Problem]:
    """One problem a place: what the members of a union say becomes one sentence."""
    found: dict[Location, list[Any]] = {}
    for each in error.errors(include_url=False):
        at = (*each["loc"], *each.get("ctx", {}).get("at", ()))
        if each["type"] == "twice":  # also found where other problems keep the model from looking
            continue
        model, location = _model_at(at)
        found.setdefault(location, []).append((each, model))
    return [_problem(location, entries) for location, entries in found.items()]


def _twice(data: Any) -> Iterator[Problem]:
    """Yield names and routes that are given away already."""
    apps = _dictionaries(data, "applications")
    for field in ("name", "route_prefix"):
        yield from _repeated(apps, field, ("applications",), "default" if field == "name" else "/")
    for number, app in apps:
        yield from _repeated(_dictionaries(app, "deployments"), "name", ("applications", number, "deployments"), None)


def _dictionaries(part: Any, name: str) -> list[tuple[int, dict[str, Any]]]:
    entries = part.get(name) if isinstance(part, dict) else None
    return [(n, each) for n, each in enumerate(entries) if isinstance(each, dict)] if isinstance(entries, list) else []


def _repeated(entries: list[tuple[int, dict[str, Any]]], field: str, at: Location, default: Any) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for number, entry in entries:
        value = entry.get(field, default)
        if isinstance(value, str):
            before = first.setdefault(value.rstrip("/") or value, number)
            if before != number:
                where = path((*at, before))
                yield Problem((*at, number, field), f"{value!r} is the {field} of {where} already; give it another")


def _problem(location: Location, entries: list[tuple[Any, type[BaseModel] | None]]) -> Problem:
    first, model = entries[0]
    context = first.get("ctx", {})
    match first["type"]:
        case "extra_forbidden":
            return Problem(location, unknown(str(location[-1]), model.model_fields if model else ()), on_key=True)
        case "missing":
            return Problem(location[:-1], f"{location[-1]} is missing")
        case "value_error" if isinstance(first["input"], dict | list):
            return Problem(location, _sentence(first["msg"]))
    sentence = " or ".join(dict.fromkeys(_sentence(each["msg"]) for each, _ in entries))
    sentence = sentence.replace(" or should be ", " or ")
    return Problem(location, f"{sentence}, not {_shown(context.get('given', first['input']))}")


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ").partition(", unable to parse")[0]
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _model_at(at: Iterable[str | int]) -> tuple[type[BaseModel] | None, Location]:
    """Follow a location through the models; the names that pydantic gives members of unions are left out of it."""
    model: type[BaseModel] | None = ServeDeploySchema
    location: list[str | int] = []
    for part in at:
        if model is None:
            # below a field that is no model: a dictionary, a list of texts, or a member of a union
            if not _is_member(part):
                location.append(part)
            continue
        location.append(part)
        if isinstance(part, str):
            owner = model
            field = model.model_fields.get(part)
            if field is None:
                return owner, tuple(location)
            model = RuntimeEnvSchema if part == "runtime_env" else _model_in(field.annotation)
    return model, tuple(location)


def _is_member(part: str | int) -> bool:
    return isinstance(part, str) and (
        part in {"int", "str", "float", "bool"} or part.startswith(("constrained-", "literal["))
    )


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a field: its own, that of its list, or the one it may be besides None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
