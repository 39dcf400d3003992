"""Mask files of the field, where 1 means masked, as the validity masks of this project, where True means valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.files.reading import DATASET_SEPARATOR, open_frames

TEXT_SUFFIXES = frozenset({".txt", ".csv", ".dat", ".asc"})

CONVENTION = "in a mask file 0 (False) means valid and 1 (True, or any other number) means masked"

MOST_KINDS = 8
"""Different values other than 0, in a mask of more than 8 bits. NeXus numbers six reasons why a pixel is masked, and
adds them up where there are two; a frame holds more values than that."""


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Return a mask file as a boolean array with True = valid.

    In the file 0 means valid and any other number means masked: the convention of pyFAI, silx, Fit2D and NeXus, kept
    for every format, boolean ones included (there True means masked).

    Parameters
    ----------
    path
        ``.npy``; text (``.txt .csv .dat .asc``: a line a row, numbers separated by blanks or commas, ``#`` comments);
        any image that `open_frames` reads (tif of 1 bit or more, png, edf, Fit2D's msk); or ``file.h5::/path``, of
        shape (rows, columns) or (1, rows, columns): a NeXus or DECTRIS ``pixel_mask``.

    Raises
    ------
    GeometryError
        When there is no such file, it is no mask (not two-dimensional, not whole numbers, or with more different
        values than `MOST_KINDS` where 8 bits would not do), or it masks every pixel.
    MissingExtraError
        When an image or HDF5 file needs packages of the extra ``files``.
    """
    spec = str(path)
    values = _values(spec)
    if values.ndim != 2 or values.size == 0:
        raise GeometryError(f"mask {spec} has shape {values.shape}, not (rows, columns)")
    masked = values != 0
    _check_values(spec, values, masked)
    if masked.all():
        raise GeometryError(f"mask {spec} masks every pixel; {CONVENTION}")
    return np.asarray(~masked)


def _values(spec: str) -> NDArray[Any]:
    if DATASET_SEPARATOR not in spec and Path(spec).suffix.lower() in TEXT_SUFFIXES and Path(spec).is_file():
        try:
            return _text(Path(spec))
        except OSError as error:
            raise GeometryError(f"mask {spec} cannot be opened: {error.strerror or error}") from error
    try:
        # What a detector declares of its counts holds for frames: an underload would mark every 0 of its mask.
        with open_frames(spec, file_mask=False) as frames:
            if frames.count != 1:
                raise GeometryError(f"mask {spec} holds {frames.count} images; a mask is one")
            return frames.read(0)
    except FrameError as error:
        raise GeometryError(f"mask {error}") from error


def _text(path: Path) -> NDArray[Any]:
    try:
        with path.open("r", encoding="utf-8-sig") as stream:
            first = next((line for line in stream if line.partition("#")[0].strip()), "")
            stream.seek(0)
            if not first:
                raise GeometryError(f"mask {path} is empty")
            return np.loadtxt(stream, delimiter="," if "," in first else None, ndmin=2)
    except ValueError as error:  # UnicodeDecodeError is one
        reason = str(error).partition(";")[0]
        raise GeometryError(f"mask {path} is not a table of numbers with a line a row ({reason})") from error


def _check_values(spec: str, values: NDArray[Any], masked: NDArray[np.bool_]) -> None:
    """Refuse what is a picture rather than a mask; 8-bit files may number several masks, as silx's do."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise GeometryError(f"mask {spec} has values that are not finite; {CONVENTION}")
    if values.dtype.itemsize == 1 or not masked.any():
        return
    others = np.unique(values[masked])
    if others.size == 1:
        return
    if others.size > MOST_KINDS or (others != np.trunc(others)).any() or 2 * masked.sum() > masked.size:
        raise GeometryError(
            f"mask {spec} has {others.size} different values besides 0, from {others[0]} to {others[-1]}, in "
            f"{masked.sum()} of {masked.size} pixels: it looks like a frame, not a mask; {CONVENTION}"
        )
