"""Turns what was drawn into expected counts: on the pixels of a raster, and in the polar bins that decide labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.raster import AZIMUTHS, SECTORS, Bins, PolarTable
from dvfb_stream.simulation.components import Integers, Pattern, Terms

FRAMES_AT_A_TIME = 4
"""On a CPU: their patterns, 1.5 MB each, stay in the caches between being made and being sampled."""


class Evaluation:
    """Terms and patterns evaluated on one table, each once.

    Parameters
    ----------
    table
        Radii and azimuths.
    """

    def __init__(self, table: PolarTable) -> None:
        self.table = table
        # The terms are kept with their values: an id says nothing once its object has gone.
        self._radial: dict[int, tuple[Terms, Tensor]] = {}
        self._angular: dict[int, tuple[Terms, Tensor]] = {}
        self._full: dict[int, tuple[Pattern, Tensor]] = {}

    def radial(self, terms: Terms) -> Tensor:
        """Return R, (n, R) float64."""
        if id(terms) not in self._radial:
            self._radial[id(terms)] = (terms, terms.radial(self.table))
        return self._radial[id(terms)][1]

    def angular(self, terms: Terms) -> Tensor | None:
        """Return A, (n, AZIMUTHS) float64; None: isotropic."""
        if terms.angular is None:
            return None
        if id(terms) not in self._angular:
            self._angular[id(terms)] = (terms, terms.angular(self.table))
        return self._angular[id(terms)][1]

    def full(self, pattern: Pattern) -> Tensor:
        """Return (n, AZIMUTHS, R) float64."""
        if id(pattern) not in self._full:
            self._full[id(pattern)] = (pattern, pattern.full(self.table))
        return self._full[id(pattern)][1]


class BinnedEvaluation:
    """The same on the polar bins of a 256 x 256 view: whole radii, means over sectors.

    Parameters
    ----------
    evaluation
        On the table of that view, whose radii are half pixels.
    bins
        The bins.
    """

    def __init__(self, evaluation: Evaluation, bins: Bins) -> None:
        self._evaluation = evaluation
        self.bins = bins
        self._radii = slice(0, 2 * bins.seen.shape[1], 2)

    def radial(self, terms: Terms) -> Tensor:
        """Return R at whole radii, (n, B)."""
        return self._evaluation.radial(terms)[:, self._radii]

    def sectors(self, terms: Terms) -> Tensor | None:
        """Return means of A over the sectors, (n, SECTORS); None: isotropic."""
        angular = self._evaluation.angular(terms)
        return None if angular is None else in_sectors(angular)

    def rates(self, intensity: Terms | Pattern) -> Tensor:
        """Return counts a pixel, (n, SECTORS, B)."""
        if isinstance(intensity, Pattern):
            return in_sectors(self._evaluation.full(intensity)[:, :, self._radii])
        radial, sectors = self.radial(intensity), self.sectors(intensity)
        if sectors is None:
            return radial[:, None, :].expand(-1, SECTORS, -1)
        return radial[:, None, :] * sectors[:, :, None]

    def total(self, terms: Sequence[Terms], patterns: Sequence[Pattern], count: int) -> Tensor:
        """Return counts a pixel of all terms and patterns of `count` frames, (count, SECTORS, B)."""
        sums = torch.zeros(count, *self.bins.seen.shape, dtype=torch.float64, device=self.bins.seen.device)
        rows = _Rows(
            terms, count, radial=self.radial, angular=self.sectors, azimuths=SECTORS, dtype=torch.float64
        )
        for position in range(count):
            rows.put_into(sums[position], position)
        for pattern in patterns:
            rates = self.rates(pattern)
            for row, position in enumerate(pattern.frame):
                sums[int(position)] += rates[row]
        return sums


class _Rows:
    """The rows of many terms, those of one frame together."""

    def __init__(
        self,
        terms: Sequence[Terms],
        count: int,
        *,
        radial: Callable[[Terms], Tensor],
        angular: Callable[[Terms], Tensor | None],
        azimuths: int,
        dtype: torch.dtype,
    ) -> None:
        kept = [term for term in terms if len(term.frame)]
        if not kept:
            self._starts = np.zeros(count + 1, dtype=np.int64)
            return
        profiles, directions = [], []
        for term in kept:
            profile, direction = radial(term).to(dtype), angular(term)
            profiles.append(profile)
            directions.append(
                torch.ones(len(profile), azimuths, dtype=dtype, device=profile.device)
                if direction is None
                else direction.to(dtype)
            )
        frames = np.concatenate([term.frame for term in kept])
        order = np.argsort(frames, kind="stable")
        self._starts = np.searchsorted(frames[order], np.arange(count + 1))
        index = torch.from_numpy(order).to(profiles[0].device)
        self._profiles = torch.cat(profiles)[index]
        self._directions = torch.cat(directions)[index]

    def put_into(self, pattern: Tensor, position: int) -> None:
        """Write the sum of a frame's rows over (azimuths, R)."""
        rows = slice(int(self._starts[position]), int(self._starts[position + 1]))
        if rows.stop > rows.start:
            torch.mm(self._directions[rows].T, self._profiles[rows], out=pattern)
        else:
            pattern.zero_()


class PixelImages:
    """Images of terms and patterns on the pixels of a table's raster.

    Parameters
    ----------
    evaluation
        On that table.
    terms, patterns
        What is summed.
    count
        Frames.
    """

    def __init__(
        self, evaluation: Evaluation, terms: Sequence[Terms], patterns: Sequence[Pattern], count: int
    ) -> None:
        self._evaluation = evaluation
        self._rows = _Rows(
            terms,
            count,
            radial=evaluation.radial,
            angular=evaluation.angular,
            azimuths=AZIMUTHS,
            dtype=torch.float32,
        )
        self._patterns = patterns
        self._closed: Tensor | None = None  # memory for patterns, used again and again

    def of(self, positions: Integers) -> Tensor:
        """Return the images of some frames, (len(positions), H, W) float32."""
        table = self._evaluation.table
        if self._closed is None or len(self._closed) < len(positions):
            self._closed = torch.empty(
                len(positions), AZIMUTHS + 1, len(table.radii), device=table.radii.device
            )
        closed = self._closed[: len(positions)]
        for place, position in enumerate(positions):
            self._rows.put_into(closed[place, :AZIMUTHS], int(position))
            for pattern in self._patterns:
                for row in np.flatnonzero(pattern.frame == position):
                    closed[place, :AZIMUTHS] += self._evaluation.full(pattern)[int(row)]
        closed[:, AZIMUTHS] = closed[:, 0]  # the circle closes: azimuth 2π is azimuth 0
        return table.on_pixels(closed)


def in_sectors(values: Tensor) -> Tensor:
    """Return means over the sectors of azimuthal samples: (n, AZIMUTHS, ...) to (n, SECTORS, ...)."""
    shape = (len(values), SECTORS, AZIMUTHS // SECTORS, *values.shape[2:])
    return values.reshape(shape).mean(dim=2)
