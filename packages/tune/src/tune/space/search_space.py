"""A whole search space: `SearchSpace` for configurations with domains in them, `DefinedSpace` for functions of a trial.

Both make configurations the same way: `resolve` asks a chooser for the value of each parameter as it comes to it. The
chooser is random search's generator, an Optuna trial, or values already known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from tune.space.computed import compute
from tune.space.define_by_run import SpaceTrial
from tune.space.domains import Domain, Function, Normal
from tune.space.tree import Build, Chooser, Grid, Group, Node, compile_space, grid_size
from tune.trial import Config


class Resolved(msgspec.Struct, frozen=True):
    """A configuration and the parameters it was made of."""

    config: Config
    #: by name, plain values and labels only; values of ``sample_from`` are not among them
    params: dict[str, Any]


class Space:
    """What both kinds of search space can do."""

    def resolve(
        self,
        choose: Chooser,
        *,
        cell: int = 0,
        fixed: Mapping[str, Any] | None = None,
        seed: Sequence[int] | None = None,
    ) -> Resolved:
        """Make one configuration.

        Args:
            choose: asked for each parameter that is not fixed: name, domain.
            cell: number of the grid cell, below `cells`.
            fixed: values of parameters by name.
            seed: for the global random generators while functions of the user's run.
        """
        raise NotImplementedError

    def point(self, given: Config, *, strict: bool = True) -> dict[str, Any]:
        """Return the parameters, by name, of a configuration or a part of one, nested or flat (``a/b``).

        Args:
            given: the configuration.
            strict: whether values outside of their domains are errors.

        Raises:
            ValueError: the configuration does not fit the space, with the path where.
        """
        raise NotImplementedError

    def evaluated_params(self, config: Config) -> dict[str, Any]:
        """Return what was searched of a configuration, flat, for names and tables. Never raises."""
        raise NotImplementedError

    def domains_of(self, params: Mapping[str, Any]) -> dict[str, Domain]:
        """Return the domains of the parameters of one configuration."""
        raise NotImplementedError

    def cells(self, fixed: Mapping[str, Any] | None = None) -> int:
        """Return how many configurations one pass over all grids makes; 1 without grids."""
        return 1

    def same_grids(self, other: Space) -> bool:
        """Tell whether the cells of another space's grids are those of this one's."""
        return self.cells() == other.cells() == 1

    def searches_like(self, other: Space | None) -> bool:
        """Tell whether another space has the very same parameters, so that only constants can differ."""
        return False


class SearchSpace(Space):
    """A configuration with domains anywhere in it.

    Raises:
        TypeError: not a dict.
        ValueError: a grid within a random choice, an empty choice, two parameters of one name.
    """

    def __init__(self, config: Config) -> None:
        if not isinstance(config, dict):
            raise TypeError(f"a search space is a dict of parameters or a function of a trial, got {config!r}.")
        self.config = config
        self._root: Node = compile_space(config)
        #: all parameters that are searched, those of all options
        self.domains: dict[str, Domain] = {}
        #: names of what `sample_from` computes
        self.computed: list[str] = []
        for name, domain in self._root.parameters():
            if name in self.domains or name in self.computed:
                raise ValueError(f"two parameters are called {name!r}; rename one (a '/' in a key joins paths).")
            if isinstance(domain, Function):
                self.computed.append(name)
            else:
                self.domains[name] = domain
        #: names of grids, and the labels of their options
        self.grids: dict[str, tuple[Any, ...]] = {
            name: node.labels for name, node in _walk(self._root) if isinstance(node, Grid)
        }
        self._cells = grid_size(self._root, {})

    def __reduce__(self) -> tuple[Any, ...]:
        return SearchSpace, (self.config,)

    def resolve(
        self,
        choose: Chooser,
        *,
        cell: int = 0,
        fixed: Mapping[str, Any] | None = None,
        seed: Sequence[int] | None = None,
    ) -> Resolved:
        """Make one configuration; see `Space.resolve`."""
        build = Build(choose, fixed or {})
        if self.grids:
            build.enter(self._root, cell)
        config = self._root.build(build)
        if build.deferred:
            compute(config, build, seed)
        return Resolved(config, build.params)

    def point(self, given: Config, *, strict: bool = True) -> dict[str, Any]:
        """Return the parameters of a configuration or a part of one; see `Space.point`."""
        if not isinstance(given, dict):
            raise TypeError(f"a point to evaluate is a dict of parameters, got {given!r}.")
        found: dict[str, Any] = {}
        nested: Config = {}
        for key, value in given.items():
            domain = self.domains.get(key)
            if domain is None or "/" not in key:
                _place(nested, key, value, known=self.config)
            elif strict and not domain.is_valid(value):
                raise ValueError(f"{key!r}: {value!r} is not in {domain.domain_str}.")
            else:
                found[key] = value
        reason = self._root.match(nested, found, strict=strict, partial=True)
        if reason is not None:
            raise ValueError(f"{reason}. Parameters: {[*self.domains, *self.computed]}.")
        return found

    def evaluated_params(self, config: Config) -> dict[str, Any]:
        """Return what was searched of a configuration, computed values included; see `Space.evaluated_params`."""
        found: dict[str, Any] = {}
        known = {key: value for key, value in config.items() if key in self.config}
        if self._root.match(known, found, strict=False, partial=True) is not None:
            # Not all of it fits any more (the space was changed): what does is still worth showing.
            for key, value in known.items():
                self._root.match({key: value}, found, strict=False, partial=True)
        return found

    def domains_of(self, params: Mapping[str, Any]) -> dict[str, Domain]:
        """Return the domains of the parameters of one configuration."""
        return {name: self.domains[name] for name in params if name in self.domains}

    def cells(self, fixed: Mapping[str, Any] | None = None) -> int:
        """Return how many configurations one pass over all grids makes; 1 without grids."""
        return grid_size(self._root, fixed) if fixed else self._cells

    def same_grids(self, other: Space) -> bool:
        """Tell whether the grids are the same, by name and options; see `Space.same_grids`."""
        if not isinstance(other, SearchSpace):
            return super().same_grids(other)
        return self.grids == other.grids

    def searches_like(self, other: Space | None) -> bool:
        """Tell whether the parameters are the same; see `Space.searches_like`."""
        return (
            isinstance(other, SearchSpace)
            and self.domains == other.domains
            and self.computed == other.computed
            and self.same_grids(other)
        )

    def check_searchable(self, searcher: str) -> None:
        """Refuse what a searcher that learns cannot search.

        Raises:
            ValueError: a grid or a normal distribution, named by its path.
        """
        for name in self.grids:
            raise ValueError(
                f"{name!r} is a grid_search, which {searcher} cannot search. Use tune.choice, or the default searcher."
            )
        for name, domain in self.domains.items():
            if isinstance(domain, Normal):
                raise ValueError(  # noqa: TRY004  the space is at fault, not the type of an argument
                    f"{name!r} is {domain.domain_str}, which {searcher} cannot search because it has no bounds. "
                    f"Use tune.uniform, or the default searcher."
                )


class DefinedSpace(Space):
    """A function of a trial that calls ``trial.suggest_float`` and so on, in Optuna's style (define-by-run).

    The configuration is every suggested parameter (names with ``/`` nest) updated with the dict that the function
    returns, if it returns one.
    """

    def __init__(self, function: Callable[[Any], Config | None]) -> None:
        self.function = function

    def resolve(
        self,
        choose: Chooser,
        *,
        cell: int = 0,
        fixed: Mapping[str, Any] | None = None,
        seed: Sequence[int] | None = None,
    ) -> Resolved:
        """Make one configuration; see `Space.resolve`. `seed` is not used: the trial draws all there is to draw."""
        trial = SpaceTrial(choose, fixed or {})
        return Resolved(self.assemble(self.function(trial), trial.params), trial.params)

    @staticmethod
    def assemble(returned: Config | None, params: Mapping[str, Any]) -> Config:
        """Join what was suggested and what was returned.

        Raises:
            TypeError: something else than a dict or None was returned.
        """
        if returned is not None and not isinstance(returned, dict):
            raise TypeError(f"a function that defines a search space returns a dict or None, not {returned!r}.")
        config: Config = {}
        for name, value in params.items():
            _place(config, name, value)
        config.update(returned or {})
        return config

    def point(self, given: Config, *, strict: bool = True) -> dict[str, Any]:
        """Return the given values under flat names; which names there are turns out only when it is run."""
        return dict(_flat(given))

    def evaluated_params(self, config: Config) -> dict[str, Any]:
        """Return the values of the parameters that the function suggests when run with this configuration."""
        return {name: value for name, (value, _) in self._replay(dict(_flat(config))).items()}

    def domains_of(self, params: Mapping[str, Any]) -> dict[str, Domain]:
        """Return the domains of the parameters of one configuration, found by running the function."""
        return {name: domain for name, (_, domain) in self._replay(params).items()}

    def _replay(self, params: Mapping[str, Any]) -> dict[str, tuple[Any, Domain]]:
        met: dict[str, tuple[Any, Domain]] = {}

        def recall(name: str, domain: Domain) -> Any:
            met[name] = params[name], domain
            return params[name]

        # A name without a value: not a configuration of this space, or not any more. What was met so far is returned.
        with suppress(KeyError):
            self.function(SpaceTrial(recall, {}))
        return met


def as_space(space: Space | Config | Callable[[Any], Config | None]) -> Space:
    """Return the search space that a dict or a function stands for."""
    if isinstance(space, Space):
        return space
    return DefinedSpace(space) if callable(space) else SearchSpace(space)


def _walk(node: Node) -> list[tuple[str, Node]]:
    if isinstance(node, Group):
        return [found for _, part in node.items for found in _walk(part)]
    options = getattr(node, "options", ())
    return [(getattr(node, "name", ""), node), *(found for option in options for found in _walk(option))]


def _place(config: Config, name: Any, value: Any, known: Config | None = None) -> None:
    """Put a value at a path; a name that is a key of `known` is one key, slashes and all."""
    if not isinstance(name, str) or (known is not None and name in known):
        config[name] = value
        return
    *parents, last = name.split("/")
    for parent in parents:
        inner = config.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ValueError(  # noqa: TRY004  as above
                f"{name!r} does not fit: {parent!r} already is {inner!r}."
            )
        config = inner
    config[last] = value


def _flat(config: Config, path: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in config.items():
        name = f"{path}/{key}" if path else str(key)
        flat += _flat(value, name) if isinstance(value, dict) and value else [(name, value)]
    return flat
