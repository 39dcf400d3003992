"""The signed logarithm (10) that makes weak coefficients visible to a network, and its inverse."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAXIMUM = 255.0
"""M of (10), the largest magnitude of a normalised coefficient: 2⁸ - 1."""


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
