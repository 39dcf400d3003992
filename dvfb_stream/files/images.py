"""Image files: NPY, CBF, and what fabio reads, with what fabio lets pass for whole turned into errors."""

from __future__ import annotations

import logging
import math
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dvfb_stream.errors import DvfbError, FrameError, MissingExtraError, NotThereYetError
from dvfb_stream.files.cbf import is_cbf, read_cbf
from dvfb_stream.files.checks import regular_file
from dvfb_stream.files.file_facts import NO_FACTS, FileFacts
from dvfb_stream.files.references import ANYTHING, Expected, ImageFrame

JPEG_MAGIC = b"\xff\xd8\xff"

MOST_KEPT_BYTES = 64 * 2**20
"""fabio keeps every frame of a multi-frame EDF once it was read; past this the file is opened anew."""

SAMPLES_PER_PIXEL = 277
"""Tag, TIFF 6.0: 1 where a pixel is one number, 3 where it is a colour."""

MOST_IMAGES = 100_000
"""Longer chains of a TIFF are refused: fabio opens every directory before the first image is read."""

NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""By version of the format; the third is for names of fields, which no frames have."""


class FrameFile(Protocol):
    """An open file of frames; frames are read one at a time, in any order."""

    count: int
    """Number of frames, known without reading them."""
    facts: FileFacts
    """What the file says besides."""

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        """Return frame `index`, from 0, as a (rows, columns) array of integers or real numbers.

        Raises
        ------
        FrameError
            When this frame is damaged, not there, not as expected or no image; others may still be read.
        """
        ...


def read_image(frame: ImageFrame) -> NDArray[Any]:
    """Return a frame of an image file; raises as `FrameReader.read`."""
    regular_file(frame.path)
    with open_image(Path(frame.path)) as file:
        if frame.page >= file.count:
            raise NotThereYetError(f"{frame.path} has {file.count} frames, none with number {frame.page}")
        return file.read(frame.page, frame.expected)


@contextmanager
def open_image(path: Path) -> Iterator[FrameFile]:
    """Open an image file: the one place that knows which format is read by what.

    A file that is half written looks damaged: `NotThereYetError` says both.
    """
    with _telling_damage(path), path.open("rb") as file:
        magic = file.read(len(npy.MAGIC_PREFIX))
    if magic == npy.MAGIC_PREFIX or path.suffix == ".npy":
        yield _Npy(path)
        return
    if magic.startswith(JPEG_MAGIC):
        raise FrameError(f"{path} is a JPEG picture, which has lost the counts; give the detector's own file")
    if is_cbf(path):
        yield _Single(path, read_cbf(path))
        return
    _check_tiff_directories(path)
    image = _opened_by_fabio(path)
    if image.nframes > 1:
        several = _Several(path, image)
        try:
            yield several
        finally:
            several.close()
        return
    try:
        with _telling_damage(path):
            pixels = image.data
    finally:
        image.close()
    yield _Single(path, pixels)


class _Single:
    """The one frame of a file that was read whole."""

    count = 1

    def __init__(self, path: Path, pixels: NDArray[Any] | None, facts: FileFacts = NO_FACTS) -> None:
        self._path = path
        self.facts = facts
        self._pixels = pixels

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        return _decoded(self._pixels, expected, str(self._path))


class _Several:
    """Frames of a multi-frame file, opened by fabio."""

    def __init__(self, path: Path, image: Any) -> None:
        self._path = path
        self._image = image
        self._kept_bytes = 0
        self.facts = NO_FACTS
        self.count: int = image.nframes

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        if self._kept_bytes > MOST_KEPT_BYTES:
            self.close()
            self._image, self._kept_bytes = _opened_by_fabio(self._path), 0
        where = f"{self._path} frame {index}"
        with _telling_damage(where):
            pixels = self._image.getframe(index).data
        frame = _decoded(pixels, expected, where)
        self._kept_bytes += frame.nbytes
        return frame

    def close(self) -> None:
        self._image.close()


class _Npy:
    """Frames of an NPY file, read one at a time, for a stack may be larger than memory; pickles are not loaded.

    Not by memory maps: a file that is cut off while it is mapped ends the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.facts = NO_FACTS
        with _telling_damage(path), path.open("rb") as file:
            version = npy.read_magic(file)
            if version not in NPY_HEADERS:
                raise NotThereYetError(f"{path} cannot be read: it is NPY of the version {version}")
            self._shape, self._is_fortran, self._dtype = NPY_HEADERS[version](file)
            self._start = file.tell()
        self.count: int = math.prod(self._shape[:-2])

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        where, shape = str(self._path) if self.count == 1 else f"{self._path} frame {index}", self._shape[-2:]
        expected.check_promise(shape, self._dtype, where)
        size = math.prod(shape) * self._dtype.itemsize
        with _telling_damage(where), self._path.open("rb") as file:
            missing = self._start + self.count * size - os.fstat(file.fileno()).st_size
            if missing > 0:
                raise NotThereYetError(
                    f"{self._path} is not whole: {missing} bytes of its frames are missing"
                )
            if self._is_fortran and self.count > 1:
                # Each frame is spread over the whole file.
                file.seek(self._start)
                stack = np.fromfile(file, self._dtype, math.prod(self._shape))
                pixels = stack.reshape(self._shape, order="F").reshape(-1, *shape)[index]
            else:
                file.seek(self._start + index * size)
                flat = np.fromfile(file, self._dtype, math.prod(shape))
                pixels = flat.reshape(shape, order="F" if self._is_fortran else "C")
        return expected.check(pixels, where)


def _decoded(pixels: NDArray[Any] | None, expected: Expected, where: str) -> NDArray[Any]:
    if pixels is None:
        raise FrameError(f"{where} cannot be decoded; convert it to an uncompressed tif or an HDF5 dataset")
    return expected.check(np.asarray(pixels), where)


def _check_tiff_directories(path: Path) -> None:
    """Follow the images of a TIFF; do nothing for other files (BigTIFF included, which ends by itself).

    fabio follows a circle of images for ever, and greys coloured ones.

    Raises
    ------
    NotThereYetError
        When the chain leads back into itself, out of the file, or past `MOST_IMAGES`.
    FrameError
        When an image is coloured.
    """
    with _telling_damage(path), path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8 or head[:4] not in (b"II*\x00", b"MM\x00*"):
            return
        order = "<" if head[:2] == b"II" else ">"
        seen: set[int] = set()
        (offset,) = struct.unpack(order + "I", head[4:])
        while offset:
            if offset in seen or len(seen) >= MOST_IMAGES:
                raise NotThereYetError(f"{path} is damaged: its chain of images has no end")
            seen.add(offset)
            file.seek(offset)
            number = file.read(2)
            length = 12 * struct.unpack(order + "H", number)[0] + 4 if len(number) == 2 else 4
            directory = file.read(length)
            if len(directory) < length:
                raise NotThereYetError(
                    f"{path} is incomplete: the description of image {len(seen) - 1} is not all there"
                )
            for tag, _, _, value in struct.iter_unpack(order + "HHIH2x", directory[:-4]):
                if tag == SAMPLES_PER_PIXEL and value != 1:
                    raise FrameError(f"{path} has {value} colours a pixel; colour images are not frames")
            (offset,) = struct.unpack(order + "I", directory[-4:])


def _opened_by_fabio(path: Path) -> Any:
    try:
        import fabio
    except ImportError:
        raise MissingExtraError("fabio", "files") from None
    with _telling_damage(path):
        image = fabio.open(str(path))
        if image.nframes < 1:
            raise NotThereYetError(f"{path} holds no frames")
    return image


@contextmanager
def _telling_damage(where: object) -> Iterator[None]:
    """Turn whatever a reader raises, and the errors that fabio only logs, into one NotThereYetError.

    fabio logs an error and goes on when an EDF ends early (the rest becomes zeros) or no TIFF reader succeeds.
    """
    complaints = _Complaints()
    logger = logging.getLogger("fabio")
    logger.addHandler(complaints)
    try:
        yield
    except DvfbError:
        raise
    except Exception as error:
        reason = complaints.first or str(error).strip().partition("\n")[0] or type(error).__name__
        raise NotThereYetError(
            f"{where} cannot be read: it is no detector image, or it is damaged or incomplete ({reason})"
        ) from error
    finally:
        logger.removeHandler(complaints)
    if complaints.first:
        raise NotThereYetError(f"{where} is damaged or incomplete ({complaints.first})")


class _Complaints(logging.Handler):
    """Keeps the first error that fabio logs in this thread."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self._thread = threading.get_ident()
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        if record.thread == self._thread and not self.first:
            self.first = record.getMessage().partition("\n")[0]
