"""Frames of what fabio reads, with what fabio lets pass for whole turned into errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError, NotThereYetError
from dvfb_stream.files.damage import telling_damage
from dvfb_stream.files.file_facts import NO_FACTS
from dvfb_stream.files.header_facts import edf_facts
from dvfb_stream.files.references import ANYTHING, Expected

MOST_KEPT_BYTES = 64 * 2**20
"""fabio keeps every frame of a multi-frame EDF once it was read; past this the file is opened anew."""

EDF_PACKINGS = ("NO", "GZIP", "BZIP2", "ZLIB")
"""How ``Compression`` of an EDF header begins; fabio takes an unknown one for none."""


class FabioFrames:
    """Frames of a file, one or several, opened by fabio.

    Parameters
    ----------
    path
        Of the file.
    content
        What is in it, where it was compressed as a whole.

    Raises
    ------
    NotThereYetError
        When fabio cannot read it: it is damaged, not all written, or of an unknown kind.
    MissingExtraError
        When fabio is not installed.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self._path = path
        self._content = content
        self.facts = NO_FACTS
        self._image = self._opened()
        if isinstance(self._image, _edf_image()):
            self.facts = edf_facts(self._image.header)
        self._kept_bytes = 0
        self.count: int = self._image.nframes

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        """See `FrameFile`."""
        if self._kept_bytes > MOST_KEPT_BYTES:
            self.close()
            self._image, self._kept_bytes = self._opened(), 0
        where = str(self._path) if self.count == 1 else f"{self._path} frame {index}"
        with telling_damage(where, logs="fabio"):
            frame = self._image if self.count == 1 else self._image.getframe(index)
            if isinstance(self._image, _edf_image()):
                _check_edf_header(frame, expected, where)
                self.facts = self.facts.of_next_frame(edf_facts(frame.header))
            pixels = frame.data
        if pixels is None:
            raise FrameError(
                f"{where} cannot be decoded; convert it to an uncompressed tif or an HDF5 dataset"
            )
        pixels = expected.check(np.asarray(pixels), where)
        self._kept_bytes += pixels.nbytes
        return self.facts.marked(pixels)

    def close(self) -> None:
        """Close the file."""
        self._image.close()

    def _opened(self) -> Any:
        try:
            import fabio
            from fabio.fabioutils import BytesIO
        except ImportError:
            raise MissingExtraError("fabio", "files") from None
        with telling_damage(self._path, logs="fabio"):
            image = fabio.open(str(self._path) if self._content is None else BytesIO(self._content))
            if image.nframes < 1:
                raise NotThereYetError(f"{self._path} holds no frames")
        return image


def _edf_image() -> type[Any]:
    from fabio.edfimage import EdfImage

    return EdfImage  # type: ignore[no-any-return]


def _check_edf_header(frame: Any, expected: Expected, where: str) -> None:
    """See to it that fabio need not guess, nor allocate what a header of a few bytes claims."""
    header = {key.upper(): str(value) for key, value in frame.header.items()}
    if "DATATYPE" not in header:
        raise NotThereYetError(f"{where} is damaged: its header says no DataType")
    packing = header.get("COMPRESSION", "NONE").upper()
    if not packing.startswith(EDF_PACKINGS):
        raise FrameError(f"{where} is compressed by {packing!r}; only {', '.join(EDF_PACKINGS[1:])} are read")
    expected.check_promise(tuple(frame.shape), np.dtype(frame.dtype), where)
