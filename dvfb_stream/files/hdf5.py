"""Frames of HDF5 datasets, through external links and virtual datasets to the file that they lie in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, MissingExtraError, NotThereYetError
from dvfb_stream.files.checks import WIDEST_ITEM, beside, regular_file
from dvfb_stream.files.hdf5_open_files import OpenHdf5, open_hdf5, read_stored
from dvfb_stream.files.open_files_cache import KeptOpen
from dvfb_stream.files.references import FrameAllocator, Hdf5Frame
from dvfb_stream.files.virtual import Box, lengths, mappings, within
from dvfb_stream.frames import COUNT_KINDS, NUMBER_KINDS

MOST_STEPS = 8
"""From file to file until a frame is found; more is a circle."""

SMALLEST_SIDE = 16
"""Pixels: a dataset narrower than this is a table or a list of motor positions, not worth offering as images."""

MOST_OFFERED = 6
"""Datasets named in one line of advice."""

DEEPEST_LEVEL = 12
"""Levels of groups searched for datasets: NeXus files have six; links may form circles."""

SHAPES = "(rows, columns), (N, rows, columns) or (N, n, rows, columns)"


class Hdf5Frames:
    """Reads frames of HDF5 files, which stay open; one thread at a time.

    Parameters
    ----------
    kept
        Keeps the files open, under their paths.
    memory
        Where frames are read to.
    """

    def __init__(self, kept: KeptOpen, memory: FrameAllocator) -> None:
        self._kept = kept
        self._memory = memory

    def read(self, frame: Hdf5Frame, run: str) -> NDArray[Any]:
        """Return a frame; see `FrameReader`."""
        number, expected = frame.number, frame.expected
        where = f"{frame.path}::{frame.dataset} frame {number}"
        with self._reading(where, run) as reading:
            file, name, found = reading.dataset(frame.path, frame.dataset)
            if found.shape is None or found.ndim not in (2, 3, 4) or number < 0:
                raise FrameError(
                    f"{where} is in no dataset of images: it has the shape {found.shape}, not {SHAPES}"
                )
            expected.check_promise(found.shape[-2:], found.dtype, where)
            if file.is_growing:
                found.refresh()
            count = math.prod(found.shape[:-2])
            if number >= count:
                raise NotThereYetError(f"the dataset has {count} frames, none with number {number}")
            place = {2: (), 3: (number,), 4: divmod(number, found.shape[1])}[found.ndim]
            box = (
                *(slice(index, index + 1) for index in place),
                *(slice(0, length) for length in found.shape[-2:]),
            )
            pixels = self._memory.empty(found.shape[-2:], found.dtype.newbyteorder("="))
            reading.fill(file, name, found, box, pixels.reshape(lengths(box)))
            return expected.check(pixels, where)

    def describe(self, path: str, dataset: str) -> tuple[tuple[int, ...] | None, np.dtype[Any]]:
        """Return a dataset's shape, None where it has none, and its type; raises as `read`."""
        with self._reading(f"{path}::{dataset}", "") as reading:
            found = reading.dataset(path, dataset)[2]
            return found.shape, np.dtype(found.dtype)

    def offer(self, path: str) -> str:
        """Return which datasets of a file look like images, in words."""
        with self._reading(path, "") as reading:
            found = [
                f"{path}::{name} {dataset.shape}"
                for name, dataset in _datasets(reading.file(path).handle, "", DEEPEST_LEVEL)
                if is_stack(dataset.shape, np.dtype(dataset.dtype))
                and dataset.dtype.kind in COUNT_KINDS
                and min(dataset.shape[-2:]) >= SMALLEST_SIDE
            ]
        if not found:
            return "it holds no dataset that looks like images"
        more = f" and {len(found) - MOST_OFFERED} more" if len(found) > MOST_OFFERED else ""
        return f"it holds {', '.join(found[:MOST_OFFERED])}{more}"

    @contextmanager
    def _reading(self, where: str, run: str) -> Iterator[_Reading]:
        reading = _Reading(self._kept, run)
        try:
            yield reading
        except NotThereYetError as error:
            # What was not opened for reading while it grows shows what was there then.
            reading.drop()
            said = str(error)
            raise NotThereYetError(said if where in said else f"{where} is not there: {said}") from error
        except FrameError as error:
            raise (error if where in str(error) else FrameError(f"{where}: {error}")) from error
        except MissingExtraError:
            raise
        except TypeError as error:
            raise FrameError(f"{where} is of a type that NumPy has not: {error}") from error
        except Exception as error:  # h5py raises nearly any of a damaged file
            reading.drop()
            raise NotThereYetError(f"{where} cannot be read: {str(error).partition(chr(10))[0]}") from error
        finally:
            reading.close()
            # Kept open, what this process writes would stay marked as being written after its writer has closed it.
            self._kept.drop_where(lambda opened: isinstance(opened, OpenHdf5) and opened.is_shared)


class _Reading:
    """The way to one frame: the files it leads through."""

    def __init__(self, kept: KeptOpen, run: str) -> None:
        self._kept = kept
        self._run = run
        self._seen: list[str] = []
        self._datasets: list[Any] = []

    def close(self) -> None:
        """Close the datasets, whoever still refers to them, be it the traceback of an exception.

        Of a growing dataset that is open twice HDF5 refreshes only one: the other frames it reads are wrong.
        """
        for dataset in self._datasets:
            if dataset.id.valid:
                dataset.id.close()

    def drop(self) -> None:
        """Close the files, to be opened anew next time."""
        for path in self._seen:
            self._kept.drop(path)

    def file(self, path: str) -> OpenHdf5:
        """Return a file, open; another one under its name, or one that was cut off, is opened anew.

        So is one that was written since and not opened for that.
        """
        self._seen.append(path)
        try:
            status = regular_file(path)
        except FrameError:
            self._kept.drop(path)
            raise
        file = self._kept.get(
            path, self._run, lambda: open_hdf5(path, status), lambda file: file.is_outdated(status)
        )
        file.size = status.st_size
        return file

    def dataset(self, path: str, name: str, steps: int = MOST_STEPS) -> tuple[OpenHdf5, str, Any]:
        """Return the file that a dataset really lies in, its name there, and the h5py.Dataset."""
        import h5py

        file = self.file(path)
        if name not in file.links:
            file.links[name] = _followed(file, name)
        other, name_there = file.links[name]
        if (other, name_there) != (path, name):
            if not steps:
                raise FrameError(f"the external links of {path}::{name} lead round in a circle")
            return self.dataset(other, name_there, steps - 1)
        found = file.handle.get(name) if name.strip("/") else file.handle
        if found is None:
            raise NotThereYetError(f"{path} has no dataset {name!r}")
        if not isinstance(found, h5py.Dataset):
            kind = "group" if isinstance(found, h5py.Group) else "type"
            raise FrameError(f"{path}::{name} is a {kind}, not a dataset")
        self._datasets.append(found)
        return file, name, found

    def fill(
        self, file: OpenHdf5, name: str, dataset: Any, box: Box, out: NDArray[Any], steps: int = MOST_STEPS
    ) -> None:
        """Read `box` of a dataset into `out`, of the lengths of the box, contiguous."""
        if name not in file.mappings and not dataset.is_virtual:
            read_stored(file, dataset, box, out, self._kept)
            return
        if not steps:
            raise FrameError(f"the virtual datasets of {file.path}::{name} lead round in a circle")
        if name not in file.mappings:
            file.mappings[name] = tuple(mappings(dataset))
        parts = [part for mapping in file.mappings[name] if (part := mapping.part(box)) is not None]
        if not parts:
            raise NotThereYetError("no file is mapped there yet")
        if sum(math.prod(lengths(part.target)) for part in parts) < out.size:
            out[...] = dataset.fillvalue  # between modules
        # The file may be closed from here on, for those that it leads to.
        for part in parts:
            path = file.path if part.file == "." else beside(file.path, part.file)
            try:
                there, name_there, source = self.dataset(path, part.dataset)
                if there.is_growing:
                    source.refresh()
                source_box = part.box(source.shape)
                piece = np.empty(lengths(source_box), out.dtype)
                self.fill(there, name_there, source, source_box, piece, steps - 1)
            except NotThereYetError as error:
                raise NotThereYetError(f"it lies in {path}::{part.dataset}: {error}") from error
            out[within(part.target, box)] = piece.reshape(lengths(part.target))


def is_stack(shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> bool:
    """Whether a dataset can be frames of a detector: numbers of shape (rows, columns), (N, [1,] rows, columns)."""
    if shape is None or dtype.kind not in NUMBER_KINDS or dtype.itemsize > WIDEST_ITEM:
        return False
    return len(shape) in (2, 3) or (len(shape) == 4 and shape[1] == 1)


def _followed(file: OpenHdf5, name: str) -> tuple[str, str]:
    """Return path and name that `name` leads to, as far as the first external link."""
    import h5py

    group = file.handle
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for position, part in enumerate(parts):
        if not isinstance(group, h5py.Group):
            break
        link = group.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return beside(file.path, link.filename), "/".join([link.path.rstrip("/"), *parts[position + 1 :]])
        if position + 1 < len(parts):
            group = group.get(part)
    return file.path, name


def _item(group: Any, name: str) -> Any | None:
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError, ValueError):  # an external file that is gone, a circle of links
        return None


def _datasets(group: Any, prefix: str, levels: int) -> Iterator[tuple[str, Any]]:
    """Walk the file, external links included: h5py's own visititems passes over those of Eiger master files."""
    for key in group:
        item = _item(group, key)
        if hasattr(item, "shape"):
            yield f"{prefix}/{key}", item
        elif levels and hasattr(item, "keys"):
            yield from _datasets(item, f"{prefix}/{key}", levels - 1)
