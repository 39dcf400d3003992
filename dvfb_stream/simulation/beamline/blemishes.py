"""What is wrong with the pixels of a detector: some are hot, and modules or quadrants differ in gain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.draws import Draws, Reals
from dvfb_stream.simulation.settings import SimulationSettings

MOST_HOT = 128
HOT_COLUMNS = 3 * MOST_HOT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blemishes:
    """Blemishes of an experiment's detector."""

    hot: tuple[Reals, Reals, Reals] = field(default_factory=lambda: (np.empty(0), np.empty(0), np.empty(0)))
    """Places of hot pixels, down and to the right as shares of the detector's sides, and what each adds, counts."""
    panel_steps: float = 0.0
    """Standard deviation of the gains of modules, or of quadrants where there is one module; 0: as usual."""

    def hot_counts(
        self, detector: tuple[int, int], shape: tuple[int, int], *, ratio: float, top: float, left: float
    ) -> Tensor | None:
        """Return what hot pixels add to the values of a raster, (H, W) float32; None: nothing.

        Parameters
        ----------
        detector, shape
            Rows and columns of the detector and of the raster.
        ratio
            Detector pixels from one pixel of the raster to the next.
        top, left
            Pixels of the raster before the detector begins.
        """
        down, right, added = self.hot
        if not len(added):
            return None
        rows, columns = (
            np.floor((np.floor(place * length) + 0.5) / ratio + before).astype(np.int64)
            for place, length, before in ((down, detector[0], top), (right, detector[1], left))
        )
        counts = np.zeros(shape, dtype=np.float32)
        np.add.at(counts, (rows.clip(0, shape[0] - 1), columns.clip(0, shape[1] - 1)), added)
        return torch.from_numpy(counts)

    def described(self) -> dict[str, Any]:
        """Return what is wrong, JSON-ready; nothing where all is well."""
        told: dict[str, Any] = {}
        if len(self.hot[0]):
            told["hot_pixels"] = len(self.hot[0])
        if self.panel_steps:
            told["panel_steps"] = self.panel_steps
        return told


def draw_blemishes(draws: Draws, settings: SimulationSettings) -> Blemishes:
    """Draw the blemishes of one experiment's detector. Takes the same draws in any case."""
    hot, uneven = bool(draws.happens(settings.hot_pixels)[0]), bool(draws.happens(settings.panel_steps)[0])
    count = int(draws.log_uniform(2.0, MOST_HOT)[0])
    strength = float(draws.log_uniform(30.0, 1e5)[0])
    down, right = (draws.uniform(count=MOST_HOT)[0][:count] for _ in range(2))
    added = strength * draws.lognormal(0.0, 1.0, count=MOST_HOT)[0][:count]
    steps = float(draws.log_uniform(0.01, 0.1)[0])
    chosen = Blemishes(panel_steps=steps if uneven else 0.0)
    return Blemishes(hot=(down, right, added), panel_steps=chosen.panel_steps) if hot else chosen
