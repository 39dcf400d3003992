"""A contact sheet: many frames at a glance, with what was said of them and, where it is known, what is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.cli.plot.panels import COLOUR_MAP, MASK_COLOUR, intensity_range
from dvfb_stream.errors import MissingExtraError

try:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
except ImportError:
    raise MissingExtraError("matplotlib", "files") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 10
FRAME_INCHES = 1.7
LINE_INCHES = 0.14
"""Height of one label in `LABEL_POINTS`."""
LABEL_POINTS = 7.5

ACCEPTED_CAPTION = (
    "below each frame: its accepted labels, doubtful ones with a question mark; masked pixels are blue"
)
RIGHT, WRONG, DOUBTFUL, MISSED, UNJUDGED = "✓", "✗", "?", "○", "·"
COLOURS = {
    RIGHT: "#1f8a78",
    WRONG: "#c0392b",
    DOUBTFUL: "#7a7f88",
    MISSED: "#8a6d00",
    UNJUDGED: "#222222",
}
"""Each mark has a colour and a sign, for those who cannot tell the colours."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetFrame:
    """One frame of the sheet."""

    index: int
    """In its run, from 0; stands in the frame's corner."""
    image: NDArray[np.float32]
    """(S, S) log-intensity view."""
    mask: NDArray[np.bool_]
    """(S, S), True = valid."""
    labels: tuple[str, ...]
    """Accepted labels."""
    doubtful: tuple[str, ...] = ()
    """Labels neither accepted nor rejected."""
    truth: tuple[str, ...] | None
    """Labels that are really visible; None: nobody knows."""
    failure: str = ""
    """Why there are no labels, if the frame could not be annotated."""

    def verdicts(self) -> list[tuple[str, str]]:
        """Return (mark, label): accepted ones first, then the doubtful ones, then those that were missed."""
        in_doubt = [(DOUBTFUL, label) for label in self.doubtful]
        if self.truth is None:
            return [(UNJUDGED, label) for label in self.labels] + in_doubt
        accepted = [(RIGHT if label in self.truth else WRONG, label) for label in self.labels]
        said = {*self.labels, *self.doubtful}
        return accepted + in_doubt + [(MISSED, label) for label in self.truth if label not in said]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetRun:
    """One run of the sheet."""

    title: str
    frames: Sequence[SheetFrame]


def count_verdicts(runs: Sequence[SheetRun]) -> dict[str, int]:
    """Return how often each mark is on the sheet."""
    counts = dict.fromkeys(COLOURS, 0)
    for run in runs:
        for frame in run.frames:
            for mark, _ in frame.verdicts():
                counts[mark] += 1
    return counts


def draw_contact_sheet(runs: Sequence[SheetRun], *, title: str, caption: str = ACCEPTED_CAPTION) -> Figure:
    """Return a figure with a block of rows per run, each frame above its labels.

    `caption` is what stands below the title where nobody knows what is true.
    """
    columns = min(MOST_COLUMNS, max(len(run.frames) for run in runs))
    size = FRAME_INCHES * (1 if columns > 5 else 1.6)
    heights: list[float] = []
    for run in runs:
        for row in _rows(run, columns):
            lines = max((len(frame.verdicts()) for frame in row), default=0)
            heights.append(size + LINE_INCHES * (max(lines, 1) + 1.5))
    width, head, run_title = columns * size * 1.06 + 0.4, 0.9, 0.3
    height = head + sum(heights) + run_title * len(runs)
    figure = Figure(figsize=(width, height))
    figure.text(0.2 / width, 1 - 0.3 / height, title, fontsize=11, weight="bold", va="center")
    _draw_legend(figure, runs, caption, x=0.2 / width, y=1 - 0.6 / height)

    top = height - head
    position = 0
    for run in runs:
        figure.text(0.2 / width, (top - 0.15) / height, run.title, fontsize=9.5, va="center")
        top -= run_title
        for row in _rows(run, columns):
            for column, frame in enumerate(row):
                left = 0.2 + column * size * 1.06
                axes = figure.add_axes((left / width, (top - size) / height, size / width, size / height))
                _draw_frame(axes, frame, size)
            top -= heights[position]
            position += 1
    return figure


def _rows(run: SheetRun, columns: int) -> list[Sequence[SheetFrame]]:
    return [run.frames[first : first + columns] for first in range(0, len(run.frames), columns)]


def _draw_legend(figure: Figure, runs: Sequence[SheetRun], caption: str, *, x: float, y: float) -> None:
    counts = count_verdicts(runs)
    if counts[UNJUDGED] or not any(counts[mark] for mark in (RIGHT, WRONG, MISSED)):
        figure.text(x, y, caption, fontsize=8.5, va="center")
        return
    words = {RIGHT: "rightly accepted", WRONG: "accepted, but not there", MISSED: "there, but not accepted"}
    if counts[DOUBTFUL]:
        words[DOUBTFUL] = "doubtful"
    for number, (mark, meaning) in enumerate(words.items()):
        offset = number * 2.3 / figure.get_figwidth()
        figure.text(
            x + offset, y, f"{mark} {meaning}: {counts[mark]}", fontsize=8.5, va="center", color=COLOURS[mark]
        )


def _draw_frame(axes: Axes, frame: SheetFrame, size: float) -> None:
    low, high = intensity_range(frame.image, frame.mask)
    axes.imshow(
        np.ma.array(frame.image, mask=~frame.mask),
        cmap=colormaps[COLOUR_MAP].with_extremes(bad=MASK_COLOUR),
        vmin=low,
        vmax=high,
        interpolation="antialiased",
    )
    axes.set_axis_off()
    corner = {"boxstyle": "square,pad=0.15", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
    axes.text(
        0.03,
        0.96,
        str(frame.index),
        transform=axes.transAxes,
        fontsize=6.5,
        color="white",
        va="top",
        bbox=corner,
    )
    lines = [(COLOURS[mark], f"{mark} {label}") for mark, label in frame.verdicts()]
    if frame.failure:
        lines = [(COLOURS[WRONG], f"failed: {frame.failure[:30]}")]
    for number, (colour, text) in enumerate(lines or [(COLOURS[UNJUDGED], "no labels")]):
        axes.text(
            0.0,
            -(0.05 + LINE_INCHES * number) / size,
            text,
            transform=axes.transAxes,
            fontsize=LABEL_POINTS,
            color=colour,
            va="top",
        )
