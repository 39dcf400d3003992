"""Coefficients: the A_nm of the paper, the real unknowns that the estimate solves for, what they say, and (10).

A real image needs orders m >= 0 alone, because A_{n,-m} = (-1)^m conj(A_nm). Coefficients without the orders below
zero that stand for (6) with them are called Hermitian here: f = Σ A_n0 Ψ_n0 + 2 Re Σ_{m>0} A_nm Ψ_nm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.errors import SettingsError

MAXIMUM = 255.0
"""M of (10), the largest magnitude of a normalised coefficient: 2⁸ - 1."""


def complex_from_real(unknowns: Tensor, *, n_radial: int, orders: Sequence[int]) -> Tensor:
    """Return A from the coefficients of the real basis.

    With u_cos = √2 Re Ψ and u_sin = √2 Im Ψ, a_cos u_cos + a_sin u_sin = 2 Re(A Ψ) for
    A = (a_cos - i a_sin) / √2; for m = 0, A = a.

    Parameters
    ----------
    unknowns
        (..., J), laid out as the columns of `dvfb_stream.fbt.basis.real_basis`.
    n_radial, orders
        Extent of A.

    Returns
    -------
    Tensor
        (..., n_radial, n_orders), complex.
    """
    cosines, sines = _places(orders)
    blocks = unknowns.reshape(*unknowns.shape[:-1], max(sines) + 1, n_radial)
    halved = [1.0 if order == 0 else math.sqrt(0.5) for order in orders]
    real = blocks[..., cosines, :] * blocks.new_tensor(halved)[:, None]
    turned = [0.0 if order == 0 else -math.sqrt(0.5) for order in orders]
    # Plus zero: the imaginary part of m = 0 is no negative zero, which would turn its phase.
    imaginary = blocks[..., sines, :] * blocks.new_tensor(turned)[:, None] + 0.0
    return torch.complex(real, imaginary).movedim(-1, -2).contiguous()


def real_from_complex(coefficients: Tensor, *, orders: Sequence[int]) -> Tensor:
    """Return the real unknowns, (..., J), of complex coefficients, (..., n_radial, n_orders).

    The imaginary part of m = 0 has no place in a real image and is dropped.
    """
    cosines, sines = _places(orders)
    columns = coefficients.movedim(-1, -2)
    blocks = columns.real.new_empty(*columns.shape[:-2], max(sines) + 1, columns.shape[-1])
    above = [column for column, order in enumerate(orders) if order > 0]
    blocks[..., [sines[column] for column in above], :] = columns.imag[..., above, :] * -math.sqrt(2.0)
    doubled = columns.real.new_tensor([1.0 if order == 0 else math.sqrt(2.0) for order in orders])
    blocks[..., cosines, :] = columns.real * doubled[:, None]
    return blocks.flatten(-2)


def unknowns_of(
    coefficients: Tensor | NDArray[Any], *, n_radial: int, orders: Sequence[int], device: torch.device
) -> Tensor:
    """Return the real unknowns, (B, J), of coefficients as users hand them over: complex or real, torch or NumPy.

    Raises
    ------
    SettingsError
        When they are no numbers or of another shape than (B, n_radial, n_orders).
    """
    if not isinstance(coefficients, Tensor):
        array = np.asarray(coefficients)
        if array.dtype.kind not in "ciufb":
            raise SettingsError(f"coefficients must be numbers, not {array.dtype}")
        single = array.dtype in (np.complex64, np.float32)
        # A copy: NumPy's arrays may be read-only, run backwards or in another byte order, which torch's may not.
        coefficients = torch.from_numpy(
            np.array(array, dtype=np.complex64 if single else np.complex128, order="C")
        )
    if coefficients.ndim != 3 or tuple(coefficients.shape[1:]) != (n_radial, len(orders)):
        raise SettingsError(
            f"coefficients must have shape (B, {n_radial}, {len(orders)}), not {tuple(coefficients.shape)}"
        )
    single = coefficients.dtype in (torch.complex64, torch.complex32, torch.float32)
    kind = torch.complex64 if single else torch.complex128
    return real_from_complex(coefficients.to(device, kind), orders=orders)


def _places(orders: Sequence[int]) -> tuple[list[int], list[int]]:
    """Blocks of the real unknowns that belong to each order's cosine and sine; for m = 0 the same one."""
    cosines, sines = [], []
    block = 0
    for order in orders:
        cosines.append(block)
        block += order > 0
        sines.append(block)
        block += 1
    return cosines, sines


def rotate(coefficients: Tensor, angle: float, *, orders: Sequence[int]) -> Tensor:
    """Return the coefficients of the image turned by `angle` radians towards larger azimuth.

    The turned image is f(r, φ - angle), so that (5) gives A_nm exp(-i m angle).

    Parameters
    ----------
    coefficients
        (..., n_radial, n_orders), complex.
    angle
        Radians; azimuth = atan2(y - center_y, x - center_x), hence from +x towards +y, down the image.
    orders
        m of each column.
    """
    phases = torch.tensor(orders, dtype=coefficients.real.dtype, device=coefficients.device) * -angle
    return coefficients * torch.polar(torch.ones_like(phases), phases)


def energy_per_order(coefficients: Tensor, *, orders: Sequence[int]) -> Tensor:
    """Return how much of the image's energy ∫∫ f² r dr dφ each angular order holds.

    By Parseval's theorem it is Σ_n A_n0² for m = 0 and 2 Σ_n |A_nm|² above, the negative order included. The image
    is the one that the coefficients predict on the whole disk r < a, seen or not; turning it changes nothing.

    Parameters
    ----------
    coefficients
        (..., n_radial, n_orders), complex or real, Hermitian.
    orders
        m >= 0 of each column.

    Returns
    -------
    Tensor
        (..., n_orders), real, in the unit of f² times that of r².

    Raises
    ------
    SettingsError
        When coefficients and orders do not belong together or an order is negative.
    """
    return _energies(coefficients, orders).sum(-2)


def energy_per_radial_index(coefficients: Tensor, *, orders: Sequence[int]) -> Tensor:
    """Return how much of the image's energy ∫∫ f² r dr dφ each radial index holds, (..., n_radial).

    A_n0² + 2 Σ_{m>0} |A_nm|²; all else as in `energy_per_order`.
    """
    return _energies(coefficients, orders).sum(-1)


def with_negative_orders(coefficients: Tensor, *, orders: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return the coefficients of all orders in (6), for those of a real image with m >= 0.

    A_{n,-m} = (-1)^m conj(A_nm), because J_{-m} = (-1)^m J_m makes Ψ_{n,-m} = (-1)^m conj(Ψ_nm).

    Parameters
    ----------
    coefficients
        (..., n_radial, n_orders), complex, Hermitian; the imaginary part of m = 0 is dropped.
    orders
        m >= 0 of each column.

    Returns
    -------
    coefficients
        (..., n_radial, 2 · n_orders), one column less where 0 is among the orders.
    orders
        m of each column, ascending from the lowest negative one.

    Raises
    ------
    SettingsError
        When coefficients and orders do not belong together or an order is negative.
    """
    check_hermitian(coefficients, orders)
    columns = {}
    for column, order in enumerate(orders):
        values = coefficients[..., column]
        columns[-order] = values.conj() * (-1) ** order
        columns[order] = values if order else values.real.to(values.dtype)
    both = tuple(sorted(columns))
    return torch.stack([columns[order] for order in both], dim=-1), both


def _energies(coefficients: Tensor, orders: Sequence[int]) -> Tensor:
    """Energy of each pair (n, ±m), (..., n_radial, n_orders): its squared real unknowns."""
    check_hermitian(coefficients, orders)
    zero = torch.tensor([order == 0 for order in orders], device=coefficients.device)
    return torch.where(zero, coefficients.real.square(), 2 * coefficients.abs().square())


def check_hermitian(coefficients: Tensor, orders: Sequence[int]) -> None:
    """Raise SettingsError when coefficients and orders do not belong together or an order is negative."""
    if coefficients.ndim < 2 or coefficients.shape[-1] != len(orders):
        raise SettingsError(
            f"coefficients of the orders {tuple(orders)!r} must have shape (..., n_radial, {len(orders)}), not "
            f"{tuple(coefficients.shape)}"
        )
    if any(order < 0 for order in orders):
        raise SettingsError(
            f"orders of Hermitian coefficients must not be negative, and are {tuple(orders)!r}; leave out those "
            "below 0, which follow from those above"
        )


def log_scale(coefficients: Tensor) -> Tensor:
    """Return sign(A) · log(1 + |A|) / log(1 + M) of real and imaginary parts, M = 255.

    (10) as printed takes log|1 + A|, which diverges at A = -1; this is what is meant.

    Parameters
    ----------
    coefficients
        Complex or real, any shape, with magnitudes up to M.

    Returns
    -------
    Tensor
        Same shape and type; real and imaginary parts within [-1, 1].
    """
    if coefficients.is_complex():
        return torch.view_as_complex(log_scale(torch.view_as_real(coefficients.resolve_conj())))
    return coefficients.sign() * torch.log1p(coefficients.abs()) / math.log1p(MAXIMUM)


def log_unscale(scaled: Tensor) -> Tensor:
    """Return the coefficients whose `log_scale` is given."""
    if scaled.is_complex():
        return torch.view_as_complex(log_unscale(torch.view_as_real(scaled.resolve_conj())))
    return scaled.sign() * torch.expm1(scaled.abs() * math.log1p(MAXIMUM))


def normalise(coefficients: Tensor) -> Tensor:
    """Scale each frame's coefficients so that the largest magnitude is M, unless all are below one.

    The authors' 255·c / max(max|c|, 1), taken over the last two axes.
    """
    largest = coefficients.abs().amax((-2, -1), keepdim=True)
    return coefficients * (MAXIMUM / largest.clamp_min(1.0))
