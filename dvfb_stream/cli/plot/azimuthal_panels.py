"""Panels of what a view shows along the azimuth: the azimuth-radius map, and below it the contrast of each order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dvfb_stream.azimuthal.evidence import ORDERS_OF_FOLDS
from dvfb_stream.azimuthal.maxima import LEAST_OF_ALL
from dvfb_stream.cli.plot.panels import COLOUR_MAP, MASK_COLOUR, intensity_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from dvfb_stream.cli.plot.azimuth import Azimuth

STYLES = {2: ("#0072b2", "o"), 4: ("#d55e00", "s"), 6: ("#009e73", "^")}
"""Colour (Okabe and Ito, for those who confuse colours) and marker of each order."""
FAINT = 0.18
"""Opacity of what is not significant."""
LEAST, MOST = 0.004, 2.0
"""Contrasts at the ends of the axis; the greatest that intensity can have is 1.41, of a wave that touches zero."""
OFF_THE_VIEW = "#ececea"


def draw_polar_map(axes: Axes, azimuth: Azimuth) -> None:
    """Draw the view by radius (across) and azimuth (up), masked places in blue, what is off the view in grey."""
    from matplotlib.colors import ListedColormap

    extent = (0.0, float(azimuth.map.shape[1]), -180.5, 179.5)
    low, high = intensity_range(azimuth.map, azimuth.seen)
    axes.set_facecolor(OFF_THE_VIEW)
    shared: dict[str, Any] = {
        "origin": "lower",
        "aspect": "auto",
        "extent": extent,
        "interpolation": "nearest",
    }
    axes.imshow(np.ma.array(azimuth.map, mask=~azimuth.seen), cmap=COLOUR_MAP, vmin=low, vmax=high, **shared)
    axes.imshow(
        np.ma.array(azimuth.masked, mask=~azimuth.masked), cmap=ListedColormap([MASK_COLOUR]), **shared
    )
    axes.set_xlim(0, _reach(azimuth))
    axes.set_yticks([-180, -90, 0, 90], ["-180°", "-90°", "0°", "90°"])
    axes.tick_params(labelsize=7)


def draw_contrasts(axes: Axes, azimuth: Azimuth) -> None:
    """Draw the contrast of orders 2, 4 and 6 against radius, on a logarithmic scale; faint where not significant."""
    for order in ORDERS_OF_FOLDS:
        colour, marker = STYLES[order]
        contrast, significant = azimuth.contrasts(order)
        for which, opacity in ((~significant, FAINT), (significant, 1.0)):
            axes.plot(
                azimuth.radii[which],
                contrast[which],
                marker,
                color=colour,
                alpha=opacity,
                markersize=2.6,
                markeredgewidth=0,
            )
    axes.axhline(LEAST_OF_ALL, color="#444444", linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    axes.set_ylim(LEAST, MOST)
    axes.set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    axes.set_xlim(0, _reach(azimuth))
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    if not len(azimuth.radii):
        axes.text(0.5, 0.5, "too little is seen", ha="center", transform=axes.transAxes, fontsize=8)
    elif not azimuth.verified:
        axes.text(0.02, 0.97, "of all sectors, not verified", va="top", transform=axes.transAxes, fontsize=7)


def legend_of_orders() -> list[Line2D]:
    """Return what a legend of `draw_contrasts` shows."""
    from matplotlib.lines import Line2D

    orders = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=f"order {order}")
        for order, (colour, marker) in STYLES.items()
    ]
    line = Line2D(
        [], [], color="#444444", linewidth=0.8, linestyle=":", label=f"least visible, {LEAST_OF_ALL:g}"
    )
    faint = Line2D(
        [], [], color="black", marker="o", linestyle="", markersize=5, alpha=FAINT, label="not significant"
    )
    return [*orders, faint, line]


def order_in_words(azimuth: Azimuth, order: int, contrast: float) -> str:
    """Return measured order and contrast in words: those given, or where the contrast is NaN those of `azimuth`."""
    if math.isnan(contrast):
        order, contrast = azimuth.order, azimuth.contrast
    if math.isnan(contrast):
        return "no order could be measured"
    return f"measured order {order}, contrast {contrast:.2f}" if order else "no order stands out"


def _reach(azimuth: Azimuth) -> float:
    """Return the largest radius with a valid place, in view pixels."""
    columns = np.flatnonzero(azimuth.seen.any(axis=0))
    return float(columns[-1] + 1) if len(columns) else float(azimuth.map.shape[1])
