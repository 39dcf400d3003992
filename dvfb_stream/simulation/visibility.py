"""Which labels frames deserve: what a scientist could see of them above the noise, not what was drawn.

The rule looks at the noiseless intensity of each feature against all counts expected in the same pixels.
docs/labels.md states it in words; the numbers here are the ones it quotes. Everything is decided for all frames of
a batch at once, on the polar bins of their 256 x 256 view, in float64: what is summed beside a sum changes it by
1e-15 at most, so that no label depends on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.labels import ALL_LABELS, FURTHER_IMPLICATIONS, IMPLICATIONS
from dvfb_stream.simulation.beamline.raster import SECTORS, Bins
from dvfb_stream.simulation.components import Diffuse, Drawn, Maxima
from dvfb_stream.simulation.rendering import BinnedEvaluation
from dvfb_stream.simulation.settings import BY_CONTRAST, BY_DIFFUSE

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
HALO_WIDTH = 0.3
"""Full width over radius from which a maximum is a halo."""
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
DISTINCT = 1.2
"""Two rings are two where they lie farther apart than this many widths."""
DIFFUSE_PIXELS = 400
"""Pixels (of a 256 x 256 view) in which diffuse scattering must stand out."""
DIFFUSE_CONTRAST = 0.25
"""Share of what else is there by which it must stand out in each of them."""
DIFFUSE_DETECTION = math.sqrt(DIFFUSE_PIXELS * 10.0)
"""Signal to noise over those pixels: that of 400 pixels of 10 counts each."""
FOLD_RADII = 3
"""View pixels of radius over which a variation along the azimuth must be seen, where no ring or halo says where: as
many as a narrow ring has."""

FOLDS = {2: "two_fold", 4: "four_fold", 6: "six_fold"}
TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Modulation:
    """What can be seen of the azimuthal variation of features, (n,) bool each."""

    anisotropic: Tensor
    order_known: Tensor
    """Whether enough of the circle is seen to tell the order of the symmetry."""


def labels_of(
    drawn: Drawn,
    total: Tensor,
    binned: BinnedEvaluation,
    *,
    fold_rule: str = BY_DIFFUSE,
    taken_off: float = 0.0,
) -> Tensor:
    """Return the labels that structures decide, (n, 18) bool on the CPU, in the order of `ALL_LABELS`.

    `dvfb_stream.simulation.frame_labels` decides the others, which are False here.

    Parameters
    ----------
    drawn
        All that was drawn for the frames.
    total
        Expected counts of the frames summed over the valid pixels of each polar bin, (n, SECTORS, B).
    binned
        Evaluates what was drawn in the polar bins of their experiment.
    fold_rule
        ``diffuse`` or ``contrast``, as `SimulationSettings.fold_rule`.
    taken_off
        Counts a pixel that were subtracted: their noise is there, but nothing need stand out against them.
    """
    bins = binned.bins
    nearer = torch.nn.functional.pad(total.cumsum(dim=2), (1, 0))  # counts nearer than each radius
    found = np.zeros((len(total), len(ALL_LABELS)), dtype=np.bool_)
    place = {label: number for number, label in enumerate(ALL_LABELS)}
    by_contrast = fold_rule == BY_CONTRAST

    def give(label: str, frame: np.ndarray, where: Tensor | np.ndarray) -> None:
        found[frame[np.asarray(where.cpu() if isinstance(where, Tensor) else where)], place[label]] = True

    def give_folds(frame: np.ndarray, order: np.ndarray, told: np.ndarray) -> None:
        for fold, label in FOLDS.items():
            give(label, frame, told & (order == fold))

    for maxima in drawn.maxima:
        if not len(maxima.radius):
            continue
        frame = maxima.terms.frame
        visible, modulation = _see_maxima(
            maxima,
            nearer,
            bins,
            binned.radial(maxima.terms),
            binned.sectors(maxima.terms),
            taken_off=taken_off,
        )
        seen, anisotropic = visible.cpu().numpy(), (visible & modulation.anisotropic).cpu().numpy()
        varies = modulation.anisotropic.cpu().numpy() if by_contrast else anisotropic
        halo = maxima.width >= HALO_WIDTH * maxima.radius
        give("halo", frame, seen & halo)
        give("symmetry_halo", frame, anisotropic & halo)
        give("rings", frame, seen & ~halo)
        give("symmetry_rings", frame, anisotropic & ~halo & maxima.textured)
        give("higher_orders", frame, _several(maxima, seen & ~halo))
        give("rings_isotropic", frame, seen & ~anisotropic & ~halo)
        give("rings_oriented", frame, anisotropic & ~halo & maxima.textured)
        give("rings_spotted", frame, anisotropic & ~halo & ~maxima.textured)
        give_folds(frame, maxima.order, varies & modulation.order_known.cpu().numpy())
    for diffuse in drawn.diffuse:
        frame = diffuse.intensity.frame
        visible, modulation = _see_diffuse(
            diffuse,
            total,
            bins,
            binned.rates(diffuse.intensity),
            by_contrast=by_contrast,
            taken_off=taken_off,
        )
        if diffuse.smooth:
            give("diffuse_high_q" if diffuse.rises else "diffuse_low_q", frame, visible)
        told = modulation.anisotropic & modulation.order_known
        if not by_contrast:
            told = visible & told
        give_folds(frame, np.full(len(frame), diffuse.order), told.cpu().numpy())
    for label, implied in (IMPLICATIONS | FURTHER_IMPLICATIONS).items():
        found[:, place[implied]] |= found[:, place[label]]
    return torch.from_numpy(found)


def _several(maxima: Maxima, ring: np.ndarray) -> np.ndarray:
    """Return which visible rings have another one of their structure that does not run into them."""
    result = np.zeros(len(ring), dtype=np.bool_)
    order = np.lexsort((maxima.radius, maxima.structure))
    last = last_structure = -1
    for row in order[ring[order]]:
        if maxima.structure[row] != last_structure:
            last, last_structure = row, maxima.structure[row]
        elif maxima.radius[row] - maxima.radius[last] > DISTINCT * maxima.width[row]:
            result[row] = True
            last = row
    return result


def _see_maxima(
    maxima: Maxima, nearer: Tensor, bins: Bins, radial: Tensor, sectors: Tensor | None, *, taken_off: float
) -> tuple[Tensor, Modulation]:
    """Return which maxima are visible, (n,) bool, and what of their variation along the azimuth.

    `nearer` is the counts of each frame and sector nearer to the beam than each radius, (frames, SECTORS, B + 1).
    """
    device, count = bins.seen.device, bins.seen.shape[1]
    radius, width = (torch.from_numpy(v).to(device) for v in (maxima.radius, maxima.width))
    frame = torch.from_numpy(maxima.terms.frame).to(device)
    half = (0.5 * width).clamp(min=1.0)
    low = torch.ceil(radius - half).long().clamp(min=1)
    high = torch.floor(radius + half).long() + 1
    on_detector = high <= count
    low, high = low.clamp(max=count - 2), high.clamp(max=count)
    middle = torch.round(radius).long().clamp(min=low + 1).clamp(max=high - 1)

    ring = torch.arange(count, device=device)
    band = ((ring >= low[:, None]) & (ring < high[:, None])).double()
    area = (2.0 * math.pi / SECTORS) * ring.double()
    seen_to = torch.nn.functional.pad(bins.seen.cumsum(dim=1), (1, 0))  # pixels nearer than each radius
    area_to = torch.nn.functional.pad(area.cumsum(dim=0), (1, 0))

    def flank_seen(start: Tensor, stop: Tensor) -> Tensor:
        seen = (seen_to[:, stop] - seen_to[:, start]).T
        return seen >= COVERED * (area_to[stop] - area_to[start])[:, None]

    covered = flank_seen(low, middle) & flank_seen(middle, high)
    profile = radial * band
    signal = profile @ bins.seen.T  # (n, SECTORS)
    if sectors is not None:
        signal = signal * sectors
    counts = nearer[frame, :, high] - nearer[frame, :, low]
    counts = torch.maximum(counts, signal).clamp(min=TINY)
    present = counts
    if taken_off:
        pixels_to = torch.nn.functional.pad(bins.pixels.cumsum(dim=1), (1, 0))
        present = counts - taken_off * (pixels_to[:, high] - pixels_to[:, low]).T
        present = torch.maximum(present, signal).clamp(min=TINY)
    halo = width >= HALO_WIDTH * radius
    contrast = torch.where(halo, HALO_CONTRAST, RING_CONTRAST).double()[:, None]
    stands_out = covered & (signal > contrast * (present - signal)) & (signal > 0)
    detection = torch.sqrt(bins.depth * (signal**2 / counts * stands_out).sum(dim=1))
    needed = torch.where(halo, HALO_DETECTION, RING_DETECTION)
    visible = on_detector & (stands_out.sum(dim=1) >= RING_SECTORS) & (detection >= needed)
    if sectors is None:
        none = torch.zeros_like(visible)
        return visible, Modulation(none, none)
    # Sectors that a detector's edge cuts off see other radii than whole ones: compare radius by radius.
    among = covered.double()
    mean_rate = profile * ((among * sectors) @ bins.seen) / (among @ bins.seen).clamp(min=TINY)
    even = mean_rate @ bins.seen.T
    order = torch.from_numpy(maxima.order).to(device)
    modulation = _modulation(
        order, signal, even, counts, covered & on_detector[:, None], bins.depth, present=present
    )
    return visible, modulation


def _modulation(
    order: Tensor,
    signal: Tensor,
    even: Tensor,
    counts: Tensor,
    covered: Tensor,
    depth: float,
    *,
    present: Tensor,
) -> Modulation:
    """Return whether features visibly vary along the azimuth, and whether enough of their period is seen.

    `signal` is the counts of each sector, `even` what they would be without variation, `counts` all counts there,
    `present` those that were not subtracted, `covered` the sectors to compare, (n, SECTORS) each; `order` (n,).
    """
    even = even.clamp(min=TINY)
    deviation = (signal - even) * covered
    detection = torch.sqrt(depth * (deviation**2 / counts).sum(dim=1))
    anisotropic = (
        (order > 0)
        & (_spread(deviation / even, covered) >= MODULATION)
        & (_spread(deviation / present, covered) >= DILUTED_MODULATION)
        & (detection >= MODULATION_DETECTION)
    )
    return Modulation(anisotropic, _order_known(order, covered))


def _order_known(order: Tensor, covered: Tensor) -> Tensor:
    """Return whether enough of a period is seen, (n,); `covered`, (n, SECTORS)."""
    period = SECTORS / order.clamp(min=1).double()
    sector = torch.arange(SECTORS, device=covered.device).double() + 0.5
    phase = torch.remainder(sector, period[:, None]).floor().long()
    known = torch.zeros(covered.shape, dtype=torch.float64, device=covered.device)
    known = known.scatter_reduce(1, phase, covered.double(), "amax")
    return (order > 0) & (known.sum(dim=1) >= FOLD_COVERAGE * period)


def _spread(values: Tensor, covered: Tensor) -> Tensor:
    """Return standard deviations over the covered sectors, (n,)."""
    number = covered.sum(dim=1).clamp(min=1)
    mean = (values * covered).sum(dim=1) / number
    return torch.sqrt((((values - mean[:, None]) * covered) ** 2).sum(dim=1) / number)


def _see_diffuse(
    diffuse: Diffuse, total: Tensor, bins: Bins, rates: Tensor, *, by_contrast: bool, taken_off: float
) -> tuple[Tensor, Modulation]:
    """Return which rows of diffuse scattering are visible, (n,) bool, and what of their variation.

    `rates` is what they have in a pixel of each bin, (n, SECTORS, B).
    """
    frame = torch.from_numpy(diffuse.intensity.frame).to(total.device)
    signals = rates * bins.seen
    counts = torch.maximum(total[frame], signals).clamp(min=TINY)
    present = counts
    if taken_off:
        present = torch.maximum(counts - taken_off * bins.pixels, signals).clamp(min=TINY)
    stands_out = (
        (signals > DIFFUSE_CONTRAST * (present - signals)) & (signals > 0) & (bins.seen > 0.5 * bins.pixels)
    )
    detection = torch.sqrt(bins.depth * (signals**2 / counts * stands_out).sum(dim=(1, 2)))
    visible = ((bins.pixels * stands_out).sum(dim=(1, 2)) >= DIFFUSE_PIXELS) & (
        detection >= DIFFUSE_DETECTION
    )
    none = torch.zeros_like(visible)
    if diffuse.rises:
        return visible & _rise_shows(rates, stands_out, counts, present, bins), Modulation(none, none)
    if not diffuse.order:
        return visible, Modulation(none, none)
    order = torch.full_like(frame, diffuse.order)
    if by_contrast:
        return visible, _variation(order, rates, counts, present, bins)
    # The band of radii in which a third of the sectors stand out shows the anisotropy.
    band = stands_out.sum(dim=1) * 3 >= (bins.seen > 0).sum(dim=0).clamp(min=1)
    weight = band.double() @ bins.seen.T
    covered = weight > 0.15 * weight.max(dim=1, keepdim=True).values
    mean_rate = (signals * covered[:, :, None]).sum(dim=1) / (covered.double() @ bins.seen).clamp(min=TINY)
    modulation = _modulation(
        order,
        (signals * band[:, None, :]).sum(dim=2),
        (mean_rate * band) @ bins.seen.T,
        (counts * band[:, None, :]).sum(dim=2).clamp(min=TINY),
        covered,
        bins.depth,
        present=(present * band[:, None, :]).sum(dim=2).clamp(min=TINY),
    )
    return visible, modulation


def _variation(order: Tensor, rates: Tensor, counts: Tensor, present: Tensor, bins: Bins) -> Modulation:
    """Return what can be seen of the variation along the azimuth, radius by radius.

    A fibre's streak fills few sectors: it need not stand out in a third of them for its fold to be seen, and of radii
    together it would be blurred, since it is as wide far from the beam as near to it.
    """
    seen = bins.seen > 0.5 * bins.pixels.clamp(min=TINY)
    number = seen.sum(dim=0).clamp(min=1)
    passed = (bins.seen * seen).sum(dim=0) / (bins.pixels * seen).sum(dim=0).clamp(min=TINY)
    level = (present / bins.pixels.clamp(min=TINY) * seen).sum(dim=1) / number
    mean = (rates * seen).sum(dim=1) / number
    deviation = (rates - mean[:, None]) * seen
    spread = torch.sqrt((deviation**2).sum(dim=1) / number)
    plain = (
        (seen.sum(dim=0) >= 0.5 * SECTORS * FOLD_COVERAGE)
        & (spread >= MODULATION * mean)
        & (spread * passed >= DILUTED_MODULATION * level)
        & (mean > 0)
    )
    there = seen & plain[:, None]
    # Where nothing is, noise is that of what would be there without variation.
    variance = torch.maximum(counts, mean[:, None] * bins.seen).clamp(min=TINY)
    detection = torch.sqrt(bins.depth * ((deviation * bins.seen) ** 2 / variance * there).sum(dim=(1, 2)))
    anisotropic = (order > 0) & (plain.sum(dim=1) >= FOLD_RADII) & (detection >= MODULATION_DETECTION)
    covered = 2 * there.sum(dim=2) >= plain.sum(dim=1, keepdim=True).clamp(min=1)
    return Modulation(anisotropic, _order_known(order, covered))


def _rise_shows(rates: Tensor, stands_out: Tensor, counts: Tensor, present: Tensor, bins: Bins) -> Tensor:
    """Return whether the dark hole around the beam is seen: flat intensity alone is background."""
    highest = rates.amax(dim=(1, 2), keepdim=True)
    missing = highest - rates
    # What the hole lacks stands out against the counts that fill it as any diffuse intensity must.
    lacking = missing * bins.seen
    dark = (missing > 0.5 * highest) & (lacking > DIFFUSE_CONTRAST * present)
    bright = stands_out & (missing < 0.3 * highest)
    detection = torch.sqrt(bins.depth * (lacking**2 / (counts + lacking) * dark).sum(dim=(1, 2)))
    return (
        ((bins.seen * dark).sum(dim=(1, 2)) >= DIFFUSE_PIXELS)
        & ((bins.seen * bright).sum(dim=(1, 2)) >= DIFFUSE_PIXELS)
        & (detection >= HALO_DETECTION)
    )
