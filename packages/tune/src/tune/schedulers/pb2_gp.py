"""A small Gaussian process whose past fades, and the search for the point it is most hopeful of. For `pb2`.

The kernel is PB2's (Parker-Holder et al., NeurIPS 2020): a squared exponential over all columns but the first, times
``(1 - fading) ** (|t - t'| / 2)`` over the first, which is time. Its parameters are those of highest marginal
likelihood among seeded random ones, refined once around the best. With at most a few hundred points that takes
milliseconds and needs nothing but numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

#: How many kernels are tried, and how many points.
KERNELS, CANDIDATES = 40, 500
_JITTER = 1e-8


class Kernel(NamedTuple):
    """Parameters of the kernel, for standardised values."""

    length: float
    fading: float
    noise: float

    def between(self, left: Array, right: Array) -> Array:
        """Return the covariances of rows of `left` and rows of `right`; columns are time, then the others."""
        apart = np.abs(left[:, None, 0] - right[None, :, 0])
        one, other = left[:, 1:], right[:, 1:]
        squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * one @ other.T
        squares = np.maximum(squares, 0)  # rounding
        return np.asarray(np.exp(-squares / (2 * self.length**2)) * (1 - self.fading) ** (apart / 2))


class Process:
    """A Gaussian process given points.

    Args:
        kernel: its parameters.
        points: a row for each, time first.
        values: one for each point, standardised.
    """

    def __init__(self, kernel: Kernel, points: Array, values: Array) -> None:
        self._kernel = kernel
        self._points = points
        covariance = kernel.between(points, points) + (kernel.noise + _JITTER) * np.eye(len(points))
        self._factor = np.linalg.cholesky(covariance)
        self._weights = np.linalg.solve(self._factor.T, np.linalg.solve(self._factor, values))
        #: logarithm of the marginal likelihood, up to a constant
        self.evidence: float = float(-0.5 * values @ self._weights - np.log(np.diag(self._factor)).sum())

    def mean(self, points: Array) -> Array:
        """Return the expected values at points."""
        return np.asarray(self._kernel.between(points, self._points) @ self._weights)

    def deviation(self, points: Array) -> Array:
        """Return the standard deviations at points."""
        projected = np.linalg.solve(self._factor, self._kernel.between(self._points, points))
        return np.asarray(np.sqrt(np.maximum(1 - (projected**2).sum(axis=0), 1e-12)))


def fit(points: Array, values: Array, rng: np.random.Generator) -> Kernel:
    """Return the kernel of highest marginal likelihood among those tried."""

    def draw(centre: Kernel | None) -> Kernel:
        if centre is None:
            length, noise = np.exp(rng.uniform(np.log([0.05, 1e-4]), np.log([2.0, 0.5])))
            return Kernel(float(length), float(rng.uniform(0, 0.5)), float(noise))
        length, noise = np.array([centre.length, centre.noise]) * np.exp(rng.normal(0, 0.2, 2))
        return Kernel(float(length), float(np.clip(centre.fading + rng.normal(0, 0.05), 0, 0.9)), float(noise))

    best, evidence = draw(None), -np.inf
    for number in range(KERNELS):
        kernel = draw(None if number < KERNELS * 2 // 3 else best)
        found = Process(kernel, points, values).evidence
        if found > evidence:
            best, evidence = kernel, found
    return best


def suggest(
    points: Array, values: Array, context: Array, pending: Array, dimensions: int, rng: np.random.Generator
) -> Array:
    """Return the point of highest upper confidence bound.

    Args:
        points: a row for each observation: time, context, then the searched parameters; all scaled to about [0, 1].
        values: one for each observation.
        context: time and context of the point that is sought.
        pending: rows of the searched parameters that others try now: their outcome is taken to be as expected, which
            lowers the uncertainty around them (GP-BUCB), so that suggestions spread.
        dimensions: how many searched parameters there are.
        rng: what is drawn from.
    """
    spread = float(values.std())
    scaled = (values - values.mean()) / (spread if spread > 0 else 1.0)
    kernel = fit(points, scaled, rng)
    process = Process(kernel, points, scaled)
    if len(pending):
        hoped = np.hstack([np.tile(context, (len(pending), 1)), pending])
        believed = Process(kernel, np.vstack([points, hoped]), np.concatenate([scaled, process.mean(hoped)]))
    else:
        believed = process
    weight = np.sqrt(0.2 + np.log(0.4 * max(len(points), 3)))  # PB2's schedule of exploration

    def bound(candidates: Array) -> Array:
        rows = np.hstack([np.tile(context, (len(candidates), 1)), candidates])
        return np.asarray(process.mean(rows) + weight * believed.deviation(rows))

    candidates = rng.random((CANDIDATES, dimensions))
    best = candidates[int(np.argmax(bound(candidates)))]
    near = np.clip(best + rng.normal(0, 0.03, (CANDIDATES // 2, dimensions)), 0, 1)
    near = np.vstack([best, near])
    return np.asarray(near[int(np.argmax(bound(near)))])
