"""Formulas: intensities as functions of q and azimuth, each with its source; nothing here is drawn at random.

A parameter of a formula is a number or a tensor; tensors broadcast against the coordinates, so that one call
computes a whole batch: coordinates (R,) with parameters (n, 1) give (n, R). The result is on the coordinates'
device and has the type that torch's promotion gives.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

Parameter = float | Tensor

Number = TypeVar("Number", float, Tensor)
"""For formulas without coordinates: numbers in, a number out; tensors in, a tensor out."""


def like(parameter: Parameter, coordinate: Tensor) -> Tensor:
    """Return a parameter as a tensor of a coordinate's type, on its device."""
    return torch.as_tensor(parameter, dtype=coordinate.dtype, device=coordinate.device)
