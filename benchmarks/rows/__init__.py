"""The programs, one module per theme; :data:`THEMES` is the order of the report."""

from __future__ import annotations

from benchmarks.model import Theme
from benchmarks.rows import (
    actors,
    article,
    async_actors,
    creation,
    durations,
    graphs,
    large,
    mapping,
    objects,
    placement,
    queues,
    startup,
    tasks,
)

THEMES: tuple[Theme, ...] = (
    objects.THEME,
    tasks.THEME,
    actors.THEME,
    async_actors.THEME,
    placement.THEME,
    creation.THEME,
    durations.THEME,
    graphs.THEME,
    mapping.THEME,
    large.THEME,
    queues.THEME,
    article.THEME,
    startup.THEME,
)
