"""A contact sheet of simulated frames: for each label some that show it, for all to see what the labels mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dvfb_stream.cli.plot.contact_sheet import SheetFrame, SheetRun, draw_contact_sheet
from dvfb_stream.labels import LABELS, TITLES
from dvfb_stream.simulation import Simulator

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

FRAMES_PER_LABEL = 8
FRAMES_TO_CHOOSE_FROM = 4_000
"""Their labels are decided in some seconds; each is in some tens of frames at least."""
MOST_PIXELS = 256
"""Along the longer side of a frame on the sheet, which prints fewer."""


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
    valid = np.ones(frame.geometry.shape, dtype=np.bool_) if mask is None else mask
    image, shown = _reduced(frame.pixels, valid)
    return SheetFrame(index=index, image=np.log1p(image), mask=shown, labels=frame.labels, truth=None)


def _reduced(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return means of valid pixels over square blocks: a sheet of whole detectors would take gigabytes."""
    block = -(-max(pixels.shape) // MOST_PIXELS)
    rows, columns = (side // block for side in pixels.shape)
    blocks = (slice(rows * block), slice(columns * block))
    split = (rows, block, columns, block)
    total = (pixels * valid)[blocks].reshape(split).sum(axis=(1, 3), dtype=np.float64)
    count = valid[blocks].reshape(split).sum(axis=(1, 3))
    return (total / np.maximum(count, 1)).astype(np.float32), count > 0
