"""Single- and multi-frame detector images through fabio, with what fabio lets pass for whole turned into errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError
from dvfb_stream.files.cbf import is_cbf, read_cbf
from dvfb_stream.files.pixels import checked_pixels
from dvfb_stream.files.tiff import check_tiff_directories

JPEG_MAGIC = b"\xff\xd8\xff"

MOST_KEPT_BYTES = 64 * 2**20
"""fabio keeps every frame of a multi-frame EDF once it was read; past this the file is opened anew."""


class _SingleImage:
    """The one frame of a file that was read whole."""

    count = 1

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels

    def read(self, index: int) -> NDArray[Any]:
        """Return the frame."""
        if index != 0:
            raise IndexError(index)
        return self._pixels


class _Images:
    """Frames of a multi-frame file, opened by fabio."""

    def __init__(self, path: Path, image: Any) -> None:
        self._path = path
        self._image = image
        self._kept_bytes = 0
        self.count: int = image.nframes

    def read(self, index: int) -> NDArray[Any]:
        """Return frame `index`."""
        if self._kept_bytes > MOST_KEPT_BYTES:
            self.close()
            self._image, self._kept_bytes = _fabio_open(self._path), 0
        source = f"{self._path} frame {index}"
        with _refusing_complaints(source):
            pixels = self._image.getframe(index).data
        frame = checked_pixels(pixels, source)
        self._kept_bytes += frame.nbytes
        return frame

    def close(self) -> None:
        """Close the file."""
        self._image.close()


@contextmanager
def open_image(path: Path) -> Iterator[_SingleImage | _Images]:
    """Open a detector image; see `dvfb_stream.files.open_frames`."""
    if is_cbf(path):
        yield _SingleImage(checked_pixels(read_cbf(path), str(path)))
        return
    with path.open("rb") as file:
        if file.read(len(JPEG_MAGIC)) == JPEG_MAGIC:
            raise FrameError(
                f"{path} is a JPEG picture, which has lost the counts; give the detector's own file"
            )
    check_tiff_directories(path)
    image = _fabio_open(path)
    if image.nframes > 1:
        images = _Images(path, image)
        try:
            yield images
        finally:
            images.close()
        return
    try:
        with _refusing_complaints(str(path)):
            pixels = image.data
    finally:
        image.close()
    yield _SingleImage(checked_pixels(pixels, str(path)))


def _fabio_open(path: Path) -> Any:
    try:
        import fabio
    except ImportError:
        raise MissingExtraError("fabio", "files") from None
    with _refusing_complaints(str(path)):
        image = fabio.open(str(path))
        if image.nframes < 1:
            raise FrameError(f"{path} holds no frames")
    return image


@contextmanager
def _refusing_complaints(source: str) -> Iterator[None]:
    """Turn all that fabio raises, and all errors that it only logs, into one FrameError.

    fabio logs an error and goes on when an EDF ends early (the rest becomes zeros) or no TIFF reader succeeds.
    """
    complaints = _Complaints()
    logger = logging.getLogger("fabio")
    logger.addHandler(complaints)
    try:
        yield
    except (FrameError, MissingExtraError):
        raise
    except Exception as error:
        reason = complaints.first or str(error).strip().partition("\n")[0] or type(error).__name__
        raise FrameError(
            f"{source} is not a detector image that fabio can read, or it is damaged ({reason})"
        ) from error
    finally:
        logger.removeHandler(complaints)
    if complaints.first:
        raise FrameError(f"{source} is damaged or incomplete ({complaints.first})")


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
