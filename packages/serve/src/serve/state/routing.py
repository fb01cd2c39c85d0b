"""Which revision of which application a request goes to: by URL prefix, then by header, then by weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from serve.specs import Route, Split


class RoutingTable:
    """The published routes, ready to be asked.

    Args:
        routes: in any order; the longest prefix wins.
    """

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes = sorted(routes, key=lambda route: len(_stem(route.prefix)), reverse=True)
        self._stems = [(_stem(route.prefix), route) for route in self._routes]

    @property
    def routes(self) -> list[Route]:
        """The routes, longest prefix first."""
        return self._routes

    def match(self, path: str) -> Route | None:
        """Return the route of a path; None if it has none.

        A prefix matches whole segments: ``/a`` matches ``/a`` and ``/a/b``, not ``/ab``.
        """
        for stem, route in self._stems:
            if not stem or path == stem or (path.startswith(stem) and path[len(stem)] == "/"):
                return route
        return None

    def root_path(self, route: Route) -> str:
        """Return what ASGI calls ``root_path``: the prefix that belongs to the route and not to its application."""
        return _stem(route.prefix)


def choose_split(route: Route, headers: Mapping[str, str], draw: float) -> Split:
    """Choose the revision that answers a request.

    Args:
        route: the route of its path.
        headers: header fields, names in lower case.
        draw: a number from 0 up to 1, uniformly at random (or derived from a session, to make its choice stick).
    """
    return choose(route.splits, headers, draw)


def choose(splits: Sequence[Split], headers: Mapping[str, str], draw: float) -> Split:
    """Choose one of the revisions that share an application's requests; see `choose_split`."""
    answering = [split for split in splits if not split.shadow]
    for split in answering:
        if split.header is not None and headers.get(split.header[0]) == split.header[1]:
            return split
    total = sum(split.weight for split in answering) or 1.0
    for split in answering:
        draw -= split.weight / total
        if draw < 0:
            return split
    return answering[-1] if answering[-1].weight else answering[0]


def shadows(route: Route) -> list[Split]:
    """Return the revisions that get copies of the route's requests."""
    return [split for split in route.splits if split.shadow]


def _stem(prefix: str) -> str:
    return prefix.rstrip("/")
