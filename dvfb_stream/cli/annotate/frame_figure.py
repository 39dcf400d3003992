"""Figures of one frame each: what the network saw, what the coefficients hold of it, and what was concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.cli.plot.panels import (
    draw_magnitudes,
    draw_reconstruction,
    draw_view,
    intensity_range,
    new_figure,
)
from dvfb_stream.labels import TITLES
from dvfb_stream.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCEPTED_COLOUR = "#1f8a78"
DOUBTFUL_COLOUR = "#d9a441"
REFUSED_COLOUR = "#b8bcc4"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramePicture:
    """What a figure shows."""

    title: str
    view: View
    reconstruction: NDArray[np.float32]
    """(s, s), the same field of view as `view`."""
    coefficients: NDArray[np.complex64]
    """(n_radial, n_orders)."""
    orders: Sequence[int]
    """Angular orders of the columns of `coefficients`."""
    scores: Mapping[str, float]
    """Probability per label."""
    thresholds: Mapping[str, float]
    """Probability from which a label is accepted."""
    labels: Sequence[str]
    """Accepted labels."""
    doubtful: Sequence[str] = ()
    """Those neither accepted nor rejected."""
    remark: str
    """A line under the title."""


def draw_frame(picture: FramePicture) -> Figure:
    """Return a figure of four panels: view, reconstruction, coefficients, probabilities.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    figure = new_figure(15, 4.6, "constrained")
    view, rebuilt, amplitudes, bars = figure.subplots(1, 4, width_ratios=(1, 1, 0.62, 0.9))
    figure.suptitle(f"{picture.title}\n{picture.remark}", fontsize=10, parse_math=False)
    draw_view(view, picture.view)
    view.set_title("view (log intensity; masked: blue)", fontsize=9)
    colours = intensity_range(picture.view.image, picture.view.mask)
    draw_reconstruction(rebuilt, picture.reconstruction, picture.view, colours)
    rebuilt.set_title("reconstruction from the coefficients", fontsize=9)
    draw_magnitudes(figure, amplitudes, picture.coefficients, picture.orders)
    _draw_scores(picture, bars)
    return figure


def _draw_scores(picture: FramePicture, axes: Axes) -> None:
    labels = list(picture.scores)
    places = range(len(labels))
    colours = [_colour(picture, label) for label in labels]
    axes.barh(places, [picture.scores[label] for label in labels], color=colours, height=0.7)
    for place, label in zip(places, labels, strict=True):
        axes.plot([picture.thresholds[label]] * 2, [place - 0.42, place + 0.42], color="black", linewidth=1.2)
        mark = "?" if label in picture.doubtful else ""
        axes.text(1.02, place, f"{picture.scores[label]:.2f}{mark}", va="center", fontsize=8)
    axes.set_yticks(places, [TITLES.get(label, label) for label in labels], fontsize=8)
    axes.set_xlim(0, 1.15)
    axes.set_xticks([0, 0.5, 1])
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    in_doubt = "; ?: doubtful" if picture.doubtful else ""
    axes.set_title(f"probabilities (green: accepted{in_doubt}; line: threshold)", fontsize=9)


def _colour(picture: FramePicture, label: str) -> str:
    if label in picture.labels:
        return ACCEPTED_COLOUR
    return DOUBTFUL_COLOUR if label in picture.doubtful else REFUSED_COLOUR
