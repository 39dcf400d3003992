"""What a formula takes beside its coordinates: plain numbers, or tensors that broadcast against them."""

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
