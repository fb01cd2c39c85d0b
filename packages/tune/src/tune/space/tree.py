"""A configuration with domains in it, compiled to a tree that can be walked three ways.

* `Node.build` makes a configuration, asking a chooser for the value of each parameter as it comes to it;
* `Node.match` goes the other way: it finds the parameters that a given configuration, whole or in part, was made of;
* `Node.parameters` lists what can be searched.

Names. A parameter is named by its path in the configuration, ``a/b`` (``a/0`` in lists). One inside an option of a
conditional ``choice`` has the option's label in its path, because options may have parameters of the same name:
``model/svm/c``. The label is the value of the first constant that tells the options apart (``{"type": "svm", ...}``,
``{"_name": "svm"}``), and the option's number if there is none. A choice of plain values has them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tune.space.domains import Categorical, Domain, Function, same
from tune.space.functions import GRID, is_grid

#: What a search library can keep as a choice: plain, comparable, writable as JSON.
PLAIN = (str, int, float, bool, type(None))
#: Asked for the value of each parameter: name, domain. Domains of choices are of plain values or labels only.
Chooser = Callable[[str, Domain], Any]


class Deferred:
    """The place of a ``sample_from`` value in a configuration under construction."""

    __slots__ = ("container", "domain", "key", "name")

    def __init__(self, name: str, domain: Function) -> None:
        self.name = name
        self.domain = domain
        self.container: Any = None
        self.key: Any = None


class Build:
    """One construction of a configuration: who chooses, what is fixed, which grid cell, and what came out."""

    __slots__ = ("cells", "choose", "deferred", "fixed", "params", "tuples")

    def __init__(self, choose: Chooser, fixed: Mapping[str, Any]) -> None:
        self.choose = choose
        self.fixed = fixed
        #: the parameters of this configuration, in the order they were asked for
        self.params: dict[str, Any] = {}
        #: the cell of each grid that was come to
        self.cells: dict[str, int] = {}
        self.deferred: list[Deferred] = []
        #: ids of lists that become tuples once the computed values in them are there
        self.tuples: set[int] = set()

    def ask(self, name: str, domain: Domain) -> Any:
        """Return the value of a parameter and remember it."""
        value = self.fixed[name] if name in self.fixed else self.choose(name, domain)
        self.params[name] = value
        return value

    def enter(self, node: Node, cell: int) -> None:
        """Spread the number of a cell over the grids of a part: the first varies fastest, as in Ray."""
        for grid in node.grids():
            size = grid.size(self.fixed)
            self.cells[grid.name] = cell % size
            cell //= size


class Node:
    """A part of the tree; also one without parameters."""

    __slots__ = ()

    def build(self, build: Build) -> Any:
        """Make this part of a configuration."""
        raise NotImplementedError

    def match(self, value: Any, found: dict[str, Any], *, strict: bool, partial: bool) -> str | None:
        """Find the parameters that `value` was made of.

        Args:
            value: this part of a configuration.
            found: gets the parameters by name.
            strict: whether values must be within their domains.
            partial: whether parts may be missing.

        Returns:
            None, or why the value cannot have come from here.
        """
        raise NotImplementedError

    def parameters(self) -> Iterable[tuple[str, Domain]]:
        """List the parameters, those of all options, `Function` s too, with their names."""
        return ()

    def grids(self) -> list[Grid]:
        """List the grids that are not inside another one, in Ray's order: by path."""
        return []


class Constant(Node):
    """A value that is the same in every configuration."""

    __slots__ = ("path", "value")

    def __init__(self, path: str, value: Any) -> None:
        self.path = path
        self.value = value

    def build(self, build: Build) -> Any:
        """Return the value itself, not a copy."""
        return self.value

    def match(self, value: Any, found: dict[str, Any], *, strict: bool, partial: bool) -> str | None:
        """Compare with the value."""
        return None if same(self.value, value) else f"{self.path!r} is always {self.value!r}, not {value!r}"


class Leaf(Node):
    """A parameter with a plain domain."""

    __slots__ = ("domain", "name")

    def __init__(self, name: str, domain: Domain) -> None:
        self.name = name
        self.domain = domain

    def build(self, build: Build) -> Any:
        """Ask for the value, or leave a computed one for later."""
        if not isinstance(self.domain, Function):
            return build.ask(self.name, self.domain)
        if self.name in build.fixed:
            return build.fixed[self.name]
        build.deferred.append(Deferred(self.name, self.domain))
        return build.deferred[-1]

    def match(self, value: Any, found: dict[str, Any], *, strict: bool, partial: bool) -> str | None:
        """Take the value."""
        if strict and not self.domain.is_valid(value):
            return f"{self.name!r}: {value!r} is not in {self.domain.domain_str}"
        found[self.name] = value
        return None

    def parameters(self) -> Iterable[tuple[str, Domain]]:
        """List the one parameter."""
        return ((self.name, self.domain),)


class Branch(Node):
    """A choice between options that are not all plain values: the parameter's values are the options' labels."""

    __slots__ = ("domain", "labels", "name", "options")

    def __init__(self, name: str, labels: Sequence[Any], options: Sequence[Node]) -> None:
        self.name = name
        self.labels = tuple(labels)
        self.options = tuple(options)
        self.domain = Categorical(self.labels)

    def build(self, build: Build) -> Any:
        """Ask for a label and build its option."""
        return self.option(build.ask(self.name, self.domain)).build(build)

    def match(self, value: Any, found: dict[str, Any], *, strict: bool, partial: bool) -> str | None:
        """Find the option that the value came from: the first that fits whole, else in part, else in shape."""
        reasons: list[str] = []
        ways = [(True, False), *([(True, True)] if partial else []), *([] if strict else [(False, partial)])]
        for exact, part in ways:
            for label, option in zip(self.labels, self.options, strict=True):
                inner: dict[str, Any] = {}
                reason = option.match(value, inner, strict=exact, partial=part)
                if reason is None:
                    found[self.name] = label
                    found.update(inner)
                    return None
                reasons.append(reason)
        if any(same(value, label) for label in self.labels):
            found[self.name] = value
            return None
        return f"{self.name!r}: {value!r} fits none of the options {list(self.labels)} ({reasons[0]})"

    def parameters(self) -> Iterable[tuple[str, Domain]]:
        """List the choice itself, then what its options hold."""
        yield self.name, self.domain
        for option in self.options:
            yield from option.parameters()

    def option(self, label: Any) -> Node:
        """Return the option of a label."""
        for known, option in zip(self.labels, self.options, strict=True):
            if same(known, label):
                return option
        raise ValueError(f"{self.name!r}: {label!r} is not in {self.domain.domain_str}")


class Grid(Branch):
    """A grid: every option in turn, and every cell of the grids within an option."""

    __slots__ = ()

    def build(self, build: Build) -> Any:
        """Build the option in which the cell lies, or the one that is fixed."""
        cell = build.cells[self.name]
        if self.name in build.fixed:
            label = build.fixed[self.name]
        else:
            label, cell = self._locate(cell, build.fixed)
        option = self.option(label)
        build.params[self.name] = label
        build.enter(option, cell)
        return option.build(build)

    def size(self, fixed: Mapping[str, Any]) -> int:
        """Return how many cells there are."""
        if self.name in fixed:
            return grid_size(self.option(fixed[self.name]), fixed)
        return sum(grid_size(option, fixed) for option in self.options)

    def grids(self) -> list[Grid]:
        """List itself."""
        return [self]

    def _locate(self, cell: int, fixed: Mapping[str, Any]) -> tuple[Any, int]:
        for label, option in zip(self.labels, self.options, strict=True):
            size = grid_size(option, fixed)
            if cell < size:
                return label, cell
            cell -= size
        raise AssertionError("a cell lies in one of the options")


class Group(Node):
    """A dict, list or tuple with parameters or constants in it. Each configuration gets a new one."""

    __slots__ = ("children", "items", "kind", "path")

    def __init__(self, path: str, kind: type, items: list[tuple[Any, Node]]) -> None:
        self.path = path
        self.kind = kind
        self.items = items
        self.children = dict(items)

    def build(self, build: Build) -> Any:
        """Build the parts in order."""
        built: Any = {} if self.kind is dict else [None] * len(self.items)
        waiting = len(build.deferred)
        for key, node in self.items:
            part = built[key] = node.build(build)
            if type(part) is Deferred:
                part.container, part.key = built, key
        if self.kind is not tuple:
            return built
        if len(build.deferred) == waiting:
            return tuple(built)
        build.tuples.add(id(built))
        return built

    def match(self, value: Any, found: dict[str, Any], *, strict: bool, partial: bool) -> str | None:
        """Match the parts."""
        if self.kind is dict:
            if not isinstance(value, dict):
                return f"{self.path!r} must be a dict, not {value!r}"
            given = value
        else:
            # In part, a list may stand for a tuple: points come from JSON as well.
            alike = isinstance(value, list | tuple) if partial else type(value) is self.kind
            if not alike or len(value) != len(self.items):
                return f"{self.path!r} must be a list of {len(self.items)}, not {value!r}"
            given = dict(enumerate(value))
        unknown = [key for key in given if key not in self.children]
        if unknown:
            return f"{joined(self.path, unknown[0])!r} is not in the search space"
        for key, node in self.items:
            if key in given:
                reason = node.match(given[key], found, strict=strict, partial=partial)
            else:
                reason = None if partial else f"{joined(self.path, key)!r} is missing"
            if reason is not None:
                return reason
        return None

    def parameters(self) -> Iterable[tuple[str, Domain]]:
        """List those of the parts."""
        for _, node in self.items:
            yield from node.parameters()

    def grids(self) -> list[Grid]:
        """List those of the parts."""
        found = [grid for _, node in self.items for grid in node.grids()]
        return sorted(found, key=lambda grid: grid.name)


def grid_size(node: Node, fixed: Mapping[str, Any]) -> int:
    """Return how many cells the cross product of a part's grids has, given the values of some."""
    size = 1
    for grid in node.grids():
        size *= grid.size(fixed)
    return size


def joined(path: str, key: Any) -> str:
    """Return the path of a part."""
    return f"{path}/{key}" if path else str(key)


def compile_space(value: Any, path: str = "", *, chosen: str = "") -> Node:
    """Compile a configuration.

    Args:
        value: the configuration, or a part of it.
        path: its path.
        chosen: path of the random choice that it is an option of, if any.

    Raises:
        ValueError: a grid within a random choice, an empty choice or grid.
    """
    if isinstance(value, Categorical):
        return _compile_options(Branch, value.categories, path, chosen=path or chosen)
    if isinstance(value, Domain):
        return Leaf(path, value)
    if is_grid(value):
        if chosen:
            raise ValueError(
                f"{path!r} is a grid_search inside the choice at {chosen!r}: how many configurations there are would "
                f"be left to chance. Make the outer one a grid_search too, or the inner one a choice."
            )
        options = value[GRID]
        if not isinstance(options, list | tuple) or not options:
            raise ValueError(f"{path!r}: grid_search needs a list of at least one value, got {options!r}.")
        return _compile_options(Grid, options, path, chosen="")
    if isinstance(value, dict):
        return Group(
            path, dict, [(key, compile_space(part, joined(path, key), chosen=chosen)) for key, part in value.items()]
        )
    if type(value) in {list, tuple}:
        parts = [(key, compile_space(part, joined(path, key), chosen=chosen)) for key, part in enumerate(value)]
        return Group(path, type(value), parts)
    return Constant(path, value)


def has_domains(value: Any) -> bool:
    """Tell whether there is anything to search in a value."""
    if isinstance(value, Domain) or is_grid(value):
        return True
    if isinstance(value, dict):
        return any(map(has_domains, value.values()))
    return type(value) in {list, tuple} and any(map(has_domains, value))


def _compile_options(kind: type[Branch], options: Sequence[Any], path: str, *, chosen: str) -> Node:
    if not options:
        raise ValueError(f"{path!r}: a choice needs at least one value.")
    if kind is Branch and all(isinstance(option, PLAIN) for option in options) and _distinct(options):
        return Leaf(path, Categorical(tuple(options)))
    labels = _labels(options)
    nodes = [
        compile_space(option, joined(path, label), chosen=chosen) if has_domains(option) else Constant(path, option)
        for label, option in zip(labels, options, strict=True)
    ]
    return kind(path, labels, nodes)


def _labels(options: Sequence[Any]) -> list[Any]:
    named = _telling_names(options)
    labels: list[Any] = []
    taken: set[Any] = set()
    for number, option in enumerate(options):
        if number in named:
            label: Any = named[number]
        elif isinstance(option, PLAIN):
            label = option
        else:
            label = str(number) if has_domains(option) else _text(option)
        if label in taken:
            label = f"{label}#{number}"
        taken.add(label)
        labels.append(label)
    return labels


def _telling_names(options: Sequence[Any]) -> dict[int, str]:
    """Return, by number, the values of the first key whose constant text is there, and different, in every dict."""
    dicts = {
        number: option for number, option in enumerate(options) if isinstance(option, dict) and not is_grid(option)
    }
    for key in next(iter(dicts.values()), {}):
        names = {number: option[key] for number, option in dicts.items() if isinstance(option.get(key), str)}
        if len(set(names.values())) == len(dicts):
            return names
    return {}


def _text(option: Any) -> str:
    """Return a short text for a constant that is not plain: a class, a function, a list, an object."""
    name = getattr(option, "__qualname__", None)
    text = name if isinstance(name, str) else repr(option)
    # Objects without a repr of their own would be named by their address, which differs from run to run.
    if " at 0x" in text or len(text) > 60:
        text = type(option).__name__
    return text.rpartition("<locals>.")[2]


def _distinct(values: Sequence[Any]) -> bool:
    """Tell whether no two plain values are equal; 1 and True are, and so are they as choices of Optuna."""
    return len(set(values)) == len(values)
