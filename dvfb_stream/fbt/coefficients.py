"""Coefficients: the complex A_nm of the paper and the real unknowns that the estimate solves for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def complex_from_real(unknowns: Tensor, *, n_radial: int, orders: Sequence[int]) -> Tensor:
    """Return A from the coefficients of the real basis.

    With u_cos = √2 Re Ψ and u_sin = √2 Im Ψ, a_cos u_cos + a_sin u_sin = 2 Re(A Ψ) for
    A = (a_cos - i a_sin) / √2; for m = 0, A = a.

    Parameters
    ----------
    unknowns
        (B, J), laid out as the columns of `dvfb_stream.fbt.basis.real_basis`.
    n_radial, orders
        Extent of A.

    Returns
    -------
    Tensor
        (B, n_radial, n_orders), complex.
    """
    blocks = iter(torch.split(unknowns, n_radial, dim=1))
    columns = []
    for order in orders:
        cosine = next(blocks)
        if order == 0:
            columns.append(torch.complex(cosine, torch.zeros_like(cosine)))
        else:
            columns.append(torch.complex(cosine, -next(blocks)) / math.sqrt(2.0))
    return torch.stack(columns, dim=2)


def real_from_complex(coefficients: Tensor, *, orders: Sequence[int]) -> Tensor:
    """Return the real unknowns, (B, J), of complex coefficients, (B, n_radial, n_orders).

    The imaginary part of m = 0 has no place in a real image and is dropped.
    """
    blocks = []
    for column, order in enumerate(orders):
        values = coefficients[:, :, column]
        if order == 0:
            blocks.append(values.real)
        else:
            blocks += [values.real * math.sqrt(2.0), -values.imag * math.sqrt(2.0)]
    return torch.cat(blocks, dim=1)


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
