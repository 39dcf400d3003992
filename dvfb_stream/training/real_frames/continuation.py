"""A frame's pattern carried on over the edge of its detector, as a larger one would record it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Frame
from dvfb_stream.training.real_frames.alterations import (
    NEAR,
    altered,
    azimuthal_mean,
    connected,
    distances,
    gaps_of,
    noisy_like,
    on_larger_detector,
    valid_pixels,
)

OUTER = 0.7
"""Of the largest radius: from there on the azimuthal mean says how it goes on."""
STEEPEST = 4.0
"""Power of the radius by which intensity falls: Porod's law of smooth surfaces. A steeper fall is the edge of a
window or of a reflection, and does not go on."""
AVERAGED = 0.02
"""Of the longer side: the intensity at the edge is that of a square as large, so that no photon becomes a streak."""
MOST_ABOVE = 30.0
"""Times the azimuthal mean, that the intensity at the edge may be: a hot pixel there is no streak."""


def continued(frame: Frame, factor: float, random: np.random.Generator) -> Frame | None:
    """Return a frame in the middle of a detector `factor` times as long and wide, its pattern carried on to the edge.

    Beyond the frame's edge the intensity is the azimuthal mean, times what that edge has of it in the same direction,
    with counting noise: rings go on as rings, a streak as a streak, a shadow as a shadow. Where no radius is known
    any more, the mean falls as a power of the radius, as it does in its outer part. Only valid pixels count, and what
    is masked along the edge is carried on to as well: a round detector becomes a larger square one. Gaps stay, and
    what hides the beam. None where the beam is off the detector: from there no direction leads over the edge.
    """
    geometry = frame.geometry
    if not (0 <= geometry.center_x < geometry.shape[1] and 0 <= geometry.center_y < geometry.shape[0]):
        return None
    larger = on_larger_detector(frame, factor)
    rows, columns = geometry.shape
    top, left = ((new - old) // 2 for new, old in zip(larger.geometry.shape, geometry.shape, strict=True))
    radius = distances(larger.geometry)
    y, x = np.indices(larger.geometry.shape)
    off_x, off_y = x - larger.geometry.center_x, y - larger.geometry.center_y
    with np.errstate(divide="ignore"):
        across = np.where(off_x > 0, columns - 1 - geometry.center_x, geometry.center_x) / np.abs(off_x)
        down = np.where(off_y > 0, rows - 1 - geometry.center_y, geometry.center_y) / np.abs(off_y)
    share = np.minimum(np.minimum(across, down), 1)
    edge_x = np.rint(geometry.center_x + off_x * share).astype(int).clip(0, columns - 1)
    edge_y = np.rint(geometry.center_y + off_y * share).astype(int).clip(0, rows - 1)
    profile = _profile(frame, radius.max())
    above = _above(frame, profile)[edge_y, edge_x]
    mean = np.interp(radius, np.arange(len(profile)), profile) * above
    outside = np.ones(larger.geometry.shape, bool)
    outside[top : top + rows, left : left + columns] = _masked_edge(frame)
    noise = noisy_like(frame, mean, random)
    pixels = np.where(outside, noise, larger.pixels)
    return altered(pixels, valid_pixels(larger) | outside, larger.geometry)


def _masked_edge(frame: Frame) -> NDArray[np.bool_]:
    """Return what is masked along the edge, without gaps and without what reaches to the beam."""
    valid = valid_pixels(frame)
    masked = ~valid & ~gaps_of(valid)
    edge = np.zeros_like(valid)
    edge[[0, -1]], edge[:, [0, -1]] = True, True
    hides_the_beam = connected(masked, distances(frame.geometry) < NEAR)
    return connected(masked & ~hides_the_beam, edge)


def _profile(frame: Frame, farthest: float) -> NDArray[np.float64]:
    """Return the azimuthal mean at radius 0, 1, 2, ..., beyond what is known by a power law."""
    known = azimuthal_mean(np.asarray(frame.pixels), valid_pixels(frame), distances(frame.geometry)).clip(0)
    places = np.flatnonzero(np.isfinite(known))
    radii = np.arange(int(farthest) + 2)
    profile = np.interp(radii, places, known[places])
    last = places[-1]
    outer = places[(places >= OUTER * last) & (known[places] > 0)]
    beyond = radii > last
    if len(outer) > 2:
        logarithms, intensities = np.log(outer), np.log(known[outer])
        power = float(np.clip(np.polyfit(logarithms, intensities, 1)[0], -STEEPEST, 0))
        level = np.exp(intensities.mean() - power * logarithms.mean())
        profile[beyond] = level * radii[beyond] ** power
    return np.asarray(profile)


def _above(frame: Frame, profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many times the azimuthal mean the intensity around each pixel is; 1 where nothing is known."""
    from scipy.ndimage import uniform_filter

    valid, radius = valid_pixels(frame), distances(frame.geometry)
    size = max(3, round(AVERAGED * max(frame.geometry.shape)))
    mean = np.interp(radius, np.arange(len(profile)), profile)
    there, expected = (
        uniform_filter(np.where(valid, values, 0).astype(float), size, mode="constant")
        for values in (frame.pixels, mean)
    )
    seen = expected > 1e-9 * expected.max()  # less is what a running sum rounds
    above: NDArray[np.float64] = np.divide(there, expected, out=np.ones_like(there), where=seen)
    return np.asarray(above.clip(0, MOST_ABOVE))
