"""What was drawn for some frames of one experiment, what is expected of them, and the labels that follow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.simulation.beamline.experiment import Experiment
from dvfb_stream.simulation.beamline.exposure import speckle_field
from dvfb_stream.simulation.beamline.stray_light import stray_light
from dvfb_stream.simulation.beamline.surroundings import draw_surroundings
from dvfb_stream.simulation.components import Figures
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.expectation import expected_in_bins
from dvfb_stream.simulation.frame_labels import add_frame_labels
from dvfb_stream.simulation.physics import beamline
from dvfb_stream.simulation.rendering import BinnedEvaluation, Evaluation, PixelImages
from dvfb_stream.simulation.sample.mixture import draw_sample
from dvfb_stream.simulation.settings import SimulationSettings
from dvfb_stream.simulation.visibility import labels_of

FRAME_COLUMNS = 160
"""Random numbers of a frame, besides those of its structures and pixels."""


class Scene:
    """What was drawn for some frames of one experiment, and what is expected of them."""

    def __init__(
        self, seed: int, experiment: Experiment, indices: NDArray[np.int64], settings: SimulationSettings
    ) -> None:
        draws = Draws(seed, Stream.FRAME, indices, FRAME_COLUMNS)
        # Exposure times within an experiment differ less than between experiments.
        level = experiment.exposure * 10.0 ** draws.normal(0.0, 0.25)
        self.indices = indices
        self.experiment = experiment
        self.drawn = draw_sample(draws, experiment, indices, level, settings, seed=seed)
        self.around = draw_surroundings(draws, experiment, level, settings)
        self._fold_rule = settings.fold_rule
        self._view = Evaluation(experiment.view_table)

    @cached_property
    def evaluation(self) -> Evaluation:
        """What was drawn on the table of the raster."""
        table = self.experiment.table
        return self._view if table is self.experiment.view_table else Evaluation(table)

    def labels(self) -> Tensor:
        """Return the labels, (n, 18) bool on the CPU."""
        binned = BinnedEvaluation(self._view, self.experiment.bins)
        expectation = expected_in_bins(self.experiment, binned, self.drawn, self.around)
        shown = labels_of(
            self.drawn,
            expectation.total,
            binned,
            fold_rule=self._fold_rule,
            taken_off=self.experiment.circumstances.readout.taken_off,
        )
        return add_frame_labels(shown, expectation, self.experiment, fold_rule=self._fold_rule)


class SceneImages:
    """Expected counts on the pixels of an experiment's raster."""

    def __init__(self, scene: Scene) -> None:
        evaluation, drawn, around, count = scene.evaluation, scene.drawn, scene.around, len(scene.indices)
        self._raster, self._around, self._speckles = scene.experiment.raster, around, drawn.speckles
        self._figures = drawn.figures
        self._stray = stray_light(scene.experiment.circumstances.stray, self._raster.x, self._raster.y)
        plain = [terms for terms in drawn.terms if not terms.speckled]
        apart = self._raster.from_sample is not None
        self._sample = PixelImages(
            evaluation, plain if apart else plain + around.drawn.terms, drawn.patterns, count
        )
        self._beamline = PixelImages(evaluation, around.drawn.terms, [], count) if apart else None
        self._speckled = PixelImages(
            evaluation, [terms for terms in drawn.terms if terms.speckled], [], count
        )

    def of(self, positions: NDArray[np.int64], seeds: Sequence[int]) -> Tensor:
        """Return what arrives in the pixels for some frames in a row, (n, H, W); `seeds` for their speckles."""
        raster, around = self._raster, self._around
        images = self._sample.of(positions)
        for place, position in enumerate(positions):
            if int(position) in self._speckles:
                contrast, grain = self._speckles[int(position)]
                field = speckle_field(
                    raster,
                    grain=grain,
                    contrast=contrast,
                    generator=torch.Generator(images.device).manual_seed(seeds[place] + 1),
                )
                images[place] += field.mul_(self._speckled.of(positions[place : place + 1])[0])
        self._add_figures(images, self._figures, positions)
        if self._beamline is not None and raster.from_sample is not None:
            images = images.mul_(raster.from_sample).add_(self._beamline.of(positions))
        self._add_figures(images, [around.streaks], positions)
        if self._stray is not None:
            level = torch.from_numpy(around.level[positions]).to(images)
            images.addcmul_(level[:, None, None], self._stray)
        dark = torch.from_numpy(around.dark[positions]).to(images)[:, None, None]
        arriving = images.mul_(raster.transmission).add_(dark)
        if raster.blur:
            arriving = beamline.point_spread(arriving, raster.blur)
        return arriving.mul_(raster.response)

    def _add_figures(self, images: Tensor, figures: Sequence[Figures], positions: NDArray[np.int64]) -> None:
        raster, first = self._raster, int(positions[0])
        for figure in figures:
            for row, position in enumerate(figure.frame):
                if first <= position <= positions[-1]:
                    images[int(position) - first] += figure.at(raster.x, raster.y, row, step=raster.step)
