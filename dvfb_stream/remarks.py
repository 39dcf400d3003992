"""What a reader of a row should know of its frame: most of it is masked, or too little is there to be judged."""

from __future__ import annotations

from dvfb_stream.frames import POLARITY

MOSTLY_MASKED = 0.75
"""Share of the pixels. No detector that pyFAI knows masks more than 22 %, so that a mask which is taken the wrong way
round hides at least 78 %."""


def mostly_masked(masked: int, pixels: int) -> str:
    """Return a remark on a frame of which most pixels are masked; empty where they are not."""
    if masked <= MOSTLY_MASKED * pixels:
        return ""
    return (
        f"{masked} of {pixels} pixels ({100 * masked / pixels:.0f} %) are masked, or invalid by value; was a mask "
        f"given the wrong way round? {POLARITY[0].upper()}{POLARITY[1:]}."
    )
