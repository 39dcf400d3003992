"""What a fit makes small: binary cross entropy (11), or a form of it that easy negatives weigh less in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEGATIVE_FOCUS = 4.0
"""γ₋ of the asymmetric loss."""
MARGIN = 0.05
"""Probability up to which a negative costs nothing."""


def label_loss(logits: Tensor, truth: Tensor, kind: str) -> Tensor:
    """Return the loss, summed over labels and averaged over frames as (11) prints it.

    Parameters
    ----------
    logits, truth
        (B, L); truth 0 or 1.
    kind
        ``bce``: (11). ``asymmetric``: negatives p are weighted by max(p - 0.05, 0)⁴, positives not at all.

    References
    ----------
    Ridnik et al. (2021), Asymmetric loss for multi-label classification, ICCV.
    """
    if kind == "bce":
        return nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / len(logits)
    stated = torch.sigmoid(logits)
    shifted = (stated - MARGIN).clamp_min(0.0)
    positive = truth * nn.functional.logsigmoid(logits)
    negative = (1.0 - truth) * torch.log((1.0 - shifted).clamp_min(1e-8)) * shifted.pow(NEGATIVE_FOCUS)
    return -(positive + negative).sum() / len(logits)
