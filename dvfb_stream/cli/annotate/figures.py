"""Figures of one frame each: what the network saw, what the coefficients hold of it, and what was concluded."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.cli.annotate.rows import refuse_inputs
from dvfb_stream.errors import MissingExtraError, SettingsError
from dvfb_stream.labels import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR_MAP = "inferno"
MASK_COLOUR = "#5b8db8"
"""Blue, which the colour map has nowhere."""
CENTRE_COLOUR = "#39ff88"
ACCEPTED_COLOUR = "#1f8a78"
REFUSED_COLOUR = "#b8bcc4"
LARGEST_COEFFICIENT = 255.0
"""M of (10): coefficients are scaled to it before the logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramePicture:
    """The arrays that a figure shows."""

    title: str
    image: NDArray[np.float32]
    """(S, S) log-intensity view."""
    mask: NDArray[np.bool_]
    """(S, S), True = valid."""
    center_x: float
    """Direct beam in view pixels."""
    center_y: float
    reconstruction: NDArray[np.float32]
    """(s, s), the same field of view as `image`."""
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
    remark: str
    """A line under the title."""


def draw_frame(picture: FramePicture) -> Figure:
    """Return a figure of four panels: view, reconstruction, coefficients, probabilities.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "files") from None
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    view, rebuilt, amplitudes, bars = figure.subplots(1, 4, width_ratios=(1, 1, 0.62, 0.9))
    figure.suptitle(f"{picture.title}\n{picture.remark}", fontsize=10)
    _draw_images(picture, view, rebuilt)
    _draw_coefficients(picture, figure, amplitudes)
    _draw_scores(picture, bars)
    return figure


def _draw_images(picture: FramePicture, view: Axes, rebuilt: Axes) -> None:
    from matplotlib import colormaps

    rows, columns = picture.image.shape
    visible = picture.image[picture.mask]
    # The brightest thousandth is the direct beam's neighbourhood, or hot pixels.
    low, high = (
        (float(bound) for bound in np.quantile(visible, (0.001, 0.999))) if visible.size else (0.0, 1.0)
    )
    shared: dict[str, Any] = {
        "extent": (-0.5, columns - 0.5, rows - 0.5, -0.5),
        "vmin": low,
        "vmax": max(high, low + 1e-6),
        "interpolation": "nearest",
    }
    colours = colormaps[COLOUR_MAP].with_extremes(bad=MASK_COLOUR)
    view.imshow(np.ma.array(picture.image, mask=~picture.mask), cmap=colours, **shared)
    rebuilt.imshow(picture.reconstruction, cmap=colours, **shared)
    view.set_title("view (log intensity; masked: blue)", fontsize=9)
    rebuilt.set_title("reconstruction from the coefficients", fontsize=9)
    inside = -0.5 <= picture.center_x < columns - 0.5 and -0.5 <= picture.center_y < rows - 0.5
    for axes in (view, rebuilt):
        axes.set_xticks([])
        axes.set_yticks([])
        if inside:
            axes.plot(
                picture.center_x,
                picture.center_y,
                "+",
                color=CENTRE_COLOUR,
                markersize=14,
                markeredgewidth=1.5,
            )
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
    if inside:
        view.set_xlabel("+ beam centre", fontsize=8)
    else:
        view.set_xlabel(
            f"beam centre off the view, at x = {picture.center_x:.0f}, y = {picture.center_y:.0f}", fontsize=8
        )


def _draw_coefficients(picture: FramePicture, figure: Figure, axes: Axes) -> None:
    amplitudes = np.abs(picture.coefficients)
    scale = LARGEST_COEFFICIENT / max(float(amplitudes.max(initial=0.0)), 1.0)
    shown = axes.imshow(
        np.log1p(scale * amplitudes) / np.log1p(LARGEST_COEFFICIENT),
        cmap="magma",
        vmin=0,
        vmax=1,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(-0.5, amplitudes.shape[1] - 0.5, 0.5, amplitudes.shape[0] + 0.5),
    )
    axes.set_title("|coefficients|, log scale", fontsize=9)
    axes.set_xticks(range(len(picture.orders)), [str(order) for order in picture.orders], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("order m", fontsize=8)
    axes.set_ylabel("radial index n", fontsize=8)
    figure.colorbar(shown, ax=axes).ax.tick_params(labelsize=7)


def _draw_scores(picture: FramePicture, axes: Axes) -> None:
    labels = list(picture.scores)
    places = range(len(labels))
    colours = [ACCEPTED_COLOUR if label in picture.labels else REFUSED_COLOUR for label in labels]
    axes.barh(places, [picture.scores[label] for label in labels], color=colours, height=0.7)
    for place, label in zip(places, labels, strict=True):
        axes.plot([picture.thresholds[label]] * 2, [place - 0.42, place + 0.42], color="black", linewidth=1.2)
        axes.text(1.02, place, f"{picture.scores[label]:.2f}", va="center", fontsize=8)
    axes.set_yticks(places, [TITLES.get(label, label) for label in labels], fontsize=8)
    axes.set_xlim(0, 1.15)
    axes.set_xticks([0, 0.5, 1])
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("probabilities (green: accepted; line: threshold)", fontsize=9)


class FigureFiles:
    """Where figures go: ``FILE.png``, or ``FILE-<row>.png`` where there are several frames.

    Raises
    ------
    SettingsError
        When the name does not end in .png, its folder cannot be written to, or it is one of the files to read.
    """

    def __init__(self, path: Path, inputs: Sequence[str | Path]) -> None:
        if path.suffix.lower() != ".png":
            raise SettingsError(f"plot {path} must end in .png")
        if path.is_dir():
            raise SettingsError(f"plot {path} is a directory; give the name of a file")
        refuse_inputs(path, inputs)
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise SettingsError(f"plot {path} cannot be written: {error.strerror or error}") from error
        self._path = path
        self._inputs = inputs

    def save(self, figure: Figure, row: int | None) -> Path:
        """Save a figure, numbered unless `row` is None, and return where."""
        path = (
            self._path if row is None else self._path.with_name(f"{self._path.stem}-{row}{self._path.suffix}")
        )
        refuse_inputs(path, self._inputs)
        try:
            figure.savefig(path, dpi=110)
        except OSError as error:
            raise SettingsError(f"plot {path} cannot be written: {error.strerror or error}") from error
        return path
