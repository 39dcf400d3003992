"""Branches whose input no turn about the beam and no mirror image of a frame changes.

The ring network looks at what is known of each ring of a view, on a logarithmic radius. Of the coefficients the
orientation is taken out: a turn by φ multiplies A_nm by exp(-imφ), hence leaves the phases of one order relative to
one another; a mirror image conjugates them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dvfb_stream.azimuthal.ring_statistics import CHANNELS
from dvfb_stream.fbt.coefficients import log_scale, normalise
from dvfb_stream.models.branches import COEFFICIENT_MAXIMUM, CompactCoefficientNetwork

SEEN, LEVEL = CHANNELS.index("seen"), CHANNELS.index("level")
LEVEL_SCALE = 2.0
"""Of natural logarithms: a view spans some eleven."""
LARGEST_LEVEL = 5.0


class RingBlock(nn.Module):
    """A residual block along the radius.

    Parameters
    ----------
    channels
        In and out.
    dilation
        Bins between the five that are joined.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.along = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation, bias=False)
        self.normal = nn.BatchNorm1d(channels)
        self.across = nn.Conv1d(channels, channels, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, channels, bins)."""
        changed: Tensor = self.across(torch.relu(self.normal(self.along(values))))
        return values + changed


class RingNetwork(nn.Module):
    """Looks at `RingStatistics`: convolutions along the logarithm of the radius, and their mean and largest values.

    Parameters
    ----------
    widths
        Channels at full, half and quarter resolution.
    """

    invariant = True

    def __init__(self, *, widths: tuple[int, int, int] = (24, 48, 64)) -> None:
        super().__init__()
        first, second, third = widths
        self.widths = tuple(widths)
        self.channels = len(CHANNELS)
        self.convolutions = nn.Sequential(
            nn.Conv1d(self.channels, first, 7, padding=3),
            RingBlock(first, 1),
            RingBlock(first, 2),
            nn.Conv1d(first, second, 4, stride=2, padding=1),
            RingBlock(second, 1),
            RingBlock(second, 2),
            RingBlock(second, 4),
            nn.Conv1d(second, third, 4, stride=2, padding=1),
            RingBlock(third, 1),
            RingBlock(third, 2),
            RingBlock(third, 4),
            RingBlock(third, 8),
        )
        self.features = 2 * third

    def prepare(self, rings: Tensor) -> Tensor:
        """Return ring statistics, (B, channels, bins), with the level of each frame about its mean."""
        seen, level = rings[:, SEEN : SEEN + 1], rings[:, LEVEL : LEVEL + 1]
        mean = (level * seen).sum(dim=2, keepdim=True) / seen.sum(dim=2, keepdim=True).clamp_min(1e-6)
        about = ((level - mean) / LEVEL_SCALE).clamp(-LARGEST_LEVEL, LARGEST_LEVEL) * (seen > 0)
        return torch.cat([rings[:, :LEVEL], about, rings[:, LEVEL + 1 :]], dim=1)

    def forward(self, prepared: Tensor) -> Tensor:
        """Return features, (B, `features`)."""
        values = self.convolutions(prepared)
        seen = nn.functional.avg_pool1d(prepared[:, SEEN : SEEN + 1], 4)[:, :, : values.shape[2]]
        values = values[:, :, : seen.shape[2]]
        mean = (values * seen).sum(dim=2) / seen.sum(dim=2).clamp_min(1e-3)
        largest = values.masked_fill(seen <= 0, -10.0).amax(dim=2)
        return torch.cat([mean, largest], dim=1)


class SeveralRingNetworks(nn.Module):
    """Ring networks side by side, their features one after the other: what independent fits have learnt.

    Parameters
    ----------
    widths
        Of each of them.
    without
        Names of channels that none of them sees: each is 0 everywhere.
    """

    invariant = True

    def __init__(self, *, widths: tuple[tuple[int, int, int], ...], without: tuple[str, ...] = ()) -> None:
        super().__init__()
        if not widths:
            raise ValueError("several ring networks are at least one")
        if unknown := sorted(set(without) - set(CHANNELS)):
            raise ValueError(f"there are no channels {', '.join(unknown)}; there are {', '.join(CHANNELS)}")
        self._without = [CHANNELS.index(name) for name in without]
        self.members = nn.ModuleList(RingNetwork(widths=tuple(each)) for each in widths)  # type: ignore[arg-type]
        self.features = sum(member.features for member in self.members)  # type: ignore[misc]

    def prepare(self, rings: Tensor) -> Tensor:
        """Return what each of them takes."""
        prepared: Tensor = self.members[0].prepare(rings)  # type: ignore[operator]
        prepared[:, self._without] = 0.0
        return prepared

    def forward(self, prepared: Tensor) -> Tensor:
        """Return features, (B, `features`)."""
        return torch.cat([member(prepared) for member in self.members], dim=1)


class InvariantCoefficientNetwork(CompactCoefficientNetwork):
    """g of the default model, its input freed of the orientation."""

    invariant = True

    def prepare(self, coefficients: Tensor) -> Tensor:
        """Return the three channels of `invariant_input`, (B, 3, n_radial, n_orders)."""
        return invariant_input(coefficients)


def invariant_input(coefficients: Tensor) -> Tensor:
    """Return coefficients without the orientation of the frame.

    Each order is turned by the phase of Σ_n |A_nm| A_nm, so that what is left are the phases of its radial indices
    relative to one another; of the imaginary parts, whose signs a mirror image changes, only the magnitudes are kept.

    Parameters
    ----------
    coefficients
        (B, n_radial, n_orders) complex, the first order being 0, as `FourierBessel.estimate` returns them.

    Returns
    -------
    Tensor
        (B, 3, n_radial, n_orders): real part and magnitude of the imaginary part of (10) after normalisation, and the
        logarithm of the magnitude on a fixed scale.
    """
    normal = normalise(coefficients)
    reference = (normal * normal.abs()).sum(dim=1, keepdim=True)
    phase = reference / reference.abs().clamp_min(1e-12)
    phase[:, :, 0] = 1.0
    turned = torch.view_as_real(log_scale(normal * phase.conj()))
    magnitude = torch.log1p(coefficients.abs()) / math.log1p(COEFFICIENT_MAXIMUM)
    return torch.stack([turned[..., 0], turned[..., 1].abs(), magnitude], dim=1)
