"""Which values of a frame are no counts: what is declared of the detector, and what is usual where nothing is.

DECTRIS writes 2^n-1 into gaps and 2^n-2 into dead pixels of n-bit frames, Pilatus -1 and -2; pyFAI's `dynamic_mask`
masks both. Whoever converts a frame keeps these values in a wider type. Decision 22 has the reasons for each rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import InvalidValues

Interval = tuple[float, float]
"""Both ends belong to it; of integer pixels Python's integers, which are exact."""

NEVER_COUNTS = tuple(2**bits - less for bits in (31, 32) for less in (1, 2))
"""Invalid in every type that holds them: no pixel has counted so far, and exactly that."""

NARROW_BITS = (8, 16)
"""A frame whose greatest value is 2^n-1 for one of these was taken with n bits, whatever type it is kept in now."""

PILATUS_MARKERS = (-1, -2)
"""Gaps and dead pixels. Among real or declared values they are so in a frame that holds no lower integer."""

UNDECLARED = InvalidValues()


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidPixels:
    """The intervals of values that mark a pixel of one type as invalid. A NaN marks it, too."""

    dtype: np.dtype[Any]
    """Of the pixels, in the machine's byte order."""
    intervals: tuple[Interval, ...]
    """Ascending, without overlap."""
    declared: InvalidValues
    counts_below_zero: bool
    """Whether -1 and -2 are counts less something, as all negative numbers of the frame are."""
    bits: int | None
    """With which the frame was taken, where it is kept in a wider type."""

    @property
    def bounds(self) -> NDArray[Any]:
        """(n, 2) lowest and greatest value of each interval, in the pixels' own type: for compiled loops."""
        return np.array(self.intervals, dtype=self.dtype).reshape(-1, 2)

    def unmarked(self) -> tuple[float, float]:
        """Return numbers between which no value is marked, not even one that single precision rounds up or down."""
        with np.errstate(over="ignore"):
            bounds = self.bounds.astype(np.float32)
        below = bounds[bounds[:, 0] <= 0, 1].max(initial=-np.inf)
        above = bounds[bounds[:, 0] > 0, 0].min(initial=np.inf)
        return float(below), float(above)

    def valid(self, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of the pixels are none of those values; the shape is theirs."""
        is_real = self.dtype.kind == "f"
        valid = ~np.isnan(pixels) if is_real else np.ones(pixels.shape, dtype=bool)
        highest = np.inf if is_real else np.iinfo(self.dtype).max
        for low, high in self.bounds:
            # One comparison is half the time, and saturation is the usual declaration.
            valid &= pixels < low if high == highest else (pixels < low) | (pixels > high)
        return valid

    def marks_all(self, least: Any, greatest: Any) -> bool:
        """Whether every value from `least` to `greatest`, of the pixels' own type, is marked."""
        return any(low <= least and greatest <= high for low, high in self.intervals)

    def may_hold(self, least: float, greatest: float) -> bool:
        """Whether any value from `least` to `greatest`, perhaps rounded to single precision, may be marked."""
        with np.errstate(over="ignore"):
            bounds = self.bounds.astype(np.float32)
        return not least <= greatest or bool(((bounds[:, 0] <= greatest) & (bounds[:, 1] >= least)).any())

    def reconsidered(self, least: float, greatest: float) -> InvalidPixels | None:
        """Return what marks the pixels of a frame whose valid values go from `least` to `greatest`.

        Two rules need the whole frame: look at its pixels once, and once more only if this returns something.

        Parameters
        ----------
        least, greatest
            Of the values, inside the geometry's mask, that `intervals` let through.

        Returns
        -------
        None where `intervals` are right.
        """
        least, greatest = float(least), float(greatest)
        counts_below_zero = self.counts_below_zero or (least <= -3 and least == math.floor(least))
        bits = self.bits
        if self.declared.above is None:
            bits = next((bits for bits in NARROW_BITS if greatest == 2**bits - 1), bits)
        if (counts_below_zero, bits) == (self.counts_below_zero, self.bits):
            return None
        return _rules(self.dtype, self.declared, counts_below_zero=counts_below_zero, bits=bits)


def invalid_pixels(dtype: np.dtype[Any], declared: InvalidValues | None = None) -> InvalidPixels:
    """Return what marks the pixels of one type as invalid.

    Always: NaN and infinities; the greatest value of an integer type and the one below; `NEVER_COUNTS`; what is
    declared. Negative integers, unless values or a least one are declared. Where negative numbers may be counts from
    which something was subtracted, in floating frames and where that is declared, -1 and -2 as long as there is no
    lower integer.

    Parameters
    ----------
    dtype
        Integer or floating.
    declared
        What is known of the detector or the file; None: nothing.
    """
    return _rules(
        dtype.newbyteorder("="),
        UNDECLARED if declared is None else declared,
        counts_below_zero=False,
        bits=None,
    )


def declared_pixels(dtype: np.dtype[Any], declared: InvalidValues) -> InvalidPixels:
    """Return what marks the pixels of one type as invalid by what is declared alone.

    Parameters
    ----------
    dtype
        Integer or floating.
    declared
        What is known of the detector or the file.
    """
    dtype = dtype.newbyteorder("=")
    fitted = (_reals if dtype.kind == "f" else _integers)(dtype, declared, ())
    return InvalidPixels(
        dtype=dtype, intervals=_merged(fitted), declared=declared, counts_below_zero=False, bits=None
    )


def _rules(
    dtype: np.dtype[Any], declared: InvalidValues, *, counts_below_zero: bool, bits: int | None
) -> InvalidPixels:
    is_real = dtype.kind == "f"
    wanted: list[Interval] = [(value, value) for value in NEVER_COUNTS]
    if not is_real and not declared.values and declared.below is None:
        wanted.append((-math.inf, -1))
    elif not counts_below_zero:
        wanted += [(value, value) for value in PILATUS_MARKERS]
    if bits is not None:
        wanted.append((2**bits - 2, 2**bits - 1))
    wanted.append((math.inf, math.inf) if is_real else (np.iinfo(dtype).max - 1, np.iinfo(dtype).max))
    wanted.append((-math.inf, -math.inf))
    fitted = _reals(dtype, declared, wanted) if is_real else _integers(dtype, declared, wanted)
    return InvalidPixels(
        dtype=dtype,
        intervals=_merged(fitted),
        declared=declared,
        counts_below_zero=counts_below_zero,
        bits=bits,
    )


def _integers(
    dtype: np.dtype[Any], declared: InvalidValues, wanted: Iterable[Interval]
) -> Iterator[Interval]:
    """Yield the intervals that are wanted, and the declared ones, as far as the type reaches."""
    lowest, highest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    beyond = _around_values(declared)
    if declared.above is not None and declared.above < highest:
        beyond.append((math.floor(max(declared.above, lowest - 1)) + 1, highest))
    if declared.below is not None and declared.below > lowest:
        beyond.append((lowest, math.ceil(min(declared.below, highest + 1)) - 1))
    for low, high in (*wanted, *beyond):
        if low <= highest and high >= lowest:
            first, last = math.ceil(max(low, lowest)), math.floor(min(high, highest))
            if first <= last:
                yield first, last


def _reals(dtype: np.dtype[Any], declared: InvalidValues, wanted: Iterable[Interval]) -> Iterator[Interval]:
    """Yield the intervals that are wanted, and the declared ones, as the type rounds their ends."""
    with np.errstate(over="ignore"):
        for low, high in (*wanted, *_around_values(declared)):
            yield float(dtype.type(low)), float(dtype.type(high))
        if declared.above is not None:
            yield float(np.nextafter(dtype.type(declared.above), dtype.type(np.inf))), math.inf
        if declared.below is not None:
            yield -math.inf, float(np.nextafter(dtype.type(declared.below), dtype.type(-np.inf)))


def _around_values(declared: InvalidValues) -> list[Interval]:
    return [
        (value - declared.delta, value + declared.delta) for value in declared.values if not math.isnan(value)
    ]


def _merged(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Return the intervals in ascending order, those that overlap joined."""
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)
