"""Read config files (YAML, of which JSON is a part) and say where in them a problem is.

A message looks like a compiler's::

    app.yaml:4:9: applications[0].deployments[0].num_replica: there is no such option; did you mean num_replicas?
        4 |       num_replica: 2
          |       ^^^^^^^^^^^
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serve.schema.checking import Checkup, check
from serve.schema.problems import ConfigError, Location, Problem

#: more lines than that of one file are no config, and take long to read
LONGEST_FILE = 10 * 1024 * 1024


@dataclass(frozen=True)
class _Place:
    """Where something stands; lines and columns count from 0."""

    line: int
    column: int
    width: int


class Text:
    """A config as text.

    Args:
        content: the text.
        name: of the file, for messages.
    """

    def __init__(self, content: str, name: str) -> None:
        self._lines = content.splitlines()
        self._name = name
        self._root: yaml.Node | None = None
        self._content = content

    def load(self) -> Any:
        """Return what the text says.

        Raises:
            ConfigError: it is no YAML, or a key is there twice.
        """
        try:
            loader = yaml.SafeLoader(self._content)
        except yaml.YAMLError as error:  # characters that no YAML has
            raise ConfigError([], f"{self._name}: this is no YAML: {error}") from None
        try:
            self._root = loader.get_single_node()
            if self._root is None:
                raise ConfigError([], f"{self._name}: the file is empty; expected at least 'applications:'")
            twice = list(_twice(self._root, ()))
            data = loader.construct_document(self._root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(filter(None, (error.problem, error.context)))
            raise self._error_at(mark, f"this is no YAML: {what}") from None
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError([], f"{self._name}: this is no YAML: {error}") from None
        finally:
            loader.dispose()
        if twice:
            raise ConfigError([], "\n".join(self._excerpt(place, message) for place, message in twice))
        return data

    def _error_at(self, mark: yaml.Mark | None, message: str) -> ConfigError:
        if mark is None:
            return ConfigError([], f"{self._name}: {message}")
        return ConfigError([], self._excerpt(_Place(mark.line, mark.column, 1), message))

    def describe(self, problems: Iterable[Problem]) -> list[str]:
        """Return each problem with its place, the line and a mark under it, in the order of the text."""
        placed = [(_find(self._root, each.location, on_key=each.on_key), str(each)) for each in problems]
        placed.sort(key=lambda entry: (entry[0].line, entry[0].column))
        return [self._excerpt(place, message) for place, message in placed]

    def _excerpt(self, place: _Place, message: str) -> str:
        head = f"{self._name}:{place.line + 1}:{place.column + 1}: {message}"
        if place.line >= len(self._lines):
            return head
        line = self._lines[place.line]
        # tabs stay tabs, so that the mark stands below what it marks
        indent = "".join("\t" if char == "\t" else " " for char in line[: place.column])
        width = max(1, min(place.width, len(line) - place.column))
        number = f"{place.line + 1:>5}"
        return f"{head}\n{number} | {line}\n{' ' * len(number)} | {indent}{'^' * width}"


@dataclass(frozen=True)
class ReadConfig:
    """A config from a file."""

    checkup: Checkup
    #: what has no effect, with places
    warnings: tuple[str, ...]
    #: the text as data, as the author wrote it
    data: Any


def read(content: str, name: str = "config") -> ReadConfig:
    """Read and check a config.

    Args:
        content: YAML.
        name: of the file, for messages.

    Raises:
        ConfigError: something is wrong; the text names every place.
    """
    text = Text(content, name)
    data = text.load()
    try:
        checkup = check(data)
    except ConfigError as error:
        raise ConfigError(error.problems, "\n".join(text.describe(error.problems))) from None
    return ReadConfig(checkup, tuple(text.describe(checkup.warnings)), data)


def read_file(file: Path) -> ReadConfig:
    """Read and check a config file. Relative directories in it are taken from where the file is.

    Raises:
        ConfigError: something is wrong; the text names every place.
        OSError: the file cannot be read.
    """
    if file.stat().st_size > LONGEST_FILE:
        raise ConfigError([], f"{file}: the file has more than {LONGEST_FILE >> 20} MiB; that is no config")
    try:
        content = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError([], f"{file}: the file is no text in UTF-8: {error}") from None
    found = read(content, str(file))
    _resolve(found.checkup, file.absolute().parent)
    return found


def _resolve(checkup: Checkup, directory: Path) -> None:
    def absolute(path: str) -> str:
        return str(directory / Path(path).expanduser())

    for app in checkup.config.applications:
        environment = app.runtime_env
        if environment.working_dir is not None:
            environment.working_dir = absolute(environment.working_dir)
        if environment.py_modules:
            environment.py_modules = [absolute(module) for module in environment.py_modules]
        for deployment in app.deployments:
            fields = deployment.ray_actor_options.runtime_env
            if fields.get("working_dir"):
                fields["working_dir"] = absolute(fields["working_dir"])
            if fields.get("py_modules"):
                fields["py_modules"] = [absolute(module) for module in fields["py_modules"]]


def _find(root: yaml.Node | None, location: Location, *, on_key: bool) -> _Place:
    """Return where a location is; as much of it as the text has."""
    node = key = root
    for part in location:
        found = _step(node, part)
        if found is None:
            break
        key, node = found
    shown = key if on_key else node
    if shown is None:
        return _Place(0, 0, 1)
    start, end = shown.start_mark, shown.end_mark
    width = end.column - start.column if end.line == start.line else 1_000
    if (
        isinstance(shown, yaml.CollectionNode)
        and key is not None
        and key is not shown
        and key.start_mark.line != start.line
    ):
        return _find_key(key)
    return _Place(start.line, start.column, width)


def _find_key(key: yaml.Node) -> _Place:
    """A block of several lines is marked at its key."""
    return _Place(key.start_mark.line, key.start_mark.column, key.end_mark.column - key.start_mark.column)


def _step(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _twice(node: yaml.Node, seen: tuple[int, ...]) -> Iterator[tuple[_Place, str]]:
    """Yield the keys that a mapping has twice, of which YAML would quietly take the last."""
    if id(node) in seen:  # an alias of what it is part of
        return
    seen = (*seen, id(node))
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _twice(each, seen)
    if isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    yield _find_key(key), f"{key.value} is there twice"
                keys.add(key.value)
            yield from _twice(value, seen)
