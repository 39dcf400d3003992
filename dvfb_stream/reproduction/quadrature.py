"""The transform pair (5)(6) itself: coefficients of a function by quadrature, and the series at any point.

`FourierBessel` estimates coefficients from the pixels that a detector happens to see. Here a function is known on
the whole disk, so that (5) is an integral and (6) a sum, both right to rounding: what estimates are judged by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import index
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import jn_zeros, jv, roots_legendre

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.fbt.settings import FourierBesselSettings

RADIAL_TAIL = 32
"""Nodes beyond the highest root, see `transform`. A Bessel function's Legendre coefficients fall faster than
exponentially past the degree that follows its oscillations; a few times the cube root of that degree is enough."""

AZIMUTH_TAIL = 64
"""Nodes beyond four times the highest order, so that a transform of low orders sees patterns of high ones."""


def transform(
    function: Callable[[NDArray[np.float64], NDArray[np.float64]], ArrayLike],
    *,
    radius: float,
    n_radial: int,
    orders: Iterable[int],
    radial_nodes: int | None = None,
    azimuth_nodes: int | None = None,
) -> NDArray[np.complex128]:
    """Return P_nm of (5), the Fourier-Bessel coefficients of a function on the disk r < a.

    Parameters
    ----------
    function
        f(r, azimuth), called once with r of shape (R, 1) in (0, a) and azimuth of shape (1, F) in (-π, π). What
        it returns, real or complex, broadcasts to (..., R, F); leading axes are a batch of functions.
    radius
        a, in the unit of r; coefficients come in the unit of f times that of r.
    n_radial
        Radial indices n = 1..n_radial.
    orders
        Angular orders m, of either sign. A real f has P_{n,-m} = (-1)^m conj(P_nm).
    radial_nodes, azimuth_nodes
        R and F, to raise for functions that vary faster than the notes allow; None: the least that is accepted.

    Returns
    -------
    ndarray of shape (..., n_radial, n_orders), complex128
        [..., n-1, k] belongs to radial index n and order orders[k].

    Raises
    ------
    SettingsError
        When a setting is of a wrong type or out of range, or there are fewer nodes than these functions need.
    FrameError
        When the function's values have a wrong shape or are not finite.

    Notes
    -----
    Gauss-Legendre over r, with X = max x_nm and R = X + 32 nodes. On 0 < r < a, R_nm passes for a polynomial of
    degree x_nm/2, and R nodes integrate degree 2R - 1 exactly: f may oscillate three times as fast as the fastest
    of these R_nm. A step in f, which no polynomial follows, errs as 1/R.

    The trapezium over azimuth, with M = max |m| and F = 4M + 64 nodes. On a full circle it is exact but for
    taking order m + F for m: f may hold orders below F - M = 3M + 64.

    Examples
    --------
    >>> transform(lambda r, azimuth: np.exp(-(r**2)), radius=5.0, n_radial=3, orders=(0, 2)).shape
    (3, 2)
    """
    settings, orders = _disk(radius, n_radial), _distinct(orders)
    radius, n_radial = settings.radius, settings.n_radial
    highest_root = max(float(_roots(order, n_radial)[-1]) for order in orders)
    highest_order = max(abs(order) for order in orders)
    radial_nodes = _nodes("radial_nodes", radial_nodes, math.ceil(highest_root) + RADIAL_TAIL)
    azimuth_nodes = _nodes("azimuth_nodes", azimuth_nodes, 4 * highest_order + AZIMUTH_TAIL)

    nodes, weights = roots_legendre(radial_nodes)
    r, dr = radius * (nodes + 1) / 2, radius * weights / 2
    # Halfway between the ends of atan2's range, for functions that branch there.
    azimuth = 2 * np.pi * (np.arange(azimuth_nodes) + 0.5) / azimuth_nodes - np.pi
    values = np.asarray(function(r[:, None], azimuth[None, :]))
    grid = (radial_nodes, azimuth_nodes)
    if not _broadcast_together(values.shape, grid):
        raise FrameError(
            f"the function returned shape {values.shape} for r of shape {(radial_nodes, 1)} and azimuth of shape "
            f"{(1, azimuth_nodes)}; its values must broadcast to (..., {radial_nodes}, {azimuth_nodes})"
        )
    if not np.isfinite(values).all():
        raise FrameError(
            "the function is not finite everywhere on 0 < r < "
            f"{radius:g}; give it a finite value, such as 0, at every point of the disk"
        )
    values = np.broadcast_to(values, np.broadcast_shapes(values.shape, grid))

    columns = []
    for order in orders:
        harmonic = values @ np.exp(-1j * order * azimuth) * (np.sqrt(2 * np.pi) / azimuth_nodes)
        columns.append((harmonic * r * dr) @ _radial(r, radius=radius, order=order, n_radial=n_radial))
    return np.stack(columns, axis=-1)


def inverse_transform(
    coefficients: ArrayLike, r: ArrayLike, azimuth: ArrayLike, *, radius: float, orders: Iterable[int]
) -> NDArray[np.complex128]:
    """Return Σ_nm P_nm Ψ_nm, the inverse transform (6), over the orders given and no others.

    With orders m >= 0 alone this is the ΨA of Algorithm 1, which is complex even where A belongs to a real image;
    `synthesise` is the real image.

    Parameters
    ----------
    coefficients
        (..., n_radial, n_orders), complex or real.
    r, azimuth
        Polar coordinates of the points, any shapes that broadcast together.
    radius
        a, in the unit of r.
    orders
        m of each column, of either sign.

    Returns
    -------
    ndarray of shape (..., *points), complex128
        Zero where r >= a.

    Raises
    ------
    SettingsError
        When coefficients and orders do not belong together, a setting is out of range, or r is negative.
    """
    orders = _distinct(orders)
    coefficients = _one_column_each(coefficients, orders)
    settings = _disk(radius, coefficients.shape[-2])
    r, azimuth = np.asarray(r, dtype=np.float64), np.asarray(azimuth, dtype=np.float64)
    if not (r >= 0).all():
        raise SettingsError(f"r must not be negative, and is {r.min():g}; turn azimuth by π instead")
    if not _broadcast_together(r.shape, azimuth.shape):
        raise SettingsError(
            f"r of shape {r.shape} and azimuth of shape {azimuth.shape} do not broadcast together"
        )
    dimensions = max(r.ndim, azimuth.ndim)
    # Apart as long as possible: on a polar grid the Bessel functions depend on one axis alone.
    r = r.reshape((1,) * (dimensions - r.ndim) + r.shape)

    values = np.zeros((), dtype=np.complex128)
    for column, order in enumerate(orders):
        radial = _radial(r, radius=settings.radius, order=order, n_radial=settings.n_radial)
        along_r = np.tensordot(coefficients[..., column], radial, axes=(-1, -1))
        values = values + along_r * np.exp(1j * order * azimuth) / np.sqrt(2 * np.pi)
    return values


def synthesise(
    coefficients: ArrayLike, r: ArrayLike, azimuth: ArrayLike, *, radius: float, orders: Iterable[int]
) -> NDArray[np.float64]:
    """Return f = Σ_n A_n0 Ψ_n0 + 2 Re Σ_{m>0} A_nm Ψ_nm, the inverse (6) of a real image, at any points.

    What `FourierBessel.reconstruct` gives on its working pixels (to the 2e-14 of its tables of J_m), with lengths
    and `radius` in working pixels.

    Parameters
    ----------
    coefficients
        (..., n_radial, n_orders), complex or real. The imaginary part of m = 0 has no place in a real image and
        is dropped.
    r, azimuth
        Polar coordinates of the points, any shapes that broadcast together; azimuth = atan2(y - center_y,
        x - center_x).
    radius
        a, in the unit of r.
    orders
        m >= 0 of each column.

    Returns
    -------
    ndarray of shape (..., *points), float64
        Zero where r >= a.

    Raises
    ------
    SettingsError
        When coefficients and orders do not belong together, an order or r is negative, or a setting is out of
        range.
    """
    orders = _distinct(orders)
    if min(orders) < 0:
        raise SettingsError(
            f"orders of a real image must not be negative, and are {orders!r}: those below 0 follow from those "
            "above; sum both with inverse_transform"
        )
    weighted = _one_column_each(coefficients, orders) * [1.0 if order == 0 else 2.0 for order in orders]
    return inverse_transform(weighted, r, azimuth, radius=radius, orders=orders).real.copy()


def _roots(order: int, n_radial: int) -> NDArray[np.float64]:
    """x_nm, n = 1..n_radial; J_m and J_-m share them."""
    return np.asarray(jn_zeros(abs(order), n_radial), dtype=np.float64)


def _radial(r: NDArray[np.float64], *, radius: float, order: int, n_radial: int) -> NDArray[np.float64]:
    """R_nm(r) of (4), (*r.shape, n_radial), from SciPy's J_m on distinct radii; zero where r >= a."""
    roots = _roots(order, n_radial)
    # At the roots of J_m, J²_{m+1} = J²_{m-1}: N_nm is the same for both signs of m.
    norms = radius * np.abs(jv(abs(order) + 1, roots)) / np.sqrt(2.0)
    distinct, inverse = np.unique(r, return_inverse=True)
    values = np.zeros((distinct.size, n_radial))
    inside = distinct < radius
    values[inside] = jv(order, np.multiply.outer(distinct[inside] / radius, roots)) / norms
    return values[inverse.reshape(r.shape)]


def _disk(radius: float, n_radial: int) -> FourierBesselSettings:
    return FourierBesselSettings(radius=radius, n_radial=n_radial)


def _distinct(orders: Iterable[int]) -> tuple[int, ...]:
    orders = tuple(orders)
    try:
        numbers = tuple(index(order) for order in orders)
    except TypeError as error:
        raise SettingsError(f"orders must be integers, not {orders!r}") from error
    if not numbers or len(set(numbers)) < len(numbers):
        raise SettingsError(f"orders must be distinct, and at least one, not {orders!r}")
    return numbers


def _one_column_each(coefficients: ArrayLike, orders: tuple[int, ...]) -> NDArray[Any]:
    coefficients = np.asarray(coefficients)
    if coefficients.ndim < 2 or coefficients.shape[-1] != len(orders):
        raise SettingsError(
            f"coefficients of the orders {orders!r} must have shape (..., n_radial, {len(orders)}), not "
            f"{coefficients.shape}"
        )
    return coefficients


def _nodes(name: str, count: int | None, least: int) -> int:
    if count is None:
        return least
    try:
        number = index(count)
    except TypeError as error:
        raise SettingsError(f"{name} must be an integer or None, not {count!r}") from error
    if number < least:
        raise SettingsError(
            f"{name} must be at least {least} for these radial indices and orders, not {count}"
        )
    return number


def _broadcast_together(*shapes: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        return False
    return True
