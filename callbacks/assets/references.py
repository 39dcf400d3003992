"""What it takes to read one frame: a small object that documents leave behind, and that is read later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from dvfb_stream.errors import FrameError
from dvfb_stream.files.expected import Expected
from dvfb_stream.files.interface import Files


class PixelReference(Protocol):
    """Says where the pixels of one frame lie."""

    @property
    def file(self) -> str:
        """What it is read from; frames of one file are read in order."""
        ...

    def read(self, files: Files, run: str) -> NDArray[Any]:
        """Return the pixels, (rows, columns), safe from anybody else's writing, for the raw run with that uid.

        Raises
        ------
        NotThereYetError
            When they may be there later.
        FrameError
            When they never will.
        """
        ...


@dataclass(frozen=True, slots=True)
class Hdf5Frame:
    """A frame of an HDF5 dataset: (rows, columns), (N, rows, columns) or (N, n, rows, columns)."""

    file: str
    dataset: str
    number: int
    """From 0, counted through points and the frames of each."""
    expected: Expected

    def read(self, files: Files, run: str) -> NDArray[Any]:
        """See `PixelReference`."""
        return files.hdf5(self.file, self.dataset, self.number, self.expected, run)


@dataclass(frozen=True, slots=True)
class ImageFrame:
    """A frame of an image file: TIFF, NPY, CBF, EDF."""

    file: str
    page: int
    """Of the file's frames, from 0."""
    expected: Expected

    def read(self, files: Files, run: str) -> NDArray[Any]:
        """See `PixelReference`."""
        return files.image(self.file, self.page, self.expected, run)


@dataclass(frozen=True, slots=True)
class NoFrame:
    """A frame whose documents say something that cannot be read."""

    file: str
    reason: str

    def read(self, files: Files, run: str) -> NDArray[Any]:
        """Raise FrameError."""
        raise FrameError(self.reason)
