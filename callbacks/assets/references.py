"""What it takes to read one frame: a small object that documents leave behind, and that is read later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError

KINDS = "buif"
"""NumPy's kinds of numbers: boolean, unsigned, signed, floating."""

WIDEST_ITEM = 8
"""Bytes of the widest type of pixel: extended floats are no detector's, and torch has none."""

LARGEST_FRAME = 1 << 30
"""Bytes: a file of a kilobyte may claim any shape. Sixteen times a detector of 16 megapixels, 4 bytes each."""


class NotThereYetError(FrameError):
    """The frame cannot be read now, but may be later: its file is late, or has not grown as far."""


class Files(Protocol):
    """What opens files and reads frames from them; `FrameFiles` does, in this process.

    Called by one thread at a time, but for `open_files`. Each frame is read for a raw run, whose uid is given: what
    is open for one run alone is closed by `release`, and a file that another run speaks of is opened anew.

    All that read raise `NotThereYetError` where the frame may be there later, and `FrameError` where it never will:
    when it is not what is expected, which is found out before it is read where that can be.
    """

    @property
    def open_files(self) -> int:
        """Files open now; never waits for a read."""
        ...

    def hdf5(self, path: str, dataset: str, number: int, expected: Expected, run: str) -> NDArray[Any]:
        """Return frame `number`, from 0, of a dataset (rows, columns), (N, rows, columns), (N, n, rows, columns)."""
        ...

    def image(self, path: str, page: int, expected: Expected, run: str) -> NDArray[Any]:
        """Return frame `page`, from 0, of an image file: TIFF, NPY, CBF, EDF."""
        ...

    def handled(
        self,
        spec: str,
        path: str,
        resource: Mapping[str, Any],
        datum: Mapping[str, Any],
        position: int,
        expected: Expected,
        run: str,
    ) -> NDArray[Any]:
        """Return frame `position`, from 0, of a datum, by the handler registered for `spec`.

        The handler is made of the path and the resource's kwargs, and called with the datum's.
        """
        ...

    def release(self, run: str) -> None:
        """Close what is open for a run: it has ended."""
        ...

    def close(self) -> None:
        """Close all files; nothing is read any more."""
        ...


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
class Expected:
    """What a descriptor promises of each frame of a data key."""

    shape: tuple[int, int] | None
    """(rows, columns); None: not said."""
    dtype: np.dtype[Any] | None
    """None: not said."""

    def check_promise(self, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
        """See to it that pixels of that shape and type, in `where`, are as promised, before they are read.

        Raises
        ------
        FrameError
            When shape or type are others, in whichever byte order, or they are no image.
        """
        if dtype.kind not in KINDS or dtype.itemsize > WIDEST_ITEM:
            raise FrameError(
                f"{where} holds values of the type {dtype.name}; a frame's pixels are integers or real numbers, of "
                f"at most {WIDEST_ITEM} bytes"
            )
        if len(shape) != 2 or 0 in shape:
            raise FrameError(f"{where} has the shape {shape}, which is no image")
        if self.shape is not None and shape != self.shape:
            raise FrameError(
                f"{where} has the shape {shape}, but the descriptor says {self.shape}: it is the file of "
                "another detector, or the detector was set up anew without a new descriptor"
            )
        if shape[0] * shape[1] * dtype.itemsize > LARGEST_FRAME:
            raise FrameError(f"{where} has the shape {shape}, which is more than any detector's")
        if self.dtype is not None and dtype.newbyteorder("=") != self.dtype.newbyteorder("="):
            raise FrameError(f"{where} holds {dtype.name}, but the descriptor says {self.dtype.name}")

    def check(self, pixels: NDArray[Any], where: str) -> NDArray[Any]:
        """Return `pixels`, read from `where`, in the machine's byte order, if they are as promised.

        Raises
        ------
        FrameError
            As `check_promise` does.
        """
        self.check_promise(pixels.shape, pixels.dtype, where)
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


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
