"""Fibre diffraction: layer lines of long parallel molecules."""

from __future__ import annotations

import torch
from torch import Tensor

from dvfb_stream.simulation.physics.parameters import Parameter


def layer_line(
    across: Tensor, along: Tensor, *, place: Parameter, thickness: Parameter, misalignment: Parameter
) -> Tensor:
    """Profile t/s · exp(-(|z| - z0)² / (2 s²)) of a layer line and its mirror image; the equator has z0 = 0.

    A fibre tilted by a small angle ω carries the point (x, z) to z + ωx: molecules whose tilts are spread by ω smear
    a line that is t thick to s = √(t² + ω²x²), whose integral over z stays.

    Parameters
    ----------
    across, along
        x and z, across and along the fibre's axis, in one unit; any shapes that broadcast.
    place
        z0, n times the reciprocal of the repeat, 0 or more.
    thickness
        t, standard deviation: the reciprocal of the length over which the molecules are in order.
    misalignment
        ω, standard deviation, radians.

    References
    ----------
    Holmes and Barrington Leigh, Acta Cryst. A 30 (1974) 635, for small disorientations.
    """
    spread = torch.sqrt(thickness**2 + (misalignment * across) ** 2)
    return thickness / spread * torch.exp(-0.5 * ((along.abs() - place) / spread) ** 2)
