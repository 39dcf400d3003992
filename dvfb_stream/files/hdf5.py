"""HDF5 datasets as stacks of frames, read frame by frame so that a stack of any length fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError
from dvfb_stream.files.pixels import checked_pixels, holds_counts

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HDF5_SUFFIXES = frozenset({".h5", ".hdf5", ".hdf", ".nxs"})

CHUNK_CACHE_BYTES = 128 * 2**20
"""Room for one chunk of 16 frames of a 2-megapixel detector: chunks larger than HDF5's own cache of 1 MiB would
be decompressed once a frame instead of once."""

SMALLEST_SIDE = 16
"""Pixels: a dataset narrower than this is a table or a list of motor positions, not worth offering as images."""

MOST_OFFERED = 6
"""Datasets named in one line of advice."""

DEEPEST_LEVEL = 12
"""Levels of groups searched for datasets: NeXus files have six; links may form circles."""


class _Stack:
    """Frames of an open HDF5 dataset."""

    def __init__(self, dataset: Any, spec: str) -> None:
        self._dataset = dataset
        self._spec = spec
        shape = dataset.shape
        self.count: int = 1 if len(shape) == 2 else shape[0]

    def read(self, index: int) -> NDArray[Any]:
        """Return frame `index`, reading nothing else."""
        source = f"{self._spec} frame {index}" if self.count > 1 else self._spec
        try:
            pixels = self._dataset[()] if self._dataset.ndim == 2 else self._dataset[index]
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            reason = str(error).partition("\n")[0]
            raise FrameError(
                f"{source} cannot be read ({reason}); the file is damaged or compressed by an unknown filter"
            ) from error
        return checked_pixels(pixels[0] if pixels.ndim == 3 else pixels, source)


@contextmanager
def open_dataset(path: Path, name: str) -> Iterator[_Stack]:
    """Open the dataset `name` of an HDF5 file; see `dvfb_stream.files.open_frames`."""
    with _open(path) as file:
        with _refusing_damage(path):
            stack = _find(path, file, name)
        yield stack


def refuse_without_dataset(path: Path) -> NoReturn:
    """Raise FrameError saying which datasets of the file could be meant."""
    with _open(path) as file, _refusing_damage(path):
        raise FrameError(f"{path} is an HDF5 file and needs the name of a dataset; {_offer(path, file)}")


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "files") from None
    try:
        import hdf5plugin  # noqa: F401 - importing it registers the filters
    except ImportError:
        raise MissingExtraError("hdf5plugin", "files") from None
    try:
        # Detectors' file servers are often mounted where locks do not work; nothing is written here.
        file = h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES, locking="best-effort")
    except OSError as error:
        raise FrameError(
            f"{path} cannot be opened as HDF5 ({str(error).partition(chr(10))[0]}); "
            "it is incomplete, damaged or still being written"
        ) from error
    with file:
        yield file


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Turn what h5py raises of a damaged file, nearly any type of exception, into a FrameError."""
    try:
        yield
    except FrameError:
        raise
    except Exception as error:
        raise FrameError(f"{path} is damaged or incomplete ({str(error).partition(chr(10))[0]})") from error


def _find(path: Path, file: Any, name: str) -> _Stack:
    found = _item(file, name) if name.strip("/") else None
    if found is None:
        raise FrameError(f"{path} has no dataset {name!r}; {_offer(path, file)}")
    if not hasattr(found, "shape"):
        kind = "group" if hasattr(found, "keys") else "type"
        raise FrameError(f"{path}::{name} is a {kind}, not a dataset; {_offer(path, file)}")
    if not _is_stack(found):
        raise FrameError(
            f"{path}::{name} has shape {found.shape} and holds {found.dtype} values; frames are integers or real "
            f"numbers of shape (rows, columns), (frames, rows, columns) or (frames, 1, rows, columns); "
            f"{_offer(path, file)}"
        )
    if found.size == 0:
        raise FrameError(f"{path}::{name} is empty, its shape is {found.shape}")
    return _Stack(found, f"{path}::{name}")


def _item(group: Any, name: str) -> Any | None:
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError, ValueError):  # an external file that is gone, a circle of links
        return None


def _is_stack(dataset: Any) -> bool:
    shape = dataset.shape
    if shape is None or not holds_counts(np.dtype(dataset.dtype)):
        return False
    return len(shape) in (2, 3) or (len(shape) == 4 and shape[1] == 1)


def _offer(path: Path, file: Any) -> str:
    found = [
        f"{path}::{name} {dataset.shape}"
        for name, dataset in _datasets(file, "", DEEPEST_LEVEL)
        if _is_stack(dataset) and min(dataset.shape[-2:]) >= SMALLEST_SIDE
    ]
    if not found:
        return "it holds no dataset that looks like images"
    more = f" and {len(found) - MOST_OFFERED} more" if len(found) > MOST_OFFERED else ""
    return f"it holds {', '.join(found[:MOST_OFFERED])}{more}"


def _datasets(group: Any, prefix: str, levels: int) -> Iterator[tuple[str, Any]]:
    """Walk the file, external links included: h5py's own visititems passes over those of Eiger master files."""
    for key in group:
        item = _item(group, key)
        if item is None:
            continue
        if hasattr(item, "shape"):
            yield f"{prefix}/{key}", item
        elif levels and hasattr(item, "keys"):
            yield from _datasets(item, f"{prefix}/{key}", levels - 1)
