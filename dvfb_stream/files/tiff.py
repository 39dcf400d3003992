"""Frames of TIFF files, as tifffile decodes them: any byte order and compression, BigTIFF, ImageJ's stacks."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError, NotThereYetError
from dvfb_stream.files.damage import telling_damage
from dvfb_stream.files.declared_centre import MARCCD_BYTES, with_marccd_centre
from dvfb_stream.files.file_facts import NO_FACTS, FileFacts
from dvfb_stream.files.header_facts import pilatus_facts
from dvfb_stream.files.references import ANYTHING, Expected
from dvfb_stream.files.tiff_directories import frame_directories

SAMPLE_FORMAT = 339
"""Tag, TIFF 6.0: whether a pixel is unsigned, signed or real."""

GREYS = {0: "white is zero", 1: "black is zero", 34892: "linear raw"}
"""PhotometricInterpretation of what is one number a pixel, however it is to be shown. Numbers are read as stored."""

COLOURS = {2: "RGB", 3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "CIELab", 32803: "a colour filter"}
"""PhotometricInterpretation of what is no count."""

LOSSY = {6: "JPEG", 7: "JPEG", 34892: "lossy JPEG"}
"""Compressions that change the counts."""

PILATUS_HEADER = "# Pixel_size"
"""How the description of an image begins that a Pilatus wrote."""

VENDORS_STACKS = {33628: "MetaMorph", 34412: "Zeiss", 43314: "NIH Image"}
"""Tags of those whose first directory stands for images that no directory describes."""


class TiffFrames:
    """Frames of a TIFF: each of its directories one, or each image of an ImageJ stack, which has one directory.

    Parameters
    ----------
    path
        For messages.
    file
        Open for reading; closed by who opened it.

    Raises
    ------
    NotThereYetError
        When the file is damaged, or not all written.
    FrameError
        When it is a stack of a kind that is not known here.
    MissingExtraError
        When tifffile is not installed.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        try:
            import tifffile
        except ImportError as error:
            raise MissingExtraError(error.name or "tifffile", "files") from None
        self._path = path
        self._file = file
        self.facts = NO_FACTS
        with telling_damage(path):
            self._directories = frame_directories(path, file) or [0]
            self._bytes = file.seek(0, 2)
            file.seek(0)
            head = file.read(MARCCD_BYTES)
            file.seek(0)
            self._tiff = tifffile.TiffFile(file)
            vendor = next(
                (name for tag, name in VENDORS_STACKS.items() if tag in self._tiff.pages.first.tags), ""
            )
            if vendor:
                raise FrameError(f"{path} is a stack of {vendor}'s own kind; save it as an ordinary TIFF")
            self._images = self._images_in_one_directory()
            self._of_first = with_marccd_centre(pilatus_facts(str(self._tiff.pages.first.description)), head)
            self.facts = self._of_first
        self.count: int = self._images if self._images > 1 else len(self._directories)

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        """See `FrameFile`."""
        where = str(self._path) if self.count == 1 else f"{self._path} frame {index}"
        with telling_damage(where):
            page = self._tiff.pages.get(0 if self._images > 1 else self._directories[index])
            self.facts = self.facts.of_next_frame(self._facts_of(page))
            _refuse_what_is_no_frame(page, where)
            dtype = np.dtype(page.dtype)
            expected.check_promise(page.shape, dtype, where)
            self._require_all_there(page, where)
            if page.is_final:
                offset = page.dataoffsets[0] + (index * page.nbytes if self._images > 1 else 0)
                pixels = self._stored(offset, page.shape, dtype.newbyteorder(page.parent.byteorder), where)
            else:
                # More threads than one cost more than they save, and the annotator wants the processors.
                pixels = page.asarray(maxworkers=1)
            if _is_signed_without_saying_so(page):
                pixels = pixels.view(pixels.dtype.str.replace("u", "i"))
        return self.facts.marked(expected.check(pixels, where))

    def _facts_of(self, page: Any) -> FileFacts:
        """Return what an image's own header says; that of the first holds for those that have none."""
        own = str(page.description) if page.index else ""
        return pilatus_facts(own) if own.startswith(PILATUS_HEADER) else self._of_first

    def _images_in_one_directory(self) -> int:
        """Return how many images the first directory stands for, when there is no other.

        ImageJ describes a stack that is larger than 4 GB, or not compressed, once; tifffile does so on request.
        """
        page = self._tiff.pages.first
        if len(self._directories) > 1 or not page.is_final:
            return 1
        images = 1
        if page.is_imagej:
            told = self._tiff.imagej_metadata or {}
            axes = math.prod(int(told.get(axis, 1)) for axis in ("channels", "slices", "frames"))
            images = axes if axes > 1 else int(told.get("images", 1))
        elif page.is_shaped:
            with suppress(ValueError, KeyError, TypeError):
                shape = self._tiff.shaped_metadata[0]["shape"]  # type: ignore[index]
                images, rest = divmod(math.prod(shape), math.prod(page.shape))
                images = 1 if rest else images
        missing = page.dataoffsets[0] + images * page.nbytes - self._bytes
        if images > 1 and missing > 0:
            raise NotThereYetError(
                f"{self._path} is not whole: it says that it has {images} images, and {missing} bytes are missing"
            )
        return images

    def _require_all_there(self, page: Any, where: str) -> None:
        """Raise NotThereYetError unless every strip or tile is in the file; tifffile makes zeros of the others."""
        parts, places, sizes = math.prod(page.chunked), page.dataoffsets, page.databytecounts
        if len(places) < parts or len(sizes) < parts:
            raise NotThereYetError(f"{where} is damaged: {len(places)} of its {parts} strips are described")
        written = [size for place, size in zip(places, sizes, strict=False) if place and size]
        if len(written) < parts:
            raise NotThereYetError(f"{where} is not there: {len(written)} of its {parts} strips are written")
        end = max(place + size for place, size in zip(places, sizes, strict=False))
        if end > self._bytes:
            raise NotThereYetError(
                f"{where} is not whole: it ends at byte {end}, the file at byte {self._bytes}"
            )

    def _stored(self, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
        pixels = np.empty(shape, dtype)
        self._file.seek(offset)
        found = self._file.readinto(pixels.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        if found < pixels.nbytes:
            raise NotThereYetError(f"{where} is not whole: {pixels.nbytes - found} of its bytes are missing")
        return pixels


def _refuse_what_is_no_frame(page: Any, where: str) -> None:
    if page.photometric not in GREYS or page.samplesperpixel != 1:
        colours = COLOURS.get(int(page.photometric), f"photometric interpretation {int(page.photometric)}")
        if page.photometric in GREYS:
            colours = f"{page.samplesperpixel} numbers a pixel"
        raise FrameError(f"{where} is a picture in colours ({colours}); colour images are not frames")
    if page.compression in LOSSY:
        raise FrameError(
            f"{where} is compressed as {LOSSY[page.compression]}, which has lost the counts; give the detector's own "
            "file"
        )
    if page.imagedepth != 1:
        raise FrameError(f"{where} is a volume of {page.imagedepth} images; save them as a stack of images")
    if page.dtype is None:
        raise FrameError(
            f"{where} has pixels of {page.bitspersample} bits, sample format {int(page.sampleformat)}, which are not "
            "read"
        )


def _is_signed_without_saying_so(page: Any) -> bool:
    """Whether it is of an old Pilatus, which wrote signed numbers, -1 and -2 among them, and no SampleFormat."""
    return (
        page.bitspersample == 32
        and SAMPLE_FORMAT not in page.tags
        and str(page.software).startswith("TVX TIFF")
        and page.description.startswith(PILATUS_HEADER)
    )
