"""What is expected of frames in the polar bins that decide labels: all of it, and what of it the sample scatters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.beamline.raster import Bins
from dvfb_stream.simulation.beamline.stray_light import stray_light
from dvfb_stream.simulation.beamline.surroundings import Surroundings
from dvfb_stream.simulation.components import Drawn, Figures, Terms
from dvfb_stream.simulation.rendering import BinnedEvaluation, in_sectors

ROD_STEP = 2
"""Every so many radii are enough for rods, which are long: half the work of a film's labels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expectation:
    """Expected counts of frames, summed over the valid pixels of each polar bin, (n, SECTORS, B) each."""

    total: Tensor
    """All, as far as the detector can count it."""
    sample: Tensor
    """What the sample scatters, without the glow of slits and windows."""
    hidden: Tensor | None
    """What a flat sample's surface holds back of it, or adds to it where that is negative; None: no such surface."""
    rods: Tensor | None
    """What of the sample's scattering lies in rods at grazing incidence; None: there are none."""
    overflowing: Tensor
    """Which bins expect more than the detector can count, bool."""


def expected_in_bins(
    experiment: Experiment, binned: BinnedEvaluation, drawn: Drawn, around: Surroundings
) -> Expectation:
    """Return what is expected of the frames of an experiment."""
    bins = experiment.bins
    glow = [terms for terms in drawn.terms if not terms.of_sample]
    if experiment.grazing is None:
        everything = binned.total([*drawn.terms, *around.drawn.terms], drawn.patterns, len(around.dark))
        expected, hidden = everything.mul_(bins.seen), None
    else:
        rates = binned.total(drawn.terms, drawn.patterns, len(around.dark))
        expected, hidden = rates * bins.seen, rates.mul_(bins.seen_beamline - bins.seen)
        expected.addcmul_(binned.total(around.drawn.terms, [], len(around.dark)), bins.seen_beamline)
    rods = None
    if drawn.figures:
        rods = torch.zeros_like(expected)
        _add_figures(rods, drawn.figures, experiment, bins.seen, every=ROD_STEP)
        expected += rods
    sample = (expected - _others(glow, binned, around, bins)).clamp_(min=0.0)
    _add_figures(expected, [around.streaks], experiment, bins.seen_beamline)
    stray = stray_light(experiment.circumstances.stray, *_points(experiment))
    if stray is not None:
        level = torch.from_numpy(around.level).to(expected)[:, None, None]
        expected.addcmul_(level, in_sectors(stray[None]).double() * bins.seen_beamline)
    dark = torch.from_numpy(around.dark).to(expected.device)[:, None, None]
    expected += dark * bins.pixels
    limit = bins.pixels * experiment.detector.saturation
    overflowing = (expected >= limit) & (bins.pixels > 0)
    return Expectation(
        total=torch.minimum(expected, limit),
        sample=sample,
        hidden=hidden,
        rods=rods,
        overflowing=overflowing,
    )


def _others(glow: list[Terms], binned: BinnedEvaluation, around: Surroundings, bins: Bins) -> Tensor:
    """Return what slits, windows, air and the direct beam scatter."""
    count = len(around.dark)
    others = binned.total(around.drawn.terms, [], count).mul_(bins.seen_beamline)
    if glow:
        others.addcmul_(binned.total(glow, [], count), bins.seen)
    return others


def _points(experiment: Experiment, *, every: int = 1) -> tuple[Tensor, Tensor]:
    """Return where the azimuths and every so many radii of the bins lie, view pixels, (AZIMUTHS, B / every) each."""
    table = experiment.view_table
    radii = table.radii[::2][: experiment.bins.seen.shape[1]][::every].float()
    x, y = (radii * way(table.azimuths).float()[:, None] for way in (torch.cos, torch.sin))
    return x, y


def _add_figures(
    expected: Tensor, figures: Sequence[Figures], experiment: Experiment, seen: Tensor, *, every: int = 1
) -> None:
    """Add what figures in the detector's plane give, times what is `seen` of each bin."""
    if not any(len(figure.frame) for figure in figures):
        return
    x, y = _points(experiment, every=every)
    for figure in figures:
        for row, position in enumerate(figure.frame):
            counts = in_sectors(figure.at(x, y, row, step=float(every))[None])[0].double()
            if every > 1:
                counts = counts.repeat_interleave(every, dim=1)[:, : seen.shape[1]]
            expected[int(position)].addcmul_(counts, seen)
