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

RING_CONTRAST = 0.05
"""A ring stands out by this share of what lies under it; less drowns in the steps of grey of a picture."""
HALO_CONTRAST = 0.2
"""A halo has no edges to guide the eye and needs more."""
RING_DETECTION = 9.0
"""Signal to noise of all visible sectors together, or 81 photons on black; 5 is the limit for a known place,
and a search needs more."""
HALO_DETECTION = 20.0
"""The same for a halo, whose signal is spread over many times the pixels of a ring."""
RING_SECTORS = 3
"""Sectors of 5° that must be visible: shorter arcs are spots."""
MODULATION = 0.12
"""Standard deviation of the intensity along the azimuth over its mean: below it, the eye says isotropic."""
DILUTED_MODULATION = 0.06
"""The same over the mean of all counts in the same place."""
MODULATION_DETECTION = 10.0
"""Signal to noise of the modulation along the azimuth."""
COVERED = 0.4
"""Share of each flank of a maximum that must be seen in a sector: without both it is a slope, no maximum."""
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
    half = max(0.5 * feature.width, 1.0)
    low, high = max(math.ceil(feature.radius - half), 1), math.floor(feature.radius + half) + 1
    middle = min(max(round(feature.radius), low + 1), high - 1)
    if high > total.shape[1]:
        return Visibility(visible=False)
    area = (2.0 * math.pi / SECTORS) * torch.arange(low, high)
    seen = experiment.bin_transmission[:, low:high]
    inner, outer = slice(0, middle - low), slice(middle - low, None)
    covered = (seen[:, inner].sum(dim=1) >= COVERED * area[inner].sum()) & (
        seen[:, outer].sum(dim=1) >= COVERED * area[outer].sum()
    )
    if int(covered.sum()) < RING_SECTORS:
        return Visibility(visible=False)
    radial = feature.term.radial[2 * low : 2 * high : 2]
    signals = seen * radial * feature.sectors()[:, None]
    signal = signals.sum(dim=1)
    counts = torch.maximum(total[:, low:high].sum(dim=1), signal).clamp(min=1e-9)
    ring = feature.kind is FeatureKind.RING
    contrast = RING_CONTRAST if ring else HALO_CONTRAST
    stands_out = covered & (signal > contrast * (counts - signal)) & (signal > 0)
    detection = math.sqrt(experiment.binning * float((signal**2 / counts)[stands_out].sum()))
    needed = RING_DETECTION if ring else HALO_DETECTION
    if int(stands_out.sum()) < RING_SECTORS or detection < needed:
        return Visibility(visible=False)
    anisotropic, order_known = _modulation(feature.order, signals, seen, counts, covered, experiment.binning)
    return Visibility(visible=True, anisotropic=anisotropic, order_known=order_known)


def _modulation(
    order: int, signals: Tensor, seen: Tensor, counts: Tensor, covered: Tensor, binning: int
) -> tuple[bool, bool]:
    """Whether a feature visibly varies along the azimuth, and whether enough of its period is seen.

    `signals` and `seen` are its counts and the pixels seen in a band of radii, (SECTORS, radii); `counts`
    all counts of each sector and `covered` the sectors to compare, (SECTORS,).
    """
    if order == 0:
        return False, False
    signals, seen, counts = signals[covered], seen[covered], counts[covered]
    # Sectors that a detector's edge cuts off see other radii than whole ones: compare radius by radius.
    mean_rate = signals.sum(dim=0) / seen.sum(dim=0).clamp(min=1e-9)
    even = (seen * mean_rate).sum(dim=1).clamp(min=1e-9)
    deviation = signals.sum(dim=1) - even
    detection = math.sqrt(binning * float((deviation**2 / counts).sum()))
    anisotropic = (
        float((deviation / even).std(correction=0)) >= MODULATION
        and float((deviation / counts).std(correction=0)) >= DILUTED_MODULATION
        and detection >= MODULATION_DETECTION
    )
    period = SECTORS / order
    phases = torch.remainder(torch.nonzero(covered)[:, 0].float() + 0.5, period).floor()
    order_known = int(torch.bincount(phases.long()).count_nonzero()) >= FOLD_COVERAGE * period
    return anisotropic, order_known


def _diffuse(feature: Feature, total: Tensor, experiment: Experiment) -> Visibility:
    pixels, seen = experiment.bin_pixels, experiment.bin_transmission
    rates = feature.rates()
    signals = rates * seen
    counts = torch.maximum(total, signals).clamp(min=1e-9)
    stands_out = (signals > DIFFUSE_CONTRAST * (counts - signals)) & (signals > 0) & (seen > 0.5 * pixels)
    enough = DIFFUSE_PIXELS * experiment.scale**2
    detection = math.sqrt(experiment.binning * float((signals**2 / counts)[stands_out].sum()))
    if float(pixels[stands_out].sum()) < enough or detection < DIFFUSE_DETECTION:
        return Visibility(visible=False)
    if feature.kind is FeatureKind.HIGH_Q:
        return Visibility(visible=_rise_shows(rates, stands_out, counts, experiment))
    if feature.order == 0:
        return Visibility(visible=True)
    # The band of radii in which a third of the sectors stand out shows the anisotropy.
    band = stands_out.sum(dim=0) * 3 >= (seen > 0).sum(dim=0).clamp(min=1)
    weight = seen[:, band].sum(dim=1)
    covered = weight > 0.15 * weight.max() if bool(band.any()) else torch.zeros(SECTORS, dtype=torch.bool)
    if not bool(covered.any()):
        return Visibility(visible=True)
    anisotropic, order_known = _modulation(
        feature.order,
        signals[:, band],
        seen[:, band],
        counts[:, band].sum(dim=1),
        covered,
        experiment.binning,
    )
    return Visibility(visible=True, anisotropic=anisotropic, order_known=order_known)


def _rise_shows(rates: Tensor, stands_out: Tensor, counts: Tensor, experiment: Experiment) -> bool:
    """Whether the dark hole around the beam is seen: flat intensity alone is background."""
    seen = experiment.bin_transmission
    enough = DIFFUSE_PIXELS * experiment.scale**2
    missing = rates.max() - rates
    # What the hole lacks stands out against the counts that fill it as any diffuse intensity must.
    lacking = missing * seen
    dark = (missing > 0.5 * rates.max()) & (lacking > DIFFUSE_CONTRAST * counts)
    bright = stands_out & (missing < 0.3 * rates.max())
    detection = math.sqrt(experiment.binning * float((lacking**2 / (counts + lacking))[dark].sum()))
    return (
        float(seen[dark].sum()) >= enough
        and float(seen[bright].sum()) >= enough
        and detection >= HALO_DETECTION
    )
