"""What is asked of those who draw structures, and the draws that every structure has: first maximum and symmetry."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.components import Integers
from dvfb_stream.simulation.draws import Draws, Reals


class StructureRequest(NamedTuple):
    """Structures of one kind that frames of an experiment show, a row each, (n,)."""

    draws: Draws
    """Random numbers, a row a structure."""
    experiment: Experiment
    """Of all frames."""
    frame: Integers
    """Position of each one's frame in the batch."""
    structure: Integers
    """A number of its own."""
    level: Reals
    """About its height, counts a detector pixel."""


CANDIDATES = 12
MIN_FWHM = 1.1
"""View pixels; the beam's size and divergence let no ring be narrower."""
MAX_ORDERS = 9
ALIGNMENT = 0.05
"""Radians by which structures of a film depart from its normal at most."""


def draw_radius(draws: Draws, experiment: Experiment, *, low: float = 9.0, reach: float = 0.75) -> Reals:
    """Draw radii (view pixels) of first maxima: q0 from N(0.02, 0.04) 1/Å, where enough of it can be seen."""
    coverage, zoom = experiment.bins.coverage, experiment.zoom
    low = max(low * zoom, experiment.stop_radius + 3.0)
    # Patterns that are larger than the detector begin nearer to its edge, not beyond it.
    reach = reach * zoom if zoom <= 1.0 else min(reach * zoom, 0.9)
    high = max(reach * (len(coverage) - 3), low + 2.0)
    candidates = experiment.radius_of_paper(np.abs(draws.normal(0.02, 0.04, count=CANDIDATES)) + 1e-4) * zoom
    anywhere = draws.uniform()
    fits = (candidates > low) & (candidates < high)
    fits &= coverage[np.minimum(candidates, len(coverage) - 1).astype(np.int64)] > 0.15
    first: Reals = np.take_along_axis(candidates, fits.argmax(axis=1)[:, None], axis=1)[:, 0]
    seen = np.flatnonzero(coverage[: int(high)] > 0.1)
    seen = seen[seen > low]
    if not len(seen):
        seen = np.array([low + 1.0])
    fallback = seen[(anywhere * len(seen)).astype(np.int64)] + 0.0
    result: Reals = np.where(fits.any(axis=1), first, fallback)
    return result


def draw_order(draws: Draws) -> NDArray[np.int64]:
    """Draw k = 2 round(lognormal(0, 0.75)), from 2 to 20."""
    order: NDArray[np.int64] = np.clip(2 * np.rint(draws.lognormal(0.0, 0.75)), 2, 20).astype(np.int64)
    return order


def draw_phase(draws: Draws, experiment: Experiment) -> Reals:
    """Draw directions of maxima, radians; in a film, along its normal or its surface but for a few degrees."""
    anywhere = draws.uniform(0.0, 2.0 * np.pi)
    if not experiment.film or experiment.grazing is None:
        return anywhere
    upright = np.where(anywhere < 1.4 * np.pi, 0.0, 0.5 * np.pi)
    aligned: Reals = experiment.grazing.normal + upright + ALIGNMENT * np.sin(20.0 * anywhere)
    return aligned


def ring_width(radius: Reals, relative: Reals) -> Reals:
    """Return full widths of rings, view pixels, of at least `MIN_FWHM`."""
    result: Reals = np.maximum(radius * relative, MIN_FWHM)
    return result
