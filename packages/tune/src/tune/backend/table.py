"""Tabulated learning curves: sweeps that were run once, for all, and can be run again in no time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tune.space.domains import Categorical, Domain, Float, Integer
from tune.trial import Config, Result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: The parameter that names a row outright, in `TabularBenchmark.rows_space`.
ROW = "row"


class TabularBenchmark:
    """Learning curves of many configurations, and what they cost.

    Args:
        configs: parameter to its value in each row.
        metrics: name to an array of rows times epochs.
        seconds: of an epoch: one number for each row, or rows times epochs.
        space: parameter to domain, as ``config=`` takes it; None makes a choice of the values in the table of each.

    Raises:
        ValueError: the arrays do not fit each other.
    """

    def __init__(
        self,
        configs: Mapping[str, Sequence[Any]],
        metrics: Mapping[str, ArrayLike],
        seconds: ArrayLike,
        space: Mapping[str, Domain] | None = None,
    ) -> None:
        self.metrics = {name: np.asarray(values, float) for name, values in metrics.items()}
        self.configs = {name: _plain(values) for name, values in configs.items()}
        shapes = {values.shape for values in self.metrics.values()}
        if len(shapes) != 1 or len(shape := shapes.pop()) != 2:  # rows and epochs
            raise ValueError("metrics must be arrays of rows times epochs, all of one shape")
        self.num_rows, self.num_epochs = shape
        if any(len(values) != self.num_rows for values in self.configs.values()) or not self.configs:
            raise ValueError(f"configs must have a value of each parameter for each of the {self.num_rows} rows")
        per_row = np.asarray(seconds, float)
        if per_row.shape == (self.num_rows,):
            per_row = np.repeat(per_row[:, None], self.num_epochs, axis=1)
        if per_row.shape != shape:
            raise ValueError(f"seconds must be of {self.num_rows} rows, or rows times {self.num_epochs} epochs")
        self.seconds = per_row
        #: parameter to domain, for ``config=``; what is drawn from it stands for the row next to it
        self.space: dict[str, Any] = dict(space or {name: _choice(values) for name, values in self.configs.items()})
        if set(self.space) != set(self.configs):
            raise ValueError(f"space has {sorted(self.space)}, configs have {sorted(self.configs)}: they must agree")

    @classmethod
    def from_arrays(
        cls,
        configs: Mapping[str, Sequence[Any]],
        metrics: Mapping[str, ArrayLike],
        seconds: ArrayLike,
        space: Mapping[str, Domain] | None = None,
    ) -> TabularBenchmark:
        """Return a benchmark of arrays; the same as calling the class."""
        return cls(configs, metrics, seconds, space)

    @classmethod
    def from_npz(cls, path: str | Path) -> TabularBenchmark:
        """Read a table that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                {name.removeprefix("config/"): stored[name].tolist() for name in stored if name.startswith("config/")},
                {name.removeprefix("metric/"): stored[name] for name in stored if name.startswith("metric/")},
                stored["seconds"],
                {name: _domain(**parts) for name, parts in json.loads(str(stored["space"])).items()},
            )

    @classmethod
    def load(cls, name: str = "digits_mlp") -> TabularBenchmark:
        """Return a table that comes with the package.

        Args:
            name: ``"digits_mlp"``: 300 small networks on scikit-learn's digits, 27 epochs each, metrics ``accuracy``
                and ``loss`` on 797 images that were not trained on. ``benchmarks/tune/make_digits_table.py`` made it.

        Raises:
            ValueError: there is no such table.
        """
        with resources.as_file(resources.files("tune.backend") / "data" / f"{name}.npz") as path:
            if not path.is_file():
                raise ValueError(f"there is no table {name!r}; there is 'digits_mlp'")
            return cls.from_npz(path)

    def save(self, path: str | Path) -> None:
        """Write the table into a ``.npz`` file, in single precision."""
        space = json.dumps({name: _parts(domain) for name, domain in self.space.items()})
        arrays: dict[str, Any] = {"space": np.array(space), "seconds": self.seconds.astype(np.float32)}
        arrays |= {f"metric/{name}": values.astype(np.float32) for name, values in self.metrics.items()}
        arrays |= {f"config/{name}": np.array(values) for name, values in self.configs.items()}
        np.savez_compressed(path, **arrays)

    @property
    def rows_space(self) -> dict[str, Any]:
        """A space whose configurations are exactly the rows: ``{"row": tune.choice(range(num_rows))}``."""
        return {ROW: Categorical(tuple(range(self.num_rows)))}

    def config(self, row: int) -> Config:
        """Return the configuration of a row."""
        return {name: values[row] for name, values in self.configs.items()}

    def row(self, config: Config) -> int:
        """Return the row of a configuration: ``config["row"]`` if there is that, or the nearest one.

        Near is measured in the space: numbers in units of their range (in the logarithm if their domain is), other
        values are equal or one unit apart. The first of several that are as near is taken.

        Raises:
            ValueError: a parameter is missing, or there is no such row.
        """
        if ROW in config and ROW not in self.configs:
            row = int(config[ROW])
            if not 0 <= row < self.num_rows:
                raise ValueError(f"config['row'] is {row}; the table has rows 0 to {self.num_rows - 1}")
            return row
        missing = sorted(set(self.configs) - set(config))
        if missing:
            raise ValueError(f"the configuration lacks {', '.join(missing)}, which the table goes by")
        apart = np.zeros(self.num_rows)
        for name, values in self._places.items():
            domain = self.space[name]
            if isinstance(domain, Float | Integer):
                apart += (values - _place(domain, config[name])) ** 2
            else:
                apart += [value != config[name] for value in self.configs[name]]
        return int(np.argmin(apart))

    def result(self, row: int, epoch: int) -> Result:
        """Return the metrics of a row after so many epochs, 1 for the first."""
        return {name: curves[row][epoch - 1] for name, curves in self._curves.items()}

    def duration(self, row: int, epoch: int) -> float:
        """Return the seconds that an epoch took, 1 for the first."""
        return self._durations[row][epoch - 1]

    def final(self, metric: str) -> NDArray[np.float64]:
        """Return a metric after the last epoch, for all rows."""
        return np.asarray(self.metrics[metric][:, -1])

    @cached_property
    def _curves(self) -> dict[str, list[list[float]]]:
        return {name: values.tolist() for name, values in self.metrics.items()}

    @cached_property
    def _durations(self) -> list[list[float]]:
        durations: list[list[float]] = self.seconds.tolist()
        return durations

    @cached_property
    def _places(self) -> dict[str, NDArray[np.float64]]:
        """Of each parameter, where the rows are in its domain; empty for those without an order."""
        places = {}
        for name, values in self.configs.items():
            domain = self.space[name]
            ordered = isinstance(domain, Float | Integer)
            places[name] = np.array([_place(domain, value) for value in values] if ordered else [])
        return places


def _plain(values: Sequence[Any]) -> list[Any]:
    """Return values as Python's own, not numpy's."""
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _choice(values: Sequence[Any]) -> Categorical:
    return Categorical(tuple(dict.fromkeys(values)))


def _place(domain: Float | Integer, value: float) -> float:
    """Return where a value is in its domain, 0 at the lower end, 1 at the upper."""
    low, high = (domain.first, domain.last) if isinstance(domain, Integer) else (domain.lower, domain.upper)
    if domain.log:
        return float(np.log(value / low) / np.log(high / low))
    return float((value - low) / (high - low))


def _domain(type: str, **parts: Any) -> Domain:  # noqa: A002 - the file's word
    """Return a domain as it stands in a file; upper bounds are included."""
    if type == "choice":
        return Categorical(tuple(parts["values"]))
    if type == "int":
        return Integer(parts["low"], parts["high"] + 1, parts["log"])
    return Float(parts["low"], parts["high"], parts["log"])


def _parts(domain: Domain) -> dict[str, Any]:
    """Return a domain as it stands in a file."""
    if isinstance(domain, Categorical):
        return {"type": "choice", "values": list(domain.categories)}
    if isinstance(domain, Integer):
        return {"type": "int", "low": domain.first, "high": domain.last, "log": domain.log}
    if isinstance(domain, Float):
        return {"type": "float", "low": domain.lower, "high": domain.upper, "log": domain.log}
    raise ValueError(f"a table's space cannot hold {domain!r}: use uniform, loguniform, randint, lograndint or choice")
