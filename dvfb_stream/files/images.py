"""Image files, by what reads them: NPY, CBF, TIFF and PNG here, all others by fabio."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from numpy.typing import NDArray

from dvfb_stream.errors import NotThereYetError
from dvfb_stream.files import cbf, npy, tiff_directories
from dvfb_stream.files.allowed_roots import EVERYWHERE, AllowedRoots
from dvfb_stream.files.damage import telling_damage
from dvfb_stream.files.fabio_images import FabioFrames
from dvfb_stream.files.file_facts import NO_FACTS, FileFacts
from dvfb_stream.files.npy import NpyFrames
from dvfb_stream.files.pictures import PNG_MAGIC, read_png, refuse_pictures
from dvfb_stream.files.references import ANYTHING, Expected, ImageFrame
from dvfb_stream.files.tiff import TiffFrames
from dvfb_stream.files.unpacked import content_of_packed

HEAD_BYTES = 16
"""Enough to tell the formats apart."""


class FrameFile(Protocol):
    """An open file of frames; frames are read one at a time, in any order."""

    count: int
    """Number of frames, known without reading them."""
    facts: FileFacts
    """What the file says besides: where each frame has a header, that of the one read last, at first of the first."""

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        """Return frame `index`, from 0, as a (rows, columns) array of integers or real numbers.

        Raises
        ------
        FrameError
            When this frame is damaged, not there, not as expected or no image; others may still be read.
        """
        ...


def read_image(
    frame: ImageFrame, *, file_mask: bool = True, allowed: AllowedRoots = EVERYWHERE
) -> NDArray[Any]:
    """Return a frame of an image file, `file_mask` as in `open_frames`; raises as `FrameReader.read`.

    `allowed` says which files may be opened.
    """
    allowed.regular_file(frame.path)
    with open_image(Path(frame.path), allowed) as file:
        if frame.page >= file.count:
            raise NotThereYetError(f"{frame.path} has {file.count} frames, none with number {frame.page}")
        if not file_mask:
            file.facts = file.facts.unmarked()
        return file.read(frame.page, frame.expected)


@contextmanager
def open_image(path: Path, allowed: AllowedRoots = EVERYWHERE) -> Iterator[FrameFile]:
    """Open an image file, which must be `allowed`.

    A file that is half written looks damaged: `NotThereYetError` says both.
    """
    with ExitStack() as opened:
        with telling_damage(path):
            frames = _opened(path, opened, allowed)
        yield frames


def _opened(path: Path, opened: ExitStack, allowed: AllowedRoots) -> FrameFile:
    """Return a file's frames: the one place that knows which format is read by what."""
    file: BinaryIO = opened.enter_context(path.open("rb"))
    descriptor = file.fileno()
    allowed.check_opened(descriptor, str(path))
    content = content_of_packed(path, file)
    if content is not None:
        file = io.BytesIO(content)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if head[:4] in tiff_directories.MAGICS:
        return TiffFrames(path, file)
    if head.startswith(npy.MAGIC) or path.suffix == ".npy":
        return NpyFrames(path, file)
    refuse_pictures(path, head)
    if head.startswith(PNG_MAGIC):
        return _Single(path, read_png(path, file.read()))
    if cbf.is_cbf(path, head):
        # At once: a third of the time that a buffered file takes for a megabyte.
        content = _content(descriptor) if content is None else content
        return _Single(path, cbf.read_cbf(path, content), cbf.cbf_facts(content))
    return opened.enter_context(closing(FabioFrames(path, content)))


def _content(descriptor: int) -> bytes:
    """Return all that is in an open file, without another buffer in between."""
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(0)
        return file.readall()


class _Single:
    """The one frame of a file that was read whole."""

    count = 1

    def __init__(self, path: Path, pixels: NDArray[Any], facts: FileFacts = NO_FACTS) -> None:
        self._path = path
        self.facts = facts
        self._pixels = pixels

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        return self.facts.marked(expected.check(self._pixels, str(self._path)))
