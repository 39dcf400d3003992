"""Random numbers that belong to an item (a frame, a structure, an experiment) and not to the order of asking."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, pdtr

Reals = NDArray[np.float64]


class Stream(IntEnum):
    """What random numbers are for; streams of one seed are independent."""

    EXPERIMENT = 0
    FRAME = 1
    STRUCTURE = 2
    PIXELS = 3
    CIRCUMSTANCES = 4
    """What real beamlines do to an experiment: apart from its other numbers, which do not change by it."""
    ADDITIONS = 5
    """The same of a frame."""


@functools.lru_cache(maxsize=64)
def _key(seed: int, stream: Stream) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(int(stream),)).generate_state(1, np.uint64)[0])


class Draws:
    """Random numbers of several items at once, one row of them for each.

    Philox is a function of key and counter (Salmon et al., SC'11): the key says seed and stream, the counter item
    and column. So an item's numbers are the same whichever items are drawn beside it. Each method takes the next
    columns, the same number of them whatever was drawn before; results have one value, or `count` values, a row.

    Parameters
    ----------
    seed
        Not negative.
    stream
        What the numbers are for.
    items
        (n,) not negative.
    columns
        Uniform numbers that will be taken of each item, at most.
    """

    def __init__(self, seed: int, stream: Stream, items: Sequence[int] | NDArray[np.int64], columns: int):
        philox = np.random.Philox(key=np.array([_key(seed, stream), 0], dtype=np.uint64))
        generator = np.random.Generator(philox)
        state = philox.state
        self._uniforms = np.empty((len(items), columns))
        for row, item in zip(self._uniforms, items, strict=True):
            state["state"]["counter"][1] = item
            philox.state = state
            generator.random(out=row)
        self._used = 0

    def __len__(self) -> int:
        return len(self._uniforms)

    def chosen(self, rows: NDArray[np.int64]) -> Draws:
        """Return the draws of some items from the column reached on; those taken there are taken there only."""
        part = object.__new__(Draws)
        part._uniforms, part._used = self._uniforms[rows], self._used
        return part

    def apart(self, columns: int) -> Draws:
        """Return the next columns as draws of their own."""
        part = object.__new__(Draws)
        part._uniforms, part._used = self._uniforms[:, self._used : self._used + columns], 0
        self._used += columns
        return part

    def uniform(self, low: float = 0.0, high: float = 1.0, *, count: int | None = None) -> Reals:
        """Return numbers between `low` and `high`, (n,) or (n, count)."""
        wanted = 1 if count is None else count
        taken = self._uniforms[:, self._used : self._used + wanted]
        if taken.shape[1] < wanted:
            raise IndexError(f"only {self._uniforms.shape[1]} columns were provided")
        self._used += wanted
        if count is None:
            taken = taken[:, 0]
        result: Reals = low + (high - low) * taken
        return result

    def log_uniform(self, low: float, high: float, *, count: int | None = None) -> Reals:
        """Return numbers whose logarithm is uniform."""
        result: Reals = np.exp(self.uniform(float(np.log(low)), float(np.log(high)), count=count))
        return result

    def normal(self, mean: float = 0.0, deviation: float = 1.0, *, count: int | None = None) -> Reals:
        """Return normally distributed numbers."""
        # Uniform numbers are multiples of 2^-53 from 0 to below 1: none is left at an infinite end.
        result: Reals = mean + deviation * ndtri(self.uniform(count=count).clip(2.0**-54, 1.0 - 2.0**-53))
        return result

    def lognormal(self, mean: float, deviation: float, *, count: int | None = None) -> Reals:
        """Return numbers whose natural logarithm is normal."""
        result: Reals = np.exp(self.normal(mean, deviation, count=count))
        return result

    def happens(self, probability: float, *, count: int | None = None) -> NDArray[np.bool_]:
        """Return True with a probability."""
        result: NDArray[np.bool_] = self.uniform(count=count) < probability
        return result

    def integers(self, low: int, high: int, *, count: int | None = None) -> NDArray[np.int64]:
        """Return integers from `low` up to, not including, `high`."""
        return np.floor(self.uniform(low, high, count=count)).astype(np.int64)

    def choice(self, weights: Sequence[float], *, count: int | None = None) -> NDArray[np.int64]:
        """Return indices with odds of `weights`."""
        steps = np.cumsum(weights)
        return np.searchsorted(steps / steps[-1], self.uniform(count=count), side="right").clip(
            max=len(steps) - 1
        )

    def poisson(self, mean: float) -> NDArray[np.int64]:
        """Return Poisson variables of a small mean."""
        steps = pdtr(np.arange(64), mean)
        return np.searchsorted(steps, self.uniform(), side="right")
