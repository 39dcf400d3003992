"""Exact search for the nearest of many points: few numbers of each rule nearly all of them out.

Turned to the principal axes of the points, and cut to the first of them, a point is nearer to any other than it was.
The length of what was cut off rules out more: with x = (u, v) and y = (w, z), where u and w are kept,

    |x - y|² = |u - w|² + |v - z|²  >=  |u - w|² + (|v| - |z|)²

by the triangle inequality. So (u, |v|), 31 numbers, bound the distance from below, whatever the axes are: axes that
fit the points badly cost time and never a neighbour. A product of a matrix with a vector gives all bounds:
|u - w|² + (|v| - |z|)² is |a|² - 2 a·b + |b|² for a = (u, |v|), and the 32nd number is |a|².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTLINE = 32
"""Numbers of a point that bound its distances: 30 axes, the length of the rest, the square of all. Measured in
docs/decisions/0045-similar-frames.md."""

_BLOCK = 64
"""Points of which the one with the least bound is looked at first."""
_FIRST = 8
"""So many times the neighbours asked for are looked at first: most of them are among these."""
_POINTS_AT_A_TIME = 4096
"""Of which the distances are computed: 4 MB of 256 numbers, near a processor."""
_ROUNDING = 4e-6
"""Of the squares of which a bound is the difference: 32 products and sums in single precision, 6e-8 each, of numbers
that are themselves rounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """How points are cut to what bounds their distances.

    Parameters
    ----------
    centre
        (F,) the points' mean.
    axes
        (F, 30) orthonormal; fewer where points have fewer numbers.
    """

    centre: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def fitted(cls, points: NDArray[np.floating]) -> Outlines:
        """Return those that suit some points, (N, F), one at least."""
        exact = points.astype(np.float64)
        centre = exact.mean(0)
        exact -= centre
        _, axes = np.linalg.eigh(exact.T @ exact)
        kept = axes[:, ::-1][:, : OUTLINE - 2]
        return cls(centre.astype(np.float32), np.ascontiguousarray(kept, np.float32))

    def of(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return what bounds the distances of points, (N, F): (N, `OUTLINE`)."""
        outlines = np.zeros((len(points), OUTLINE), np.float32)
        for start in range(0, len(points), _POINTS_AT_A_TIME):
            some = slice(start, start + _POINTS_AT_A_TIME)
            # What was cut off is a small difference of squares.
            centred = points[some].astype(np.float64) - self.centre
            kept = centred @ self.axes.astype(np.float64)
            squares = np.einsum("nf,nf->n", centred, centred)
            outlines[some, : kept.shape[1]] = kept
            outlines[some, -2] = np.sqrt(np.maximum(squares - np.einsum("nk,nk->n", kept, kept), 0.0))
            outlines[some, -1] = squares
        return outlines


def nearest(
    points: NDArray[np.float16],
    outlines: NDArray[np.float32],
    to_outlines: Outlines,
    query: NDArray[np.floating],
    n: int,
    *,
    excluded: Sequence[slice] = (),
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest points, and their Euclidean distances, the nearest first.

    Parameters
    ----------
    points
        (N, F).
    outlines
        (N, `OUTLINE`) of these.
    to_outlines
        That made them.
    query
        (F,).
    n
        How many; all there are where these are fewer.
    excluded
        Points that are none.
    """
    query = query.astype(np.float32)
    bounds = _bounds(outlines, to_outlines.of(query[None])[0])
    for where in excluded:
        bounds[where] = np.inf
    first_bound = _bound_of_few(bounds, _FIRST * n)
    best = _Best.none(n)
    first = np.flatnonzero((bounds <= first_bound) & (bounds < np.inf))
    best = best.with_further(points, first, query)
    further = np.flatnonzero((bounds > first_bound) & (bounds <= best.limit) & (bounds < np.inf))
    if len(further) > _POINTS_AT_A_TIME:
        further = further[np.argsort(bounds[further], kind="stable")]
    for start in range(0, len(further), _POINTS_AT_A_TIME):
        some = further[start : start + _POINTS_AT_A_TIME]
        if bounds[some].min() > best.limit:
            break
        best = best.with_further(points, some, query)
    return best.indices, np.sqrt(best.squares)


def _bounds(outlines: NDArray[np.float32], outline: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return lower bounds on squared distances, lowered by as much as rounding may have put them too high."""
    weights = -2.0 * outline
    weights[-1] = 1.0 - _ROUNDING
    bounds: NDArray[np.float32] = outlines @ weights
    bounds += outline[-1] * (1.0 - _ROUNDING)
    return bounds


def _bound_of_few(bounds: NDArray[np.float32], wanted: int) -> float:
    """Return a bound below which lie `wanted` points, or some more: of blocks the least, in place of a full sort."""
    whole = len(bounds) // _BLOCK * _BLOCK
    least = bounds[:whole].reshape(-1, _BLOCK).min(1)
    if len(least) <= wanted:
        return float(np.inf)
    return float(np.partition(least, wanted)[wanted])


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """The nearest points so far, the nearest first."""

    n: int
    indices: NDArray[np.int64]
    squares: NDArray[np.float32]
    """Of their distances."""

    @classmethod
    def none(cls, n: int) -> _Best:
        return cls(n, np.empty(0, np.int64), np.empty(0, np.float32))

    @property
    def limit(self) -> float:
        """Square of the distance from which on a point is none of them."""
        return float(self.squares[-1]) if len(self.squares) == self.n else float(np.inf)

    def with_further(
        self, points: NDArray[np.float16], some: NDArray[np.int64], query: NDArray[np.float32]
    ) -> _Best:
        """Look at some further points."""
        indices, squares = [self.indices], [self.squares]
        for start in range(0, len(some), _POINTS_AT_A_TIME):
            part = some[start : start + _POINTS_AT_A_TIME]
            apart = points[part].astype(np.float32) - query
            indices.append(part)
            squares.append(np.einsum("nf,nf->n", apart, apart))
        all_indices, all_squares = np.concatenate(indices), np.concatenate(squares)
        # Of equal ones that which was stored first.
        order = np.lexsort((all_indices, all_squares))[: self.n]
        return _Best(self.n, all_indices[order], all_squares[order])
