"""Frames from any detector file by one name: a path, or ``file.h5::/path/of/dataset``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from dvfb_stream.errors import FrameError
from dvfb_stream.files.hdf5 import HDF5_SIGNATURE, HDF5_SUFFIXES, open_dataset, refuse_without_dataset
from dvfb_stream.files.image_file import open_image

DATASET_SEPARATOR = "::"
"""Between an HDF5 file and the dataset in it."""


class FrameFile(Protocol):
    """An open file of frames; frames are read one at a time, in any order."""

    @property
    def count(self) -> int:
        """Number of frames, known without reading them."""
        ...

    def read(self, index: int) -> NDArray[Any]:
        """Return frame `index` (from 0) as a (rows, columns) array of integers or real numbers.

        Raises
        ------
        FrameError
            When this frame is damaged or is not an image; others of the file may still be read.
        """
        ...


def open_frames(spec: str) -> AbstractContextManager[FrameFile]:
    """Open a file of frames; use it as ``with open_frames(spec) as file:``.

    Parameters
    ----------
    spec
        Path of a file that fabio reads (tif, cbf, edf and some thirty more, several frames a file where the
        format has them), or ``file.h5::/path`` for an HDF5 dataset of shape (rows, columns),
        (frames, rows, columns) or (frames, 1, rows, columns), compressed by any filter of hdf5plugin.

    Raises
    ------
    FrameError
        When there is no such file or dataset, or it holds no frames; the message says which datasets there are.
    MissingExtraError
        When the packages of the extra ``files`` are not installed.
    """
    path, dataset = _split(spec)
    try:
        with path.open("rb") as file:
            signature = file.read(len(HDF5_SIGNATURE))
    except FileNotFoundError:
        raise FrameError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FrameError(f"{path} is a directory; give the files in it, for example {path}/*.tif") from None
    except (OSError, ValueError) as error:
        raise FrameError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not signature:
        raise FrameError(f"{path} is empty")
    is_hdf5 = signature == HDF5_SIGNATURE
    if dataset is not None:
        if not is_hdf5:
            raise FrameError(
                f"{path} is not an HDF5 file; only those have datasets to name by {DATASET_SEPARATOR}"
            )
        return open_dataset(path, dataset)
    if is_hdf5:
        refuse_without_dataset(path)
    if path.suffix.lower() in HDF5_SUFFIXES:
        raise FrameError(f"{path} is not an HDF5 file, although its name says so; was it copied completely?")
    return open_image(path)


def read_frames(spec: str) -> Iterator[NDArray[Any]]:
    """Yield the frames of a file in order, holding one at a time; see `open_frames` for `spec` and what it raises."""
    with open_frames(spec) as file:
        for index in range(file.count):
            yield file.read(index)


def _split(spec: str) -> tuple[Path, str | None]:
    if DATASET_SEPARATOR not in spec:
        return Path(spec), None
    file, _, dataset = spec.partition(DATASET_SEPARATOR)
    if not file:
        raise FrameError(f"{spec!r} names a dataset, but no file; write file.h5::/path")
    return Path(file), dataset
