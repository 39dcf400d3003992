"""A labelled frame of another origin than the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import Geometry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignFrame:
    """One frame and what can be seen on it."""

    pixels: NDArray[np.int32]
    """(rows, columns) counts; 0 where the mask says invalid."""
    geometry: Geometry
    """Shape, direct beam and mask."""
    labels: tuple[str, ...]
    """Of the ten `LABELS`, in their order."""
    fine: tuple[str, ...]
    """Of the finer labels that its domain knows, in the domain's order."""
