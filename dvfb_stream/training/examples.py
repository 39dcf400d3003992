"""Labelled frames as the networks are shown them: views, masks and coefficients, in arrays that may lie on disk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.azimuthal.orders import AzimuthalOrders
from dvfb_stream.errors import FrameError, GeometryError, SettingsError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings
from dvfb_stream.frames import Geometry
from dvfb_stream.simulation import Simulator
from dvfb_stream.view import VIEW_SIZE, ViewResampler


@dataclass(frozen=True, slots=True, eq=False)
class GeometryViews:
    """Views of frames that share a geometry, and what estimates their coefficients and measures their rings."""

    images: torch.Tensor
    """(B, 256, 256) float32 views."""
    mask: NDArray[np.bool_]
    """(256, 256), True = valid in all of them."""
    estimator: FourierBessel
    orders: AzimuthalOrders
    counts: NDArray[np.float32]
    """(B, rows, columns) of the finer raster, which the rings are measured on."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Frames as the networks are shown them; the arrays may lie on disk."""

    images: NDArray[np.float16]
    """(B, 256, 256) views, 0..255, 0 where invalid."""
    masks: NDArray[np.uint8]
    """(B, 256, 32) valid pixels, eight to a byte along rows."""
    coefficients: NDArray[np.complex64]
    """(B, n_radial, n_orders)."""
    rings: NDArray[np.float16]
    """(B, channels, bins) of `RingStatistics`."""


def by_geometry(
    simulator: Simulator, start: int, stop: int
) -> Iterator[tuple[Geometry, NDArray[np.generic], NDArray[np.bool_]]]:
    """Yield geometry, pixels (B, H, W) and all labels (B, 18) of the frames of each experiment, in order."""
    batches = simulator.batches(start, stop)
    for geometry, group in itertools.groupby(batches, key=lambda batch: batch.geometry):
        members = list(group)
        yield (
            geometry,
            torch.cat([batch.pixels for batch in members]).cpu().numpy(),
            torch.cat([batch.all_labels for batch in members]).numpy(),
        )


def views_of(
    pixels: Sequence[NDArray[np.generic]] | NDArray[np.generic],
    geometry: Geometry,
    settings: FourierBesselSettings,
) -> GeometryViews | None:
    """Return views and estimator of frames of one geometry, or None where no annotator would take them.

    Dead pixels and overflows may differ between frames; the estimate takes those valid in all. Pixels are counts, or
    means of counts, as simulations make them, unless the geometry says otherwise.

    Parameters
    ----------
    pixels
        (H, W) each.
    geometry
        Of all of them. Nothing valid, or a beam too far off, gives None.
    settings
        Of the Fourier-Bessel estimate.
    """
    try:
        if geometry.counts_per_unit is None:
            geometry = replace(geometry, counts_per_unit=1.0)
        resampler = ViewResampler(geometry)
        views = [resampler.view(frame) for frame in pixels]
        common, fine = np.logical_and.reduce([view.mask for view in views]), resampler.fine
        estimator = FourierBessel.from_settings(
            settings,
            shape=(VIEW_SIZE, VIEW_SIZE),
            center_x=resampler.center_x,
            center_y=resampler.center_y,
            mask=common,
        )
    except (FrameError, GeometryError):
        return None
    return GeometryViews(
        torch.from_numpy(np.stack([view.image for view in views])),
        common,
        estimator,
        AzimuthalOrders(
            np.logical_and.reduce([view.fine.mask for view in views]),
            fine.center_x,
            fine.center_y,
            fine.area,
            step=fine.step,
        ),
        np.stack([view.fine.counts for view in views]),
    )


def encode(
    pixels: Sequence[NDArray[np.generic]] | NDArray[np.generic],
    geometry: Geometry,
    settings: FourierBesselSettings,
) -> Encoded | None:
    """Return what the networks are shown of frames of one geometry; None as `views_of`."""
    views = views_of(pixels, geometry, settings)
    if views is None:
        return None
    masks = np.broadcast_to(np.packbits(views.mask, axis=-1), (len(pixels), VIEW_SIZE, VIEW_SIZE // 8))
    images = np.where(views.mask, views.images.numpy(), 0).astype(np.float16)
    rings = views.orders.statistics(list(views.counts)).astype(np.float16)
    return Encoded(images, masks, views.estimator.estimate(views.images).numpy(), rings)


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
    rings: Tensor
    """(B, channels, bins) float32 ring statistics."""
    labels: Tensor
    """(B, L) float32, 0 or 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples(Encoded):
    """Encoded frames, of any number of geometries, with their labels."""

    labels: NDArray[np.bool_]
    """(B, L); of simulated frames in the order of `ALL_LABELS`, or its first ten."""
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
        return Examples(
            self.images, self.masks, self.coefficients, self.rings, self.labels, self.rows[:count]
        )

    def after(self, count: int) -> Examples:
        """Return all but the first `count` examples."""
        return Examples(
            self.images, self.masks, self.coefficients, self.rings, self.labels, self.rows[count:]
        )

    def in_memory(self) -> Examples:
        """Return the examples read into memory, where a third of the machine's is enough for them.

        Frames are drawn at random: from a disk that is slow, and what the system caches of a file it may let go of.
        """
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        size = self.images.nbytes + self.masks.nbytes + self.coefficients.nbytes + self.rings.nbytes
        if size > machine * MEMORY_SHARE:
            return self
        return Examples(
            np.array(self.images),
            np.array(self.masks),
            np.array(self.coefficients),
            np.array(self.rings),
            np.array(self.labels),
            self.rows,
        )

    def batch(
        self, which: NDArray[np.int64], device: str | torch.device = "cpu", *, pictures: bool = True
    ) -> Batch:
        """Return the examples at some places, 0 to len - 1, in that order.

        Parameters
        ----------
        which
            Places.
        device
            Where the batch is to be.
        pictures
            Whether images and masks are wanted; else they are empty, and not read.
        """
        rows = self.rows[which]
        seen = rows if pictures else rows[:0]
        images = torch.from_numpy(self.images[seen]).to(device).float()
        masks = torch.from_numpy(np.unpackbits(self.masks[seen], axis=-1)).to(device).bool()
        return Batch(
            images,
            masks,
            torch.from_numpy(self.coefficients[rows]).to(device),
            torch.from_numpy(self.rings[rows]).to(device).float(),
            torch.from_numpy(self.labels[rows]).to(device).float(),
        )

    def batches(self, size: int, device: str | torch.device = "cpu") -> Iterator[Batch]:
        """Yield all examples in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))), device)


def together(first: Examples, second: Examples) -> Examples:
    """Return the examples of two sets as one, those of the first before those of the second.

    Both stay where they are, on a disk mostly: only labels are copied.
    """

    def both(name: str) -> Any:
        return _OneAfterTheOther(getattr(first, name), getattr(second, name))

    return Examples(
        both("images"),
        both("masks"),
        both("coefficients"),
        both("rings"),
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.rows, len(first.labels) + second.rows]),
    )


class _OneAfterTheOther:
    """Two arrays as if they were one along their first axis, for all that `Examples` does with an array."""

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        self._first, self._second = first, second
        self.nbytes, self.dtype = first.nbytes + second.nbytes, first.dtype
        self.shape: tuple[int, ...] = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return a copy of some rows, in the order given."""
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        in_first = rows < len(self._first)
        found[in_first] = self._first[rows[in_first]]
        found[~in_first] = self._second[rows[~in_first] - len(self._first)]
        return found

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy of all rows."""
        if copy is False:
            raise ValueError("two arrays become one by copying them; ask for a copy")
        return np.concatenate([self._first, self._second], dtype=dtype)


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
    names = ("images", "masks", "coefficients", "rings", "labels")
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
        images, masks, coefficients, rings, labels = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in names
        )
        count = int(complete.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder} is damaged ({error}); delete it, it will be made again") from error
    return Examples(images, masks, coefficients, rings, labels, np.arange(count))
