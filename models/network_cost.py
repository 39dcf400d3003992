"""What a network costs: multiply-adds a frame and parameters, counted by torch itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dvfb_stream.azimuthal.ring_statistics import BINS, CHANNELS
from dvfb_stream.models.networks import AnnotationNetwork


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one frame through one network, its training heads left out."""

    multiply_adds: int
    """Half of the floating-point operations of convolutions and matrix products."""
    parameters: int


@torch.inference_mode()
def cost_of(network: AnnotationNetwork, *, view: int = 256) -> Cost:
    """Return what one frame costs.

    Parameters
    ----------
    network
        Left in evaluation mode.
    view
        Side of the views.
    """
    network.eval()
    extent = network.coefficient_shape or (1, 1)
    device = next(network.parameters()).device
    inputs = network.prepare(
        torch.zeros(1, view, view, device=device),
        torch.ones(1, view, view, dtype=torch.bool, device=device),
        torch.zeros(1, *extent, dtype=torch.complex64, device=device),
        torch.zeros(1, len(CHANNELS), BINS, device=device),
    )
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network(inputs)
    heads = sum(parameter.numel() for parameter in network.heads.parameters())
    return Cost(
        counter.get_total_flops() // 2, sum(parameter.numel() for parameter in network.parameters()) - heads
    )
