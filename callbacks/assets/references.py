"""What it takes to read one frame: a small object that documents leave behind, and that is read later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError

if TYPE_CHECKING:
    from dvfb_stream.callbacks.assets.files import FrameFiles

KINDS = "buif"
"""NumPy's kinds of numbers: boolean, unsigned, signed, floating."""


class NotThereYetError(FrameError):
    """The frame cannot be read now, but may be later: its file is late, or has not grown as far."""


class PixelReference(Protocol):
    """Says where the pixels of one frame lie."""

    @property
    def file(self) -> str:
        """What it is read from; frames of one file are read in order."""
        ...

    def read(self, files: FrameFiles) -> NDArray[Any]:
        """Return the pixels, (rows, columns), safe from anybody else's writing.

        Raises
        ------
        NotThereYetError
            When they may be there later.
        FrameError
            When they never will.
        """
        ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What a descriptor promises of each frame of a data key."""

    shape: tuple[int, int] | None
    """(rows, columns); None: not said."""
    dtype: np.dtype[Any] | None
    """None: not said."""

    def check(self, pixels: NDArray[Any], where: str) -> NDArray[Any]:
        """Return `pixels`, read from `where`, if they are as promised.

        Raises
        ------
        FrameError
            When shape or type are others, or they are no image.
        """
        if pixels.dtype.kind not in KINDS:
            raise FrameError(f"{where} holds {pixels.dtype}, which are no numbers")
        if self.shape is not None and pixels.shape != self.shape:
            raise FrameError(
                f"{where} has the shape {pixels.shape}, but the descriptor says {self.shape}: it is the file of "
                "another detector, or the detector was set up anew without a new descriptor"
            )
        if pixels.ndim != 2:
            raise FrameError(f"{where} has the shape {pixels.shape}, which is no image")
        if self.dtype is not None and pixels.dtype != self.dtype.newbyteorder("="):
            raise FrameError(f"{where} holds {pixels.dtype}, but the descriptor says {self.dtype}")
        return pixels


@dataclass(frozen=True, slots=True)
class Hdf5Frame:
    """A frame of an HDF5 dataset: (rows, columns), (N, rows, columns) or (N, n, rows, columns)."""

    file: str
    dataset: str
    number: int
    """From 0, counted through points and the frames of each."""
    expected: Expected

    def read(self, files: FrameFiles) -> NDArray[Any]:
        """See `PixelReference`."""
        return self.expected.check(
            files.hdf5(self.file, self.dataset, self.number), f"{self.file}::{self.dataset}[{self.number}]"
        )


@dataclass(frozen=True, slots=True)
class ImageFrame:
    """A frame of an image file: TIFF, NPY, CBF, EDF."""

    file: str
    page: int
    """Of the file's frames, from 0."""
    expected: Expected

    def read(self, files: FrameFiles) -> NDArray[Any]:
        """See `PixelReference`."""
        where = self.file if self.page == 0 else f"{self.file}[{self.page}]"
        return self.expected.check(files.image(self.file, self.page), where)


@dataclass(frozen=True, slots=True)
class NoFrame:
    """A frame whose documents say something that cannot be read."""

    file: str
    reason: str

    def read(self, files: FrameFiles) -> NDArray[Any]:
        """Raise FrameError."""
        raise FrameError(self.reason)
