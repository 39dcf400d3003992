"""The eight symmetries of the square, applied to image and coefficients alike: they keep every label."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dvfb_stream.fbt import rotate

SYMMETRIES = 8


def transform(
    symmetry: int, images: Tensor, masks: Tensor, coefficients: Tensor, *, orders: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply one of the eight symmetries to a batch.

    Parameters
    ----------
    symmetry
        0 to 7: quarter turns, from 4 on after a mirror image left to right.
    images, masks
        (B, side, side). The beam centre moves along with the pixels.
    coefficients
        (B, n_radial, n_orders) of the same views.
    orders
        m of each column.

    Notes
    -----
    A mirror left to right is φ → π - φ, which maps A_nm to (-1)^m conj(A_nm); a quarter turn is a phase.
    Exact but for the outermost ring of the disk (8), whose radius is not quite symmetric.
    """
    if symmetry >= 4:
        images, masks = images.flip(-1), masks.flip(-1)
        signs = torch.tensor([(-1.0) ** order for order in orders], device=coefficients.device)
        coefficients = coefficients.conj() * signs
    turns = symmetry % 4
    if turns:
        # rot90 over (columns, rows) turns +x towards +y, the direction in which azimuth grows.
        images, masks = (tensor.rot90(turns, (-1, -2)) for tensor in (images, masks))
        coefficients = rotate(coefficients, turns * math.pi / 2, orders=orders)
    return images, masks, coefficients.resolve_conj()
