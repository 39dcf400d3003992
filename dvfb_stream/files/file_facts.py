"""What a detector file says of its frames besides their pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.frames import InvalidValues, marker
from dvfb_stream.invalid_pixels import declared_pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileFacts:
    """Facts of a file; None where it says nothing. What a user states wins over them."""

    invalid_values: InvalidValues | None = None
    mask: NDArray[np.bool_] | None = None
    """(rows, columns), True = valid."""
    mask_source: str = ""
    """Where in the file it stands, for people."""
    no_mask: str = ""
    """Why a mask that stands in the file is not used."""
    center_x: float | None = None
    """Direct beam in pixels; pixel centres at integers, x to the right, y down."""
    center_y: float | None = None
    no_centre: str = ""
    """Why a centre that stands in the file is not to be believed."""
    pixel_aspect: float | None = None
    """Height of a pixel divided by its width."""
    source: str = ""
    """Where in the file the numbers stand, for people."""
    leaves_marks_away: bool = False
    """Whether nobody wants to know what the file says of invalid pixels."""
    _masked: NDArray[np.intp] = field(init=False, repr=False)
    """Places in C order."""

    def __post_init__(self) -> None:
        masked = np.empty(0, np.intp) if self.mask is None else np.flatnonzero(~self.mask)
        object.__setattr__(self, "_masked", masked)

    @property
    def remark(self) -> str:
        """What the row of each frame should say of the file's own mask; empty where there is none."""
        if self.no_mask:
            return f"The file's own mask is not used: {self.no_mask}."
        return "" if self.mask is None else f"The file's own mask is used: {self.mask_source}."

    def unmarked(self) -> FileFacts:
        """Return the facts without what they say of invalid pixels."""
        return replace(
            self, invalid_values=None, mask=None, mask_source="", no_mask="", leaves_marks_away=True
        )

    def of_next_frame(self, facts: FileFacts) -> FileFacts:
        """Return what the header of another frame of the same file says, as far as it was wanted of this one's."""
        return facts.unmarked() if self.leaves_marks_away else facts

    def marked(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels in which those that the file says are no counts have a value that says so in any file.

        That is done where a frame is read, so that it means the same from the command line as live: see
        `dvfb_stream.frames.marker`.

        Parameters
        ----------
        pixels
            (rows, columns), just read: written to, if that can be. A mask of another shape is left out of account.
        """
        if pixels.dtype.kind == "b":
            return pixels
        places = []
        if self.mask is not None and self.mask.shape == pixels.shape:
            places.append(self._masked)
        if self.invalid_values is not None:
            valid = declared_pixels(pixels.dtype, self.invalid_values).valid(pixels)
            places.append(np.flatnonzero(~valid))
        if not any(some.size for some in places):
            return pixels
        marked = np.require(pixels, requirements=["C", "W"])
        for some in places:
            marked.reshape(-1)[some] = marker(pixels.dtype)
        return marked


NO_FACTS = FileFacts()
"""Of a file that holds pixels alone."""
