"""What a reader of a row should know of its frame: most of it is masked, or too little is there to be judged.

Without pixels or counts a network still has its opinion. Measured on 34 real frames of 11 set-ups: how many of the
labels that the default model accepts, two readers of the frames confirm. On the frames as they are it is 81 %.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dvfb_stream.frames import POLARITY, Geometry

if TYPE_CHECKING:
    from dvfb_stream.view import View

MOSTLY_MASKED = 0.75
"""Share of the pixels. No detector that pyFAI knows masks more than 22 %, so that a mask which is taken the wrong way
round hides at least 78 %."""

LEAST_PIXELS = 2048
"""Valid detector pixels. Binned to 48 x 48 pixels, frames have 67 % right, to 32 x 32 55 %, to 16 x 16 46 %."""

LEAST_VIEW_SHARE = 1 / 64
"""Of the view that is valid. Through windows of a twentieth to a hundredth of the frame half of the labels are right,
through a three-hundredth a quarter; a strip detector of 16 : 1 covers a sixteenth."""

LEAST_COUNTS = 1000
"""In all valid pixels. Thinned to 1000 counts, frames have 69 % right, to 300 counts 33 %, and at 100 none."""

LEAST_VARIATION = 0.05
"""By which the brightest of the sectors must exceed the darkest one: what no more stands out is not visible, by
docs/labels.md. Of 80 real frames each exceeds 1.2; a dark frame of a camera with 300 counts of offset has 0.01."""


def mostly_masked(masked: int, pixels: int) -> str:
    """Return a remark on a frame of which most pixels are masked; empty where they are not."""
    if masked <= MOSTLY_MASKED * pixels:
        return ""
    return (
        f"{masked} of {pixels} pixels ({100 * masked / pixels:.0f} %) are masked, or invalid by value; was a mask "
        f"given the wrong way round? {POLARITY[0].upper()}{POLARITY[1:]}."
    )


def too_little(view: View, geometry: Geometry) -> str:
    """Return why no label of a frame is accepted whatever its probability; empty where there is enough to be seen.

    Parameters
    ----------
    view
        Of the frame.
    geometry
        Of the frame.
    """
    pixels = math.prod(geometry.shape)
    valid = pixels - view.masked_pixels
    share = float(view.mask.mean())
    if valid < LEAST_PIXELS:
        too_few = f"{valid} valid pixels, fewer than {LEAST_PIXELS}"
    elif share < LEAST_VIEW_SHARE:
        too_few = f"valid pixels in {100 * share:.1f} % of the view, less than {100 * LEAST_VIEW_SHARE:.1f} %"
    elif view.counts < LEAST_COUNTS:
        too_few = f"{view.counts:.0f} counts, fewer than {LEAST_COUNTS}"
    else:
        return ""
    return f"No label is accepted: the frame has {too_few}."


def too_even(variation: float) -> str:
    """Return why no label of what is seen is accepted; empty where something may be seen. Those of quality may be.

    Parameters
    ----------
    variation
        Of the frame's sectors; see `MeasuredOrders`.
    """
    if variation >= LEAST_VARIATION:
        return ""
    return (
        f"The frame is even: its brightest sector exceeds its darkest one by {100 * variation:.1f} %, less than "
        f"{100 * LEAST_VARIATION:.0f} %. No label but of its quality is accepted."
    )
