"""What a detector file says of its frames besides their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import InvalidValues


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileFacts:
    """Facts of a file; None where it says nothing. What a user states wins over them."""

    invalid_values: InvalidValues | None = None
    mask: NDArray[np.bool_] | None = None
    """(rows, columns), True = valid."""
    center_x: float | None = None
    """Direct beam in pixels; pixel centres at integers, x to the right, y down."""
    center_y: float | None = None
    pixel_aspect: float | None = None
    """Height of a pixel divided by its width."""
    source: str = ""
    """Where in the file they stand, for people."""


NO_FACTS = FileFacts()
"""Of a file that holds pixels alone."""
