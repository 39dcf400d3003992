"""A contact sheet of simulated frames: for each label some that show it, for all to see what the labels mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dvfb_stream.cli.figures.contact_sheet import SheetFrame, SheetRun, draw_contact_sheet
from dvfb_stream.labels import LABELS, TITLES
from dvfb_stream.simulation import Simulator

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

FRAMES_PER_LABEL = 8
FRAMES_TO_CHOOSE_FROM = 4_000
"""Their labels are decided in some seconds; each is in some tens of frames at least."""


def draw_preview(simulator: Simulator, count: int) -> Figure:
    """Return a figure with a row of frames for each label, out of the first `count` frames."""
    labels = simulator.labels(0, min(count, FRAMES_TO_CHOOSE_FROM)).numpy()
    rows = [(TITLES[label], labels[:, place]) for place, label in enumerate(LABELS)]
    rows.append(("No label", np.logical_not(labels.any(axis=1))))
    runs = []
    for title, shown in rows:
        chosen = _spread(np.flatnonzero(shown))
        share = f"{100 * shown.mean():.1f} % of {len(labels)} frames"
        runs.append(
            SheetRun(title=f"{title}: {share}", frames=[_frame(simulator, int(index)) for index in chosen])
        )
    return draw_contact_sheet(
        [run for run in runs if run.frames],
        title=f"Simulated frames of seed {simulator.seed}, by what they show",
        caption="below each frame: all its labels; in its corner: its number; masked pixels are blue",
    )


def _spread(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return some of the indices, over all their range: neighbours share an experiment."""
    if len(indices) <= FRAMES_PER_LABEL:
        return indices
    return indices[np.linspace(0, len(indices) - 1, FRAMES_PER_LABEL).astype(np.int64)]


def _frame(simulator: Simulator, index: int) -> SheetFrame:
    frame = simulator.frame(index)
    mask = frame.geometry.mask
    return SheetFrame(
        index=index,
        image=np.log1p(frame.pixels.astype(np.float32)),
        mask=np.ones(frame.geometry.shape, dtype=np.bool_) if mask is None else mask,
        labels=frame.labels,
        truth=None,
    )
