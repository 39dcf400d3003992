"""Frames of HDF5 datasets, through external links and virtual datasets to the file that they lie in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.hdf5_files import OpenHdf5, OpenHdf5Files
from dvfb_stream.files.references import Expected, FrameAllocator, Hdf5Frame
from dvfb_stream.files.regular_files import beside
from dvfb_stream.files.stored_frames import StoredFrames
from dvfb_stream.files.virtual import Box, mappings

MOST_STEPS = 8
"""From file to file until a frame is found; more is a circle."""


class Hdf5Frames:
    """Reads frames of HDF5 files, which stay open; one thread at a time.

    Parameters
    ----------
    max_open
        Files open at a time.
    memory
        Where frames are read to.
    """

    def __init__(self, max_open: int, memory: FrameAllocator) -> None:
        self._files = OpenHdf5Files(max_open)
        self._stored = StoredFrames()
        self._memory = memory

    def __len__(self) -> int:
        """Files open now."""
        return len(self._files)

    def read(self, frame: Hdf5Frame, run: str) -> NDArray[Any]:
        """Return a frame; see `FrameReader`."""
        path, dataset, number, expected = frame.path, frame.dataset, frame.number, frame.expected
        where = f"{path}::{dataset}[{number}]"
        reading = _Reading(self._files, self._stored, run)
        try:
            return expected.check(self._frame(reading, path, dataset, number, expected, where), where)
        except NotThereYetError as error:
            # What was not opened for reading while it grows shows what was there then.
            reading.drop()
            raise NotThereYetError(f"{where} is not there: {error}") from error
        except FrameError as error:
            raise (error if where in str(error) else FrameError(f"{where}: {error}")) from error
        except TypeError as error:
            raise FrameError(f"{where} is of a type that NumPy has not: {error}") from error
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            reading.drop()
            raise NotThereYetError(f"{where} cannot be read: {error}") from error
        finally:
            reading.close()
            self._files.drop_shared()

    def _frame(
        self, reading: _Reading, path: str, name: str, number: int, expected: Expected, where: str
    ) -> NDArray[Any]:
        file, name, found = reading.dataset(path, name)
        if found.ndim not in (2, 3, 4) or number < 0:
            raise FrameError(
                f"{where} is in no dataset of images: it has the shape {found.shape}, not (rows, columns), "
                "(N, rows, columns) or (N, n, rows, columns)"
            )
        expected.check_promise(found.shape[-2:], found.dtype, where)
        if file.is_growing:
            found.refresh()
        if number >= _count(found):
            raise NotThereYetError(f"the dataset has {_count(found)} frames, none with number {number}")
        place = {2: (), 3: (number,), 4: divmod(number, found.shape[1])}[found.ndim]
        box = (*(slice(index, index + 1) for index in place), *(slice(0, n) for n in found.shape[-2:]))
        pixels = self._memory.empty(found.shape[-2:], found.dtype)
        reading.fill(file, name, found, box, pixels.reshape(_lengths(box)))
        return pixels

    def drop(self, path: str) -> None:
        """Close a file, for somebody else in this process to open it in another way."""
        self._files.drop(path)

    def release(self, run: str) -> None:
        """Close what is open for a run alone."""
        self._files.release(run)
        self._stored.forget()

    def close(self) -> None:
        """Close all files."""
        self._files.close()
        self._stored.forget()


class _Reading:
    """The way to one frame: the files it leads through."""

    def __init__(self, files: OpenHdf5Files, stored: StoredFrames, run: str) -> None:
        self._files = files
        self._stored = stored
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
            self._files.drop(path)

    def dataset(self, path: str, name: str, steps: int = MOST_STEPS) -> tuple[OpenHdf5, str, Any]:
        """Return an h5py.Dataset, the file that it really lies in, and its name there."""
        import h5py

        self._seen.append(path)
        file = self._files.get(path, self._run)
        if name not in file.links:
            file.links[name] = _followed(file, name)
        other, name_there = file.links[name]
        if (other, name_there) != (path, name):
            if not steps:
                raise FrameError(f"the external links of {path}::{name} lead round in a circle")
            return self.dataset(other, name_there, steps - 1)
        found = file.handle.get(name_there)
        if found is None:
            raise NotThereYetError(f"{path} has no dataset {name!r}")
        if not isinstance(found, h5py.Dataset):
            raise FrameError(f"{path}::{name} is no dataset of images: it is {found!r}")
        self._datasets.append(found)
        if found.shape is None:
            raise FrameError(f"{path}::{name} is no dataset of images: it is empty")
        return file, name_there, found

    def fill(
        self,
        file: OpenHdf5,
        name: str,
        dataset: Any,
        box: Box,
        out: NDArray[Any],
        steps: int = MOST_STEPS,
    ) -> None:
        """Read `box` of a dataset into `out`, of the lengths of the box, contiguous."""
        if name not in file.mappings and not dataset.is_virtual:
            self._stored.read(file, dataset, box, out)
            return
        if not steps:
            raise FrameError(f"the virtual datasets of {file.path}::{name} lead round in a circle")
        if name not in file.mappings:
            file.mappings[name] = tuple(mappings(dataset))
        parts = [part for mapping in file.mappings[name] if (part := mapping.part(box)) is not None]
        if not parts:
            raise NotThereYetError("no file is mapped there yet")
        if sum(math.prod(_lengths(part.target)) for part in parts) < out.size:
            out[...] = dataset.fillvalue  # between modules
        # The file may be closed from here on, for those that it leads to.
        for part in parts:
            path = file.path if part.file == "." else beside(file.path, part.file)
            try:
                there, name_there, source = self.dataset(path, part.dataset)
                if there.is_growing:
                    source.refresh()
                source_box = part.box(source.shape)
                piece = np.empty(_lengths(source_box), out.dtype)
                self.fill(there, name_there, source, source_box, piece, steps - 1)
            except NotThereYetError as error:
                raise NotThereYetError(f"it lies in {path}::{part.dataset}: {error}") from error
            target = tuple(
                slice(place.start - whole.start, place.stop - whole.start)
                for place, whole in zip(part.target, box, strict=True)
            )
            out[target] = piece.reshape(_lengths(part.target))


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


def _lengths(box: Box) -> tuple[int, ...]:
    return tuple(place.stop - place.start for place in box)


def _count(dataset: Any) -> int:
    return math.prod(dataset.shape[:-2])
