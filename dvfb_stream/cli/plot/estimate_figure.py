"""Figure 5 of the paper: a frame, its mask, what is recovered behind the mask, the estimated coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from dvfb_stream.cli.plot.panels import (
    MASK_COLOUR,
    draw_coefficients,
    draw_magnitudes,
    draw_reconstruction,
    draw_view,
    field_of_view,
    intensity_range,
    mark_centre,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from dvfb_stream.cli.plot.estimate import Estimate
    from dvfb_stream.fbt import FourierBesselSettings

FITTED_COLOUR = "#f2f2ee"
BEYOND_COLOUR = "#a9adb5"
RIM_ON_WHITE, RIM_ON_BLACK = "#17803d", "#39ff88"


class Coefficients(StrEnum):
    """How complex coefficients are shown."""

    MAGNITUDE = "magnitude"
    PARTS = "parts"


def draw_estimate(
    estimate: Estimate, settings: FourierBesselSettings, *, title: str, coefficients: Coefficients
) -> Figure:
    """Return a figure of the view, its mask, what is recovered, and the coefficients.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    parts = coefficients is Coefficients.PARTS
    figure = new_figure(18.6 if parts else 16.2, 4.75, "constrained")
    widths = (1.08, 1, 1.08, 0.5, 0.62) if parts else (1.08, 1, 1.08, 0.66)
    view, mask, recovered, *panels = figure.subplots(1, len(widths), width_ratios=widths)
    figure.suptitle(f"{title}\n{_caption(estimate, settings)}", fontsize=10, parse_math=False)
    _add_intensities(figure, view, draw_view(view, estimate.view))
    view.set_title("(a) view, log intensity (blue: masked)", fontsize=9)
    _draw_mask(mask, estimate)
    # Its own colours: the penalty shrinks what is recovered, on a high background to below all that the view holds.
    colours = intensity_range(estimate.recovered, estimate.fitted_working)
    shown = draw_reconstruction(recovered, estimate.recovered, estimate.view, colours)
    _add_intensities(figure, recovered, shown)
    _draw_disk(recovered, estimate, RIM_ON_BLACK)
    recovered.set_title("(c) recovered from the coefficients", fontsize=9)
    recovered.set_xlabel("dotted: the disk that is fitted", fontsize=8)
    if parts:
        _draw_parts(figure, panels, estimate, settings.orders)
    else:
        draw_magnitudes(figure, panels[0], estimate.coefficients, settings.orders)
        panels[0].set_title("(d) |coefficients|, log scale (10)", fontsize=9)
    return figure


def _caption(estimate: Estimate, settings: FourierBesselSettings) -> str:
    facts = [
        f"fit residual {estimate.residual:.3f}: the coefficients explain {1 - estimate.residual:.1%} "
        "of the fitted pixels' energy",
        f"{estimate.nonzero} of {estimate.unknowns} unknowns are not zero",
        f"λ = {settings.penalty:g}, α = {settings.l1_ratio:g} ({settings.reading.value})",
    ]
    if estimate.gap > settings.tolerance:
        facts.append(f"stopped within {estimate.gap:.1g} of the minimum")
    return " · ".join(facts)


def _add_intensities(figure: Figure, axes: Axes, shown: AxesImage) -> None:
    """Say at the side of a panel which colour is which intensity of the view, 0 to 255."""
    figure.colorbar(shown, ax=axes, fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)


def _draw_mask(axes: Axes, estimate: Estimate) -> None:
    from matplotlib.colors import ListedColormap

    valid, fitted = estimate.view.mask, estimate.fitted
    kinds = np.where(fitted, 0, np.where(valid, 1, 2))
    axes.imshow(
        kinds,
        cmap=ListedColormap([FITTED_COLOUR, BEYOND_COLOUR, MASK_COLOUR]),
        vmin=0,
        vmax=2,
        interpolation="nearest",
        extent=field_of_view(estimate.view),
    )
    mark_centre(axes, estimate.view)
    _draw_disk(axes, estimate, RIM_ON_WHITE)
    axes.set_title("(b) mask", fontsize=9)
    shares = [float((kinds == kind).mean()) for kind in range(3)]
    axes.set_xlabel(
        f"white: fitted {shares[0]:.0%} · grey: beyond the disk {shares[1]:.0%} · blue: masked {shares[2]:.0%}",
        fontsize=8,
    )


def _draw_disk(axes: Axes, estimate: Estimate, colour: str) -> None:
    from matplotlib.patches import Circle

    centre = (estimate.view.center_x, estimate.view.center_y)
    axes.add_patch(
        Circle(centre, estimate.radius, fill=False, edgecolor=colour, linewidth=1.2, linestyle=":")
    )


def _draw_parts(figure: Figure, panels: Sequence[Axes], estimate: Estimate, orders: Sequence[int]) -> None:
    import torch

    from dvfb_stream.fbt import log_scale, normalise

    scaled = log_scale(normalise(torch.from_numpy(estimate.coefficients))).numpy()
    for axes, values, name in zip(panels, (scaled.real, scaled.imag), ("(d) Re", "(e) Im"), strict=True):
        shown = draw_coefficients(axes, values, orders, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(f"{name} coefficients, log scale", fontsize=9)
    panels[1].set_ylabel("")
    figure.colorbar(shown, ax=panels[1]).ax.tick_params(labelsize=7)
