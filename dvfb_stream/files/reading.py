"""Frames from any detector file by one name: a path, or ``file.h5::/path/of/dataset``."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError
from dvfb_stream.files.checks import refuse_pipes_and_devices
from dvfb_stream.files.hdf5 import Hdf5Frames
from dvfb_stream.files.hdf5_open_files import hdf5_begins_at
from dvfb_stream.files.images import FrameFile, open_image
from dvfb_stream.files.open_files_cache import KeptOpen
from dvfb_stream.files.references import ANYTHING, Expected, Hdf5Frame

DATASET_SEPARATOR = "::"
"""Between an HDF5 file and the dataset in it."""

HDF5_SUFFIXES = frozenset({".h5", ".hdf5", ".hdf", ".nxs"})

MAX_OPEN = 16
"""HDF5 files open at a time: a virtual dataset, or links, may lead to thousands."""


@contextmanager
def open_frames(spec: str, *, file_mask: bool = True) -> Iterator[FrameFile]:
    """Open a file of frames; use it as ``with open_frames(spec) as file:``.

    Frames are read as in live annotation: one that is not there is told, with the file that it should lie in.

    Parameters
    ----------
    spec
        Path of a TIFF, CBF, EDF, NPY, grey PNG or any other file that fabio reads, compressed by gzip or bzip2 or
        not; or of an HDF5 file, whose frames are what NeXus's attributes say, the numbered files of a DECTRIS master,
        or the only dataset that looks like images. ``file.h5::/path`` names a dataset or a group, and
        ``file.h5::/path[:,0]`` selects as NumPy does along all axes but the last two.
    file_mask
        Whether what the file itself says of invalid pixels is used: a detector's ``pixel_mask``, its bit depth and
        saturation, ``Count_cutoff``, ``Dummy``.

    Raises
    ------
    FrameError
        When there is no such file or dataset, or it holds no frames, or several datasets
        that look like frames; the message says which datasets there are.
    MissingExtraError
        When the packages of the extra ``files`` are not installed.
    """
    path, dataset = _split(spec)
    refuse_pipes_and_devices(str(path))
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
            is_hdf5 = hdf5_begins_at(file) is not None
    except FileNotFoundError:
        raise FrameError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FrameError(f"{path} is a directory; give the files in it, for example {path}/*.tif") from None
    except (OSError, ValueError) as error:
        raise FrameError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if is_empty:
        raise FrameError(f"{path} is empty")
    if is_hdf5:
        with closing(KeptOpen(MAX_OPEN)) as kept:
            yield _using(_Stack(Hdf5Frames(kept, np), str(path), dataset or ""), file_mask=file_mask)
        return
    if dataset is not None:
        raise FrameError(
            f"{path} is not an HDF5 file; only those have datasets to name by {DATASET_SEPARATOR}"
        )
    if path.suffix.lower() in HDF5_SUFFIXES:
        raise FrameError(f"{path} is not an HDF5 file, although its name says so; was it copied completely?")
    with open_image(path) as images:
        yield _using(images, file_mask=file_mask)


def read_frames(spec: str) -> Iterator[NDArray[Any]]:
    """Yield the frames of a file in order, holding one at a time; see `open_frames` for `spec` and what it raises."""
    with open_frames(spec) as file:
        for index in range(file.count):
            yield file.read(index)


def _using(frames: FrameFile, *, file_mask: bool) -> FrameFile:
    if not file_mask:
        frames.facts = frames.facts.unmarked()
    return frames


class _Stack:
    """The frames of an HDF5 dataset, or of several one after another."""

    def __init__(self, hdf5: Hdf5Frames, path: str, name: str) -> None:
        self._hdf5 = hdf5
        self._parts = hdf5.parts(path, name)
        self._ends = list(itertools.accumulate(len(part.numbers) for part in self._parts))
        self.count: int = self._ends[-1]
        if not self.count:
            raise FrameError(f"{path}::{name} is empty")
        there = next(part for part in self._parts if part.absent is None)
        self.facts = hdf5.facts(there.path, there.name, there.shape)

    def read(self, index: int, expected: Expected = ANYTHING) -> NDArray[Any]:
        position = bisect.bisect_right(self._ends, index)
        part = self._parts[position]
        number = part.numbers[index - self._ends[position] + len(part.numbers)]
        return self.facts.marked(self._hdf5.read(Hdf5Frame(part.path, part.name, number, expected), ""))


def _split(spec: str) -> tuple[Path, str | None]:
    if DATASET_SEPARATOR not in spec:
        return Path(spec), None
    file, _, dataset = spec.partition(DATASET_SEPARATOR)
    if not file:
        raise FrameError(f"{spec!r} names a dataset, but no file; write file.h5::/path")
    return Path(file), dataset
