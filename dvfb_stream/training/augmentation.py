"""What changes a frame and keeps its labels, done to view and coefficients alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dvfb_stream.fbt import rotate

SYMMETRIES = 8


def transform(
    symmetry: int, images: Tensor, masks: Tensor, coefficients: Tensor, *, orders: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply one of the eight symmetries of the square to a batch.

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


def turn(
    angle: float, images: Tensor, masks: Tensor, coefficients: Tensor, *, orders: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn a batch by any angle: the pixels about the middle of the view, the coefficients by a phase.

    What the turned corners uncover is invalid. The coefficients are those of the whole view, corners included, so
    that the two views of a frame agree up to what is seen in the corners: meant for small angles.

    Parameters
    ----------
    angle
        Radians, from +x to +y.
    images, masks, coefficients, orders
        As `transform`.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    # Each new pixel looks back along the turn, in coordinates from -1 to 1.
    back = torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0]], device=images.device)
    grid = nn.functional.affine_grid(
        back.expand(len(images), 2, 3), [len(images), 1, *images.shape[1:]], align_corners=False
    )
    valid = masks.to(images.dtype)
    both = torch.stack([images * valid, valid], dim=1)
    turned = nn.functional.grid_sample(both, grid, padding_mode="zeros", align_corners=False)
    masks = turned[:, 1] > 0.5
    images = torch.where(masks, turned[:, 0] / turned[:, 1].clamp_min(0.5), 0.0)
    return images, masks, rotate(coefficients, angle, orders=orders)
