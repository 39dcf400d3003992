"""Figures of one frame each: what the network saw, what the coefficients hold of it, and what was concluded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.cli.plot.azimuthal_panels import (
    draw_contrasts,
    draw_polar_map,
    legend_of_orders,
    order_in_words,
)
from dvfb_stream.cli.plot.panels import (
    draw_magnitudes,
    draw_reconstruction,
    draw_view,
    intensity_range,
    new_figure,
)
from dvfb_stream.labels import LABELS, TITLES
from dvfb_stream.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dvfb_stream.cli.plot.azimuth import Azimuth

ACCEPTED_COLOUR = "#1f8a78"
DOUBTFUL_COLOUR = "#d9a441"
REFUSED_COLOUR = "#b8bcc4"
DOUBTFUL_HATCH = "////"
"""For those who cannot tell the colours."""
GAP = 1.3
"""Bars that would fit between the ten labels and the further ones, for their heading."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramePicture:
    """What a figure shows."""

    title: str
    view: View
    reconstruction: NDArray[np.float32]
    """(s, s), the same field of view as `view`."""
    coefficients: NDArray[np.complex64]
    """(n_radial, n_orders)."""
    azimuth: Azimuth
    """What `view` shows along the azimuth."""
    measured_order: int = 0
    measured_contrast: float = math.nan
    """As the annotation has them; NaN: as `azimuth` has them."""
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
    """Return a figure of view, reconstruction, coefficients, probabilities, and what varies along the azimuth.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    figure = new_figure(18.5, 4.9, "constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=(1, 1, 0.62, 0.95, 0.95))
    view, rebuilt, amplitudes, bars = (figure.add_subplot(grid[:, column]) for column in (0, 1, 2, 4))
    polar = figure.add_subplot(grid[0, 3])
    contrasts = figure.add_subplot(grid[1, 3], sharex=polar)
    figure.suptitle(f"{picture.title}\n{picture.remark}", fontsize=10, parse_math=False)
    draw_view(view, picture.view)
    view.set_title("view (log intensity; masked: blue)", fontsize=9)
    colours = intensity_range(picture.view.image, picture.view.mask)
    draw_reconstruction(rebuilt, picture.reconstruction, picture.view, colours)
    rebuilt.set_title("reconstruction from the coefficients", fontsize=9)
    draw_magnitudes(figure, amplitudes, picture.coefficients, picture.orders)
    _draw_azimuth(picture, polar, contrasts)
    _draw_scores(picture, bars)
    return figure


def _draw_azimuth(picture: FramePicture, polar: Axes, contrasts: Axes) -> None:
    draw_polar_map(polar, picture.azimuth)
    polar.tick_params(labelbottom=False)
    polar.set_title("view by azimuth and radius", fontsize=9)
    draw_contrasts(contrasts, picture.azimuth)
    contrasts.set_xlabel("radius (view pixels)", fontsize=8)
    contrasts.set_ylabel("contrast", fontsize=8)
    said = order_in_words(picture.azimuth, picture.measured_order, picture.measured_contrast)
    contrasts.set_title(said, fontsize=9)
    # Below, where no point lies.
    contrasts.legend(
        handles=legend_of_orders(),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.24),
        fontsize=6.5,
        ncols=5,
        frameon=False,
        handletextpad=0.1,
        columnspacing=0.8,
    )


def _draw_scores(picture: FramePicture, axes: Axes) -> None:
    labels = list(picture.scores)
    further = sum(label not in LABELS for label in labels)
    ten = len(labels) - further
    places = [place + GAP * (place >= ten) for place in range(len(labels))]
    bars = axes.barh(
        places,
        [picture.scores[label] for label in labels],
        color=[_colour(picture, label) for label in labels],
        height=0.7,
    )
    for bar, place, label in zip(bars, places, labels, strict=True):
        axes.plot([picture.thresholds[label]] * 2, [place - 0.42, place + 0.42], color="black", linewidth=1.2)
        mark = ""
        if label in picture.doubtful:
            mark = "?"
            bar.set(hatch=DOUBTFUL_HATCH, edgecolor="white", linewidth=0)
        axes.text(1.02, place, f"{picture.scores[label]:.2f}{mark}", va="center", fontsize=8)
    if further:
        axes.text(0, ten - 0.5 + GAP / 2, "further labels", va="center", fontsize=8, style="italic")
    axes.set_yticks(places, [TITLES.get(label, label) for label in labels], fontsize=8)
    axes.set_xlim(0, 1.15)
    axes.set_xticks([0, 0.5, 1])
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    in_doubt = "\nhatched, ?: doubtful" if picture.doubtful else ""
    axes.set_title(f"probabilities (green: accepted; line: threshold){in_doubt}", fontsize=9)


def _colour(picture: FramePicture, label: str) -> str:
    if label in picture.labels:
        return ACCEPTED_COLOUR
    return DOUBTFUL_COLOUR if label in picture.doubtful else REFUSED_COLOUR
