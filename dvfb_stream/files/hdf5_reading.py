"""The way to the pixels of one frame: through external links and virtual datasets, from file to file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.allowed_roots import EVERYWHERE, AllowedRoots
from dvfb_stream.files.checks import beside
from dvfb_stream.files.hdf5_open_files import OpenHdf5, open_hdf5, read_stored
from dvfb_stream.files.open_files_cache import KeptOpen
from dvfb_stream.files.virtual import Box, lengths, mappings, within

MOST_STEPS = 8
"""From file to file until a frame is found; more is a circle."""


class Hdf5Reading:
    """The way to one frame: the files it leads through.

    Parameters
    ----------
    kept
        Keeps the files open, under their paths.
    run
        For which they are kept.
    allowed
        Which files may be opened.
    """

    def __init__(self, kept: KeptOpen, run: str, allowed: AllowedRoots = EVERYWHERE) -> None:
        self._kept = kept
        self._run = run
        self.allowed = allowed
        self._files: dict[str, OpenHdf5] = {}
        self._datasets: dict[tuple[str, str], Any] = {}

    def close(self) -> None:
        """Close the datasets, whoever still refers to them, be it the traceback of an exception.

        Of a growing dataset that is open twice HDF5 refreshes only one: the other frames it reads are wrong.
        """
        for dataset in self._datasets.values():
            if dataset.id.valid:
                dataset.id.close()
        self._datasets.clear()

    def drop(self) -> None:
        """Close the files, to be opened anew next time."""
        for path in self._files:
            self._kept.drop(path)

    def file(self, path: str) -> OpenHdf5:
        """Return a file, open; another one under its name, or one that was cut off, is opened anew.

        So is one that was written since and not opened for that. It is looked at once on the way to a frame.
        """
        known = self._files.get(path)
        if known is not None and known.handle:
            return known
        try:
            status = self.allowed.regular_file(path)
        except FrameError:
            self._kept.drop(path)
            raise
        file = self._kept.get(
            path,
            self._run,
            lambda: open_hdf5(path, status, self.allowed),
            lambda file: file.is_outdated(status),
        )
        file.size = status.st_size
        self._files[path] = file
        return file

    def item(self, path: str, name: str, steps: int = MOST_STEPS) -> tuple[OpenHdf5, str, Any]:
        """Return the file that a group or dataset really lies in, its name there, and what h5py has of it.

        Raises
        ------
        NotThereYetError
            When there is nothing of that name, or the file that it leads to is not there.
        FrameError
            When links lead round in a circle.
        """
        file = self.file(path)
        if name not in file.links:
            file.links[name] = _followed(file, name)
        other, name_there = file.links[name]
        if (other, name_there) != (path, name):
            if not steps:
                raise FrameError(f"the external links of {path}::{name} lead round in a circle")
            return self.item(other, name_there, steps - 1)
        found = self._datasets.get((path, name))
        if found is None or not found.id.valid:
            found = file.handle.get(name) if name.strip("/") else file.handle
        if found is None:
            raise NotThereYetError(f"{path} has no dataset {name!r}")
        if hasattr(found, "shape"):
            self._datasets[path, name] = found
        return file, name, found

    def dataset(self, path: str, name: str) -> tuple[OpenHdf5, str, Any]:
        """Return the file that a dataset really lies in, its name there, and the h5py.Dataset; raises as `item`."""
        import h5py

        file, name_there, found = self.item(path, name)
        if not isinstance(found, h5py.Dataset):
            kind = "group" if isinstance(found, h5py.Group) else "type"
            raise FrameError(f"{file.path}::{name_there} is a {kind}, not a dataset")
        return file, name_there, found

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
            path = file.path if part.file == "." else beside(file.path, part.file, self.allowed.permits)
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


def _followed(file: OpenHdf5, name: str) -> tuple[str, str]:
    """Return path and name that `name` leads to, as far as the first link that is no hard one.

    HDF5 itself follows none: behind a soft link there may be an external one, which leads to any file.
    """
    import h5py

    group = file.handle
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for position, part in enumerate(parts):
        if not isinstance(group, h5py.Group):
            break
        link = group.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            rest = parts[position + 1 :]
            return beside(file.path, link.filename, file.allowed.permits), "/".join(
                [link.path.rstrip("/"), *rest]
            )
        if isinstance(link, h5py.SoftLink):
            start = [] if link.path.startswith("/") else parts[:position]
            return file.path, "/".join(["", *start, link.path.strip("/"), *parts[position + 1 :]])
        if position + 1 < len(parts):
            group = group.get(part)
    return file.path, name
