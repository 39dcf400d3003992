"""Which labels a frame as a whole deserves: grazing incidence, and how good it is; the rules of docs/labels.md."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.beamline.raster import Bins
from dvfb_stream.simulation.expectation import Expectation
from dvfb_stream.simulation.settings import BY_CONTRAST
from dvfb_stream.simulation.visibility import (
    DIFFUSE_CONTRAST,
    DIFFUSE_DETECTION,
    DIFFUSE_PIXELS,
    FOLDS,
    HALO_DETECTION,
    RING_CONTRAST,
    RING_DETECTION,
    TINY,
)

EMPTY_DETECTION = RING_DETECTION
"""Signal to noise of all that a sample scatters below which its frame is empty: that of the faintest ring."""
WEAK_DETECTION = DIFFUSE_DETECTION
"""The same below which a frame is weak: with 4,000 counts on black no smooth scattering can have its label yet, and a
ring needs a seventh of all for itself."""
SATURATED_PIXELS = 10.0
"""Valid pixels (of a 256 x 256 view) at the detector's limit from which a frame is saturated: a hot pixel or a leak
of the beam is fewer."""
MISALIGNED_PIXELS = 3.0
"""View pixels by which the stated centre must be wrong: 1.2 % of the detector's side. A narrow ring is then smeared
over more than its width, which a centre that is found by hand avoids."""
ROD_PIXELS = 60.0
"""View pixels in which rods at grazing incidence must stand out: two wide and thirty long."""

_PLACE = {label: number for number, label in enumerate(ALL_LABELS)}
_TEN = 10


def add_frame_labels(
    labels: Tensor, expectation: Expectation, experiment: Experiment, *, fold_rule: str
) -> Tensor:
    """Return labels with those of whole frames, (n, 18) bool on the CPU.

    Parameters
    ----------
    labels
        What structures decide, (n, 18), by `dvfb_stream.simulation.visibility.labels_of`.
    expectation
        Of the same frames.
    experiment
        They are of.
    fold_rule
        By ``contrast``, a frame that shows grazing incidence has no fold: what is aligned to a surface is mirrored at
        its normal, and does not repeat around the beam.
    """
    labels, bins = labels.clone(), experiment.bins
    if expectation.hidden is not None:
        grazing = _shows_a_surface(expectation, bins).cpu()
        labels[:, _PLACE["grazing"]] = grazing
        if fold_rule == BY_CONTRAST:
            for fold in FOLDS.values():
                labels[:, _PLACE[fold]] &= ~grazing
    detection = _detection(expectation, bins, experiment.circumstances.readout.taken_off).cpu()
    nothing = ~labels[:, :_TEN].any(dim=1) & ~labels[:, _PLACE["grazing"]]
    empty = nothing & (detection < EMPTY_DETECTION)
    labels[:, _PLACE["empty"]] = empty
    labels[:, _PLACE["weak"]] = ~empty & (detection >= EMPTY_DETECTION) & (detection < WEAK_DETECTION)
    full = (bins.pixels * expectation.overflowing).sum(dim=(1, 2)) >= SATURATED_PIXELS
    labels[:, _PLACE["saturated"]] = full.cpu()
    if math.hypot(*experiment.circumstances.misalignment) > MISALIGNED_PIXELS:
        centred = labels[:, [_PLACE["diffuse_low_q"], _PLACE["halo"], _PLACE["rings"]]].any(dim=1)
        labels[:, _PLACE["misaligned"]] = centred
    return labels


def _detection(expectation: Expectation, bins: Bins, taken_off: float) -> Tensor:
    """Return the signal to noise of all that samples scatter, where it stands out as a ring must, (n,).

    `taken_off` is the counts a pixel that were subtracted: their noise is there, they are not.
    """
    sample = expectation.sample
    total = torch.maximum(expectation.total, sample).clamp(min=TINY)
    plain = sample > RING_CONTRAST * (total - sample - taken_off * bins.pixels)
    plain &= sample > 0
    return torch.sqrt(bins.depth * (sample**2 / total * plain).sum(dim=(1, 2)))


def _shows_a_surface(expectation: Expectation, bins: Bins) -> Tensor:
    """Return which frames show the horizon of a flat sample, its Yoneda line or a rod, (n,) bool.

    What the horizon hides would stand out against what is there; what the Yoneda line adds does.
    """
    hidden, total = expectation.hidden, expectation.total
    assert hidden is not None
    lacking, added = hidden.clamp(min=0.0), (-hidden).clamp(min=0.0)
    without = torch.minimum(added, total)
    plain = (lacking > DIFFUSE_CONTRAST * total) | (without > DIFFUSE_CONTRAST * (total - without))
    plain &= bins.pixels > 0
    change = lacking + without
    detection = torch.sqrt(
        bins.depth * (change**2 / (total + lacking).clamp(min=TINY) * plain).sum(dim=(1, 2))
    )
    shown = ((bins.pixels * plain).sum(dim=(1, 2)) >= DIFFUSE_PIXELS) & (detection >= HALO_DETECTION)
    if expectation.rods is None:
        return shown
    rods = torch.minimum(expectation.rods, total)
    bright = (rods > DIFFUSE_CONTRAST * (total - rods)) & (rods > 0)
    found = torch.sqrt(bins.depth * (rods**2 / total.clamp(min=TINY) * bright).sum(dim=(1, 2)))
    return shown | (((bins.pixels * bright).sum(dim=(1, 2)) >= ROD_PIXELS) & (found >= HALO_DETECTION))
