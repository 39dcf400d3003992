"""The panels that figures of a frame are made of: its view, its reconstruction, its coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from dvfb_stream.view import View

COLOUR_MAP = "inferno"
MASK_COLOUR = "#5b8db8"
"""Blue, which the colour map has nowhere."""
CENTRE_COLOUR = "#39ff88"


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Return an empty figure of so many inches; with the layout "constrained" its panels lay themselves out.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "files") from None
    return Figure(figsize=(width, height), layout=layout)


def intensity_range(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the intensities at the two ends of a view's colour map; the second is greater than the first."""
    visible = image[mask]
    # The brightest thousandth is the direct beam's neighbourhood, or hot pixels.
    low, high = (
        (float(bound) for bound in np.quantile(visible, (0.001, 0.999))) if visible.size else (0.0, 1.0)
    )
    return low, max(high, low + 1e-6)


def draw_view(axes: Axes, view: View) -> AxesImage:
    """Draw the view with its mask and beam centre."""
    shown = _draw_image(
        axes, np.ma.array(view.image, mask=~view.mask), view, intensity_range(view.image, view.mask)
    )
    mark_centre(axes, view)
    if _center_inside(view):
        axes.set_xlabel("+ beam centre", fontsize=8)
    else:
        axes.set_xlabel(
            f"beam centre off the view, at x = {view.center_x:.0f}, y = {view.center_y:.0f}", fontsize=8
        )
    return shown


def draw_reconstruction(
    axes: Axes, reconstruction: NDArray[np.float32], view: View, colours: tuple[float, float]
) -> AxesImage:
    """Draw what the coefficients say `view` is, (s, s) of the same field, between two intensities."""
    shown = _draw_image(axes, reconstruction, view, colours)
    mark_centre(axes, view)
    return shown


def _draw_image(axes: Axes, image: NDArray[Any], view: View, colours: tuple[float, float]) -> AxesImage:
    from matplotlib import colormaps

    low, high = colours
    return axes.imshow(
        image,
        cmap=colormaps[COLOUR_MAP].with_extremes(bad=MASK_COLOUR),
        vmin=low,
        vmax=high,
        interpolation="nearest",
        extent=field_of_view(view),
    )


def field_of_view(view: View) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of the view in its own pixels, as matplotlib's ``extent``."""
    rows, columns = view.image.shape
    return -0.5, columns - 0.5, rows - 0.5, -0.5


def mark_centre(axes: Axes, view: View) -> None:
    """Mark the beam centre where it lies on the view, and fix the axes to the view: rows run down."""
    left, right, bottom, top = field_of_view(view)
    axes.set_xticks([])
    axes.set_yticks([])
    if _center_inside(view):
        axes.plot(view.center_x, view.center_y, "+", color=CENTRE_COLOUR, markersize=14, markeredgewidth=1.5)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _center_inside(view: View) -> bool:
    left, right, bottom, top = field_of_view(view)
    return left <= view.center_x < right and top <= view.center_y < bottom


def draw_magnitudes(figure: Figure, axes: Axes, coefficients: NDArray[Any], orders: Sequence[int]) -> None:
    """Draw the magnitudes of coefficients, (n_radial, n_orders), scaled by (10)."""
    import torch

    from dvfb_stream.fbt import log_scale, normalise

    magnitudes = log_scale(normalise(torch.from_numpy(np.abs(coefficients))))
    shown = draw_coefficients(axes, magnitudes.numpy(), orders, cmap="magma", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes).ax.tick_params(labelsize=7)
    axes.set_title("|coefficients|, log scale", fontsize=9)


def draw_coefficients(axes: Axes, values: NDArray[Any], orders: Sequence[int], **colours: Any) -> AxesImage:
    """Draw a number per coefficient, (n_radial, n_orders): the orders across, the radial index upwards."""
    from matplotlib.ticker import MaxNLocator

    n_radial, n_orders = values.shape
    shown = axes.imshow(
        values,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(-0.5, n_orders - 0.5, 0.5, n_radial + 0.5),
        **colours,
    )
    axes.set_xticks(range(n_orders), [str(order) for order in orders], fontsize=7)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("order m", fontsize=8)
    axes.set_ylabel("radial index n", fontsize=8)
    return shown
