"""Labelled frames as the networks are shown them, in arrays that may lie on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.errors import SettingsError
from dvfb_stream.training.encoding import Encoded

MEMORY_SHARE = 1 / 3
"""Of the machine's memory that examples may take."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Examples ready for `AnnotationNetwork.prepare`, all on one device."""

    images: Tensor
    """(B, 256, 256) float32 views, 0..255, 0 where invalid."""
    masks: Tensor
    """(B, 256, 256) bool, True = valid."""
    coefficients: Tensor
    """(B, n_radial, n_orders) complex64."""
    labels: Tensor
    """(B, L) float32, 0 or 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples(Encoded):
    """Encoded frames, of any number of geometries, with their labels."""

    labels: NDArray[np.bool_]
    """(B, L); of simulated frames in the order of `LABELS`."""
    rows: NDArray[np.int64]
    """(N,) rows of the arrays that count; the others are frames that no annotator would take."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def truth(self) -> NDArray[np.bool_]:
        """(N, L) labels of the rows that count."""
        return np.asarray(self.labels[self.rows], dtype=bool)

    def first(self, count: int) -> Examples:
        """Return the first `count` examples."""
        return Examples(self.images, self.masks, self.coefficients, self.labels, self.rows[:count])

    def after(self, count: int) -> Examples:
        """Return all but the first `count` examples."""
        return Examples(self.images, self.masks, self.coefficients, self.labels, self.rows[count:])

    def in_memory(self) -> Examples:
        """Return the examples read into memory, where a third of the machine's is enough for them.

        Frames are drawn at random: from a disk that is slow, and what the system caches of a file it may let go of.
        """
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        size = self.images.nbytes + self.masks.nbytes + self.coefficients.nbytes
        if size > machine * MEMORY_SHARE:
            return self
        return Examples(
            np.array(self.images),
            np.array(self.masks),
            np.array(self.coefficients),
            np.array(self.labels),
            self.rows,
        )

    def batch(self, which: NDArray[np.int64], device: str | torch.device = "cpu") -> Batch:
        """Return the examples at some places, 0 to len - 1, in that order."""
        rows = self.rows[which]
        images = torch.from_numpy(self.images[rows]).to(device).float()
        masks = torch.from_numpy(np.unpackbits(self.masks[rows], axis=-1)).to(device).bool()
        return Batch(
            images,
            masks,
            torch.from_numpy(self.coefficients[rows]).to(device),
            torch.from_numpy(self.labels[rows]).to(device).float(),
        )

    def batches(self, size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """Yield all examples in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))), device)


def join(
    folder: Path, most: int, parts: Callable[[], Iterable[tuple[Encoded, NDArray[np.bool_]]]]
) -> Examples:
    """Return encoded parts as examples, kept in `folder` so that they are encoded once.

    Parameters
    ----------
    folder
        One a set of parts.
    most
        Frames that there are at most.
    parts
        Called where `folder` is not complete: what is shown of the frames of each geometry, and their labels. Each
        part is written before the next is asked for.

    Raises
    ------
    SettingsError
        When no frame can be taken, or an array in `folder` is damaged.
    """
    names = ("images", "masks", "coefficients", "labels")
    complete = folder / "complete"
    if not complete.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[Any]] = {}
        done = 0
        for encoded, labels in parts():
            values = {name: labels if name == "labels" else getattr(encoded, name) for name in names}
            for name, value in values.items():
                if name not in arrays:
                    shape = (most, *value.shape[1:])
                    arrays[name] = open_memmap(
                        folder / f"{name}.npy", mode="w+", dtype=value.dtype, shape=shape
                    )
                arrays[name][done : done + len(value)] = value
            done += len(labels)
        if not done:
            raise SettingsError("no frame of the dataset can be taken; check its beam centres and masks")
        for array in arrays.values():
            array.flush()  # type: ignore[attr-defined]
        complete.write_text(str(done))
    try:
        images, masks, coefficients, labels = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in names
        )
        count = int(complete.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder} is damaged ({error}); delete it, it will be made again") from error
    return Examples(images, masks, coefficients, labels, np.arange(count))
