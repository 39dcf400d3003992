"""Which labels a frame deserves: what a scientist could see of it above the noise, not what was drawn.

The rule looks at the noiseless intensity of each feature against all counts expected in the same pixels.
docs/labels.md states it in words; the numbers here are the ones it quotes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dvfb_stream.labels import close_under_implication
from dvfb_stream.simulation.components import Component, Feature, FeatureKind
from dvfb_stream.simulation.experiment import SECTORS, Experiment

RING_CONTRAST = 0.08
"""A ring stands out by this share of what lies under it; 8 % is one step of grey in a logarithmic picture."""
HALO_CONTRAST = 0.2
"""A halo has no edges to guide the eye and needs more."""
RING_DETECTION = 8.0
"""Signal to noise of all visible sectors together: 5 is the limit for a known place, a search needs more."""
RING_SECTORS = 3
"""Sectors of 5° that must be visible: shorter arcs are spots."""
MODULATION = 0.12
"""Standard deviation of the intensity along the azimuth over its mean: below it, the eye says isotropic."""
MODULATION_DETECTION = 8.0
"""Signal to noise of the modulation along the azimuth."""
FOLD_COVERAGE = 0.75
"""Share of one period, 360°/k, that must be seen before its order can be told."""
DIFFUSE_PIXELS = 400
"""Pixels (of a 256 x 256 frame) in which diffuse scattering must stand out."""
DIFFUSE_CONTRAST = 0.25
"""Share of what else is there by which it must stand out in each of them."""
DIFFUSE_DETECTION = math.sqrt(DIFFUSE_PIXELS * 10.0)
"""Signal to noise over those pixels: that of 400 pixels of 10 counts each."""

FOLDS = {2: "two_fold", 4: "four_fold", 6: "six_fold"}


@dataclass(frozen=True, slots=True)
class Visibility:
    """What can be seen of one feature."""

    visible: bool
    anisotropic: bool = False
    order_known: bool = False
    """Whether enough of the circle is seen to tell the order of the symmetry."""


def labels_of(components: Iterable[Component], total: Tensor, experiment: Experiment) -> tuple[str, ...]:
    """Return the labels of a frame, in the order of `LABELS`.

    Parameters
    ----------
    components
        All components of the frame.
    total
        Expected counts of the frame summed over the valid pixels of each polar bin, (SECTORS, B).
    experiment
        Its geometry and binning.
    """
    found: set[str] = set()
    for component in components:
        rings: list[Feature] = []
        for feature in component.features:
            seen = visibility(feature, total, experiment)
            if not seen.visible:
                continue
            if feature.kind is FeatureKind.LOW_Q:
                found.add("diffuse_low_q")
            elif feature.kind is FeatureKind.HIGH_Q:
                found.add("diffuse_high_q")
            elif feature.kind is FeatureKind.HALO:
                found.add("halo")
                if seen.anisotropic:
                    found.add("symmetry_halo")
            else:
                found.add("rings")
                rings.append(feature)
                if seen.anisotropic and feature.textured:
                    found.add("symmetry_rings")
            if seen.anisotropic and seen.order_known and feature.order in FOLDS:
                found.add(FOLDS[feature.order])
        if distinct_rings(rings) >= 2:
            found.add("higher_orders")
    return close_under_implication(found)


def visibility(feature: Feature, total: Tensor, experiment: Experiment) -> Visibility:
    """Judge one feature of a frame whose expected counts in the polar bins are `total`."""
    if feature.kind in (FeatureKind.RING, FeatureKind.HALO):
        return _maximum(feature, total, experiment)
    return _diffuse(feature, total, experiment)


def distinct_rings(rings: Iterable[Feature]) -> int:
    """Count rings that lie apart by more than their width: two closer ones look like one."""
    count = 0
    last = -math.inf
    for ring in sorted(rings, key=lambda ring: ring.radius):
        if ring.radius - last > 1.2 * ring.width:
            count += 1
            last = ring.radius
    return count


def _maximum(feature: Feature, total: Tensor, experiment: Experiment) -> Visibility:
    bins = total.shape[1]
    half = max(0.5 * feature.width, 1.0)
    low, high = max(math.ceil(feature.radius - half), 1), math.floor(feature.radius + half) + 1
    middle = min(max(round(feature.radius), low + 1), high - 1)
    if high > bins:
        return Visibility(visible=False)
    # Both flanks must be seen, or a maximum cannot be told from a slope.
    area = (2.0 * math.pi / SECTORS) * torch.arange(low, high)
    seen = experiment.bin_transmission[:, low:high]
    inner, outer = slice(0, middle - low), slice(middle - low, None)
    covered = (seen[:, inner].sum(dim=1) >= 0.5 * area[inner].sum()) & (
        seen[:, outer].sum(dim=1) >= 0.5 * area[outer].sum()
    )
    if int(covered.sum()) < RING_SECTORS:
        return Visibility(visible=False)
    radial = feature.term.radial[2 * low : 2 * high : 2]
    signal = (seen * radial).sum(dim=1) * feature.sectors()
    counts = torch.maximum(total[:, low:high].sum(dim=1), signal)
    contrast = RING_CONTRAST if feature.kind is FeatureKind.RING else HALO_CONTRAST
    stands_out = covered & (signal > contrast * (counts - signal)) & (signal > 0)
    noise = (counts / experiment.binning).clamp(min=1e-12)
    detection = math.sqrt(float((signal**2 / noise)[stands_out].sum()))
    if int(stands_out.sum()) < RING_SECTORS or detection < RING_DETECTION:
        return Visibility(visible=False)
    anisotropic, order_known = _modulation(feature.order, signal, seen.sum(dim=1), noise, covered)
    return Visibility(visible=True, anisotropic=anisotropic, order_known=order_known)


def _modulation(
    order: int, signal: Tensor, weight: Tensor, noise: Tensor, covered: Tensor
) -> tuple[bool, bool]:
    """Whether the signal (SECTORS,) varies visibly over the covered sectors, and whether its period shows."""
    if order == 0:
        return False, False
    rate = signal[covered] / weight[covered]
    mean = float(signal[covered].sum() / weight[covered].sum())
    deviation = rate - mean
    detection = math.sqrt(float((deviation**2 * weight[covered] ** 2 / noise[covered]).sum()))
    # What lies under the ring dilutes its modulation just as it dilutes the ring.
    modulation = float(deviation.std(correction=0)) / mean
    anisotropic = modulation >= MODULATION and detection >= MODULATION_DETECTION
    period = SECTORS / order
    phases = torch.remainder(torch.nonzero(covered)[:, 0].float() + 0.5, period).floor()
    order_known = torch.bincount(phases.long()).count_nonzero() >= FOLD_COVERAGE * period
    return anisotropic, order_known


def _diffuse(feature: Feature, total: Tensor, experiment: Experiment) -> Visibility:
    pixels, seen = experiment.bin_pixels, experiment.bin_transmission
    rates = feature.rates()
    signal = rates * seen
    counts = torch.maximum(total, signal)
    stands_out = (signal > DIFFUSE_CONTRAST * (counts - signal)) & (signal > 0) & (seen > 0.5 * pixels)
    noise = (counts / experiment.binning).clamp(min=1e-12)
    enough = DIFFUSE_PIXELS * experiment.scale**2
    detection = math.sqrt(float((signal**2 / noise)[stands_out].sum()))
    if float(pixels[stands_out].sum()) < enough or detection < DIFFUSE_DETECTION:
        return Visibility(visible=False)
    if feature.kind is FeatureKind.HIGH_Q:
        # Flat intensity is background: the rise itself must be on the detector.
        dark = rates < 0.4 * rates.max()
        bright = stands_out & (rates > 0.7 * rates.max())
        return Visibility(visible=float(seen[dark].sum()) >= enough and float(pixels[bright].sum()) >= enough)
    if feature.order == 0:
        return Visibility(visible=True)
    # The band of radii in which a third of the sectors stand out shows the anisotropy.
    band = stands_out.sum(dim=0) * 3 >= (seen > 0).sum(dim=0).clamp(min=1)
    weight = seen[:, band].sum(dim=1)
    covered = weight >= 0.5 * weight.max()
    if not bool(covered.any()):
        return Visibility(visible=True)
    anisotropic, order_known = _modulation(
        feature.order, signal[:, band].sum(dim=1), weight, noise[:, band].sum(dim=1), covered
    )
    return Visibility(visible=True, anisotropic=anisotropic, order_known=order_known)
