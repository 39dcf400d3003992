"""Figure 3 of the paper: what the Fourier-Bessel basis functions look like on their disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.cli.output_files import DOTS_PER_INCH
from dvfb_stream.cli.plot.panels import new_figure
from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt.basis import bessel_zeros, radial_functions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR_MAP = "RdBu_r"
RIM_COLOUR = "#80858f"

PIXELS_PER_HALF_WAVE = 3
"""Along a radius, fewer would show steps instead of waves. (2) says how short the waves are: they go like x_nm r / a,
nowhere shorter than a / (n + m/2) for half a wave."""
SMALLEST_PANEL, LARGEST_PANEL = 150, 700
"""Pixels across a disk."""
MOST_PIXELS = 50_000_000
"""Of all panels together; a picture of more is of no use on a screen and takes gigabytes to draw."""

GAP, GROUP_GAP = 0.08, 0.28
"""Inches between Re and Im of one function, and between functions."""
NARROWEST = 4.4
"""Inches that the title takes."""
LEFT, RIGHT, TOP, BOTTOM, CAPTION = 0.65, 0.2, 1.12, 0.68, 0.3
"""Inches around the panels, and below each row of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BasisFunction:
    """One Ψ_nm of (3)(4) on the disk of radius a = 1."""

    n: int
    m: int
    root: float
    """x_nm, the n-th positive root of J_m."""
    peak: float
    """Largest |Ψ_nm|, in units of 1/a."""
    values: NDArray[np.complex128]
    """(S, S) on the square around the disk, rows running down; NaN outside."""


def basis_functions(radial: Sequence[int], orders: Sequence[int]) -> list[list[BasisFunction]]:
    """Return Ψ_nm for each radial index n (a row each) and order m, finely enough sampled to be drawn.

    Raises
    ------
    SettingsError
        When the waves are too short or the functions too many to be drawn.
    """
    finest = max(radial) + max(orders) / 2
    size = max(SMALLEST_PANEL, 2 * PIXELS_PER_HALF_WAVE * math.ceil(finest))
    if size > LARGEST_PANEL:
        limit = LARGEST_PANEL // (2 * PIXELS_PER_HALF_WAVE)
        raise SettingsError(
            f"n = {max(radial)} and m = {max(orders)} together have waves too short to be drawn; "
            f"keep n + m/2 at {limit} or below"
        )
    panels = len(radial) * sum(_parts(order) for order in orders)
    if panels * size**2 > MOST_PIXELS:
        raise SettingsError(
            f"{panels} panels of {size} x {size} pixels are too many for one figure; name fewer than "
            f"{len(radial)} radial indices and {len(orders)} orders"
        )
    steps = (np.arange(size) + 0.5) * (2 / size) - 1
    x, y = np.meshgrid(steps, steps)
    inside = np.hypot(x, y) < 1
    # Pixels on a square share radii: an eighth of them is distinct.
    radii, place = np.unique(np.hypot(x, y)[inside], return_inverse=True)
    along_radius = np.linspace(0, 1, 4 * size)
    rows: list[list[BasisFunction]] = [[] for _ in radial]
    for order in orders:
        roots = bessel_zeros(order, max(radial))
        on_pixels = radial_functions(radii, radius=1.0, order=order, n_radial=max(radial))
        profile = radial_functions(along_radius, radius=1.0, order=order, n_radial=max(radial))
        turning = np.exp(1j * order * np.arctan2(y, x)[inside]) / math.sqrt(2 * math.pi)
        for row, n in zip(rows, radial, strict=True):
            values = np.full((size, size), np.nan + 0j)
            values[inside] = on_pixels[place, n - 1] * turning
            peak = float(np.abs(profile[:, n - 1]).max()) / math.sqrt(2 * math.pi)
            row.append(BasisFunction(n=n, m=order, root=float(roots[n - 1]), peak=peak, values=values))
    return rows


def _parts(order: int) -> int:
    """Real and imaginary part; Ψ_n0 is real."""
    return 1 if order == 0 else 2


def draw_basis(functions: Sequence[Sequence[BasisFunction]]) -> Figure:
    """Return a figure with a row of disks per radial index, and real and imaginary part per order.

    Raises
    ------
    MissingExtraError
        When matplotlib is not installed.
    """
    parts = [_parts(function.m) for function in functions[0]]
    pixels = functions[0][0].values.shape[0]
    # Few panels may be larger than their waves need.
    size = max(pixels, 210 if sum(parts) <= 6 else pixels) / DOTS_PER_INCH
    widths = [number * size + (number - 1) * GAP for number in parts]
    content = LEFT + sum(widths) + (len(parts) - 1) * GROUP_GAP + RIGHT
    width = max(content, NARROWEST)
    first = LEFT + (width - content) / 2
    height = TOP + len(functions) * (size + CAPTION) + BOTTOM
    figure = new_figure(width, height)

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, **{"ha": "center", "va": "center", **style})

    write(0.2, 0.26, "Fourier-Bessel basis functions  $\\Psi_{nm}(r,\\varphi)$", ha="left", fontsize=12.5)
    write(0.2, 0.52, "zero on the rim of the disk r < a; $\\varphi$ runs from x (right) to y (down)", ha="left",
          fontsize=8.5, color="#555555")  # fmt: skip
    for row, members in enumerate(functions):
        top = TOP + row * (size + CAPTION)
        left = first
        write(first - 0.33, top + size / 2, f"$n={members[0].n}$", fontsize=11, rotation=90)
        for function, wide in zip(members, widths, strict=True):
            images = {"Re": function.values.real, "Im": function.values.imag}
            for number, part in enumerate(list(images)[: _parts(function.m)]):
                column = left + number * (size + GAP)
                shown = _draw_disk(place(column, top, size, size), images[part] / function.peak)
                if row == 0:
                    write(column + size / 2, TOP - 0.12, part if function.m else "Re (Im = 0)", fontsize=8.5)
            if row == 0:
                write(left + wide / 2, TOP - 0.34, f"$m={function.m}$", fontsize=11)
            label = f"({function.n}, {function.m})    max $|\\Psi|$ = {function.peak:.2f} / a"
            write(left + wide / 2, top + size + 0.13, label, fontsize=8, color="#333333")
            left += wide + GROUP_GAP
    long = min(3.2, width - 1.2)
    bar = figure.colorbar(
        shown, cax=place((width - long) / 2, height - 0.52, long, 0.11), orientation="horizontal"
    )
    bar.set_ticks([-1, 0, 1], labels=["−max $|\\Psi|$", "0", "+max $|\\Psi|$"], fontsize=8)
    bar.outline.set_linewidth(0.5)
    return figure


def _draw_disk(axes: Axes, values: NDArray[np.float64]) -> Any:
    from matplotlib import colormaps
    from matplotlib.patches import Circle

    rim = Circle((0, 0), 1, transform=axes.transData, facecolor="none", edgecolor=RIM_COLOUR, linewidth=0.8)
    shown = axes.imshow(
        values,
        cmap=colormaps[COLOUR_MAP].with_extremes(bad="white"),
        vmin=-1,
        vmax=1,
        extent=(-1, 1, 1, -1),
        interpolation="bilinear",
    )
    shown.set_clip_path(rim)
    axes.add_patch(rim)
    axes.set_xlim(-1.02, 1.02)
    axes.set_ylim(1.02, -1.02)
    axes.set_axis_off()
    return shown
