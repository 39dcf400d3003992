"""Frames from any detector file by one name: a path, or ``file.h5::/path/of/dataset``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError
from dvfb_stream.files.file_facts import NO_FACTS
from dvfb_stream.files.hdf5 import Hdf5Frames, is_stack
from dvfb_stream.files.hdf5_open_files import SIGNATURE
from dvfb_stream.files.images import FrameFile, open_image
from dvfb_stream.files.open_files_cache import KeptOpen
from dvfb_stream.files.references import ANYTHING, Expected, Hdf5Frame

DATASET_SEPARATOR = "::"
"""Between an HDF5 file and the dataset in it."""

HDF5_SUFFIXES = frozenset({".h5", ".hdf5", ".hdf", ".nxs"})

MAX_OPEN = 16
"""HDF5 files open at a time: a virtual dataset, or links, may lead to thousands."""


@contextmanager
def open_frames(spec: str) -> Iterator[FrameFile]:
    """Open a file of frames; use it as ``with open_frames(spec) as file:``.

    Frames are read as in live annotation: one that is not there is told, with the file that it should lie in.

    Parameters
    ----------
    spec
        Path of a file that fabio reads (tif, cbf, edf and some thirty more, several frames a file where the
        format has them), of an NPY file, or ``file.h5::/path`` for an HDF5 dataset of shape (rows, columns),
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
            signature = file.read(len(SIGNATURE))
    except FileNotFoundError:
        raise FrameError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FrameError(f"{path} is a directory; give the files in it, for example {path}/*.tif") from None
    except (OSError, ValueError) as error:
        raise FrameError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not signature:
        raise FrameError(f"{path} is empty")
    if signature == SIGNATURE:
        with closing(KeptOpen(MAX_OPEN)) as kept:
            yield _Stack(Hdf5Frames(kept, np), str(path), dataset)
        return
    if dataset is not None:
        raise FrameError(
            f"{path} is not an HDF5 file; only those have datasets to name by {DATASET_SEPARATOR}"
        )
    if path.suffix.lower() in HDF5_SUFFIXES:
        raise FrameError(f"{path} is not an HDF5 file, although its name says so; was it copied completely?")
    with open_image(path) as images:
        yield images


def read_frames(spec: str) -> Iterator[NDArray[Any]]:
    """Yield the frames of a file in order, holding one at a time; see `open_frames` for `spec` and what it raises."""
    with open_frames(spec) as file:
        for index in range(file.count):
            yield file.read(index)


class _Stack:
    """The frames of an HDF5 dataset."""

    def __init__(self, hdf5: Hdf5Frames, path: str, name: str | None) -> None:
        self._hdf5 = hdf5
        self._path = path
        self._name = name or ""
        self.facts = NO_FACTS
        try:
            self.count: int = self._counted(name)
        except FrameError as error:
            raise FrameError(f"{error}; {hdf5.offer(path)}") from error

    def _counted(self, name: str | None) -> int:
        if name is None:
            raise FrameError(f"{self._path} is an HDF5 file and needs the name of a dataset")
        where = f"{self._path}::{name}"
        shape, dtype = self._hdf5.describe(self._path, name)
        if shape is None or not is_stack(shape, dtype):
            raise FrameError(
                f"{where} has shape {shape} and holds {dtype} values; frames are integers or real numbers of shape "
                "(rows, columns), (frames, rows, columns) or (frames, 1, rows, columns)"
            )
        if 0 in shape:
            raise FrameError(f"{where} is empty, its shape is {shape}")
        return 1 if len(shape) == 2 else shape[0]

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        return self._hdf5.read(Hdf5Frame(self._path, self._name, index, expected), "")


def _split(spec: str) -> tuple[Path, str | None]:
    if DATASET_SEPARATOR not in spec:
        return Path(spec), None
    file, _, dataset = spec.partition(DATASET_SEPARATOR)
    if not file:
        raise FrameError(f"{spec!r} names a dataset, but no file; write file.h5::/path")
    return Path(file), dataset
