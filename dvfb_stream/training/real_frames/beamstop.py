"""A frame with its beamstop masked where it was not, or not masked where it was: masks differ from day to day."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Frame
from dvfb_stream.training.real_frames.alterations import (
    NEAR,
    Settled,
    altered,
    connected,
    distances,
    gaps_of,
    valid_pixels,
)
from dvfb_stream.training.real_frames.weighted_scores import ratio

REACH = 0.125
"""Of the detector's longer side: a beamstop's shadow ends within this radius."""
DEPTH = 0.5
"""Of the intensity at the shadow's edge: inside there is less. Holes of patterns at small angles are shallower."""
STILL_RISING = 1.25
"""A mean that rises by more within the next half of its radius, or 5 pixels, is not at the edge yet."""
STANDARD_DEVIATIONS = 5.0
"""Of counting noise, by which the edge is brighter than the shadow."""


def with_beamstop_otherwise(settled: Settled) -> Frame | None:
    """Return a frame with the beamstop masked where it was not, or not masked where it was.

    A mask that covers most of the beam's surroundings loses what is connected with them there, but for rows and
    columns that are masked entirely, which are gaps between modules, and for values that are no counts. Otherwise a
    disk is masked, out to the edge of the shadow around the beam. None where the beam is off the detector, where no
    shadow is seen, or where nothing would be left.
    """
    frame = settled.frame
    valid, radius = valid_pixels(frame), distances(frame.geometry)
    if radius.min() > 1:
        return None
    gaps = gaps_of(valid)
    near = (radius < NEAR) & ~gaps
    if near.any() and valid[near].mean() <= 0.5:
        opened = valid | (connected(~valid & ~gaps, near) & valid_pixels(settled.unmasked))
        return None if (opened == valid).all() else _with_mask(settled.unmasked, opened)
    edge = shadow_edge(np.asarray(frame.pixels), valid, radius)
    masked = valid & (radius > (edge or 0))
    return None if edge is None or not masked.any() else _with_mask(frame, masked)


def shadow_edge(
    counts: NDArray[np.number], valid: NDArray[np.bool_], radius: NDArray[np.float64]
) -> int | None:
    """Return the radius in pixels at which the shadow around the beam ends, None where there is none.

    The mean along the azimuth, of rings three pixels wide, has ended to rise there, and is `DEPTH` of it further in.
    """
    ring = np.rint(radius[valid]).astype(int)
    three = np.ones(3)
    n_pixels = np.convolve(np.bincount(ring).astype(float), three, "same")
    sums = np.convolve(np.bincount(ring, weights=counts[valid].astype(float)), three, "same")
    mean = ratio(sums, n_pixels)
    known = np.flatnonzero(n_pixels > 0)
    for r in known[(known >= 2) & (known < REACH * max(radius.shape))]:
        inside = known[known < r - 1]
        ahead = known[(known >= r) & (known <= r + max(5, r // 2))]
        if not len(inside) or mean[ahead].max() > STILL_RISING * mean[r]:
            continue
        darkest = inside[np.argmin(mean[inside])]
        noise = np.sqrt(max(mean[r], 0) * (1 / n_pixels[r] + 1 / n_pixels[darkest]))
        if mean[darkest] <= DEPTH * mean[r] and mean[r] - mean[darkest] > STANDARD_DEVIATIONS * noise:
            return int(r)
    return None


def _with_mask(frame: Frame, valid: NDArray[np.bool_]) -> Frame:
    return altered(np.where(valid, frame.pixels, 0), valid, frame.geometry)
