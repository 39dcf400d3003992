"""Where the pixels of a frame lie, as plain data, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dvfb_stream.errors import FrameError
from dvfb_stream.files.checks import WIDEST_ITEM
from dvfb_stream.frames import NUMBER_KINDS

LARGEST_FRAME = 1 << 30
"""Bytes: a file of a kilobyte may claim any shape. Sixteen times a detector of 16 megapixels, 4 bytes each."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a descriptor says of each frame of a data key. Where a file has something else, the file is right."""

    shape: tuple[int, int] | None = None
    """(rows, columns); None: not said."""
    dtype: np.dtype[Any] | None = None
    """None: not said."""

    def check_promise(self, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
        """See to it that pixels of that shape and type, in `where`, can be a frame, before they are read.

        Raises
        ------
        FrameError
            When they are no image.
        """
        if dtype.kind not in NUMBER_KINDS or dtype.itemsize > WIDEST_ITEM:
            raise FrameError(
                f"{where} holds values of the type {dtype.name}; a frame's pixels are integers or real numbers, of "
                f"at most {WIDEST_ITEM} bytes"
            )
        if len(shape) != 2 or 0 in shape:
            colours = "; colour images are not frames" if len(shape) > 2 else ""
            raise FrameError(f"{where} has the shape {shape}, which is no image{colours}")
        if shape[0] * shape[1] * dtype.itemsize > LARGEST_FRAME:
            raise FrameError(f"{where} has the shape {shape}, which is more than any detector's")

    def check(self, pixels: NDArray[Any], where: str) -> NDArray[Any]:
        """Return `pixels`, read from `where`, in the machine's byte order, if they can be a frame.

        Raises
        ------
        FrameError
            As `check_promise` does.
        """
        self.check_promise(pixels.shape, pixels.dtype, where)
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))

    def difference(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
        """Return, in a sentence, how pixels of that shape and type differ from the descriptor; empty: in nothing.

        A region that is read out, binning or a bit depth that is set after the descriptor was made are usual causes.
        """
        said = []
        if self.shape is not None and shape != self.shape:
            said.append(f"the shape {shape}, where the descriptor says {self.shape}")
        if self.dtype is not None and dtype.newbyteorder("=") != self.dtype.newbyteorder("="):
            said.append(f"the type {dtype.name}, where the descriptor says {self.dtype.name}")
        return f"The pixels have {' and '.join(said)}." if said else ""


ANYTHING = Expected()
"""Nothing is promised."""

Remark = Callable[[str], None]
"""Called with what is to stand beside the label of a frame: whole sentences."""


def unheard(remark: str) -> None:
    """Take a remark that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Hdf5Frame:
    """A frame of an HDF5 dataset: (rows, columns), (N, rows, columns) or (N, n, rows, columns)."""

    path: str
    dataset: str
    """Or a group, for the stack in it, or "" for the file's only one."""
    number: int
    """From 0, counted through points and the frames of each."""
    expected: Expected = ANYTHING
    each: int | None = None
    """Frames of a point, as documents have it; None: as the dataset has it."""


@dataclass(frozen=True, slots=True)
class ImageFrame:
    """A frame of an image file: TIFF, NPY, CBF, EDF."""

    path: str
    page: int = 0
    """Of the file's frames, from 0."""
    expected: Expected = ANYTHING


@dataclass(frozen=True, slots=True)
class HandledFrame:
    """A frame of a datum that only the handler registered for `spec` can read.

    The handler is made of the path and the resource's kwargs, and called with the datum's.
    """

    spec: str
    path: str
    resource: Mapping[str, Any]
    datum: Mapping[str, Any]
    position: int = 0
    """Among the frames of the datum, from 0."""
    expected: Expected = ANYTHING
    count: int | None = None
    """Frames of the datum, as documents have it; None: they do not say."""


FrameReference = Hdf5Frame | ImageFrame | HandledFrame

_KINDS: dict[str, type[FrameReference]] = {
    kind.__name__: kind for kind in (Hdf5Frame, ImageFrame, HandledFrame)
}


def as_json(reference: FrameReference) -> dict[str, Any]:
    """Return a reference as JSON, for another process; numbers of NumPy's are left to whoever writes it down."""
    content = {field.name: getattr(reference, field.name) for field in fields(reference)}
    shape, dtype = reference.expected.shape, reference.expected.dtype
    expected = {"shape": shape, "dtype": None if dtype is None else dtype.str}
    return content | {"kind": type(reference).__name__, "expected": expected}


def from_json(content: Mapping[str, Any]) -> FrameReference:
    """Return the reference that `as_json` has written down."""
    given = dict(content)
    kind, expected = _KINDS[given.pop("kind")], given.pop("expected")
    shape, dtype = expected["shape"], expected["dtype"]
    return replace(
        kind(**given),
        expected=Expected(
            None if shape is None else (shape[0], shape[1]), None if dtype is None else np.dtype(dtype)
        ),
    )


class FrameReader(Protocol):
    """What opens files and reads frames from them; `FrameFiles` does, in this process.

    Called by one thread at a time, but for `open_files`. Each frame is read for a raw run, whose uid is given: what
    is open for one run alone is closed by `release`, and a file that another run speaks of is opened anew.
    """

    @property
    def open_files(self) -> int:
        """Files open now; never waits for a read."""
        ...

    def read(self, reference: FrameReference, run: str, remark: Remark = unheard) -> NDArray[Any]:
        """Return the pixels, (rows, columns), safe from anybody else's writing, for the raw run with that uid.

        `remark` is called where file and documents disagree in more than shape and type, which whoever asks sees.

        Raises
        ------
        NotThereYetError
            When they may be there later: file, dataset or frame is not there, or cannot be read; it may be being
            written.
        FrameError
            When they never will: they are no image, which is found out before they are read where that can be; or
            their file is no regular file.
        """
        ...

    def release(self, run: str) -> None:
        """Close what is open for a run alone: it has ended."""
        ...

    def close(self) -> None:
        """Close all files; nothing is read any more."""
        ...


class FrameAllocator(Protocol):
    """Where frames are read to; a `dvfb_stream.isolation.frame_memory.FrameMemory` is one."""

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any values, in C order and the machine's byte order."""
        ...
