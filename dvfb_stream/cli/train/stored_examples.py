"""A dataset of `dvfb simulate` as examples to train on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.azimuthal.ring_statistics import BINS, CHANNELS
from dvfb_stream.cli.simulate.layout import (
    CENTER_X,
    CENTER_Y,
    EXPERIMENT_OF,
    FURTHER_TABLE,
    LABEL_TABLE,
    NUMBER,
    PIXELS,
    existing_identity,
    masked_in,
)
from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.frames import Geometry
from dvfb_stream.training.examples import Encoded, Examples, encode, join


def read_dataset(path: Path, cache: Path, fbt: FourierBesselSettings) -> Examples:
    """Return the examples of a dataset, views and coefficients computed at the first call only.

    Parameters
    ----------
    path
        HDF5 file of `dvfb simulate`, of any raster.
    cache
        Folder for what is computed, 0.14 MB a frame.
    fbt
        Settings of the estimate.

    Raises
    ------
    SettingsError
        When the file is no such dataset.
    """
    identity = existing_identity(path)
    if identity is None:
        raise SettingsError(
            f"{path} is no dataset of `dvfb simulate`; make one with `dvfb simulate --count 1000 --out {path}`"
        )
    origin = f"{identity[0]} {identity[1]} {sorted(fbt.as_dict().items())} {len(CHANNELS)} {BINS}"
    folder = cache / f"dataset-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"

    return join(folder, identity[1], lambda: _encoded(path, fbt))


def _encoded(path: Path, fbt: FourierBesselSettings) -> Iterator[tuple[Encoded, NDArray[np.bool_]]]:
    import h5py

    with h5py.File(path, "r") as file:
        of_frame = file[EXPERIMENT_OF][()]
        labels = file[LABEL_TABLE][()].astype(bool)
        if FURTHER_TABLE in file:
            labels = np.concatenate([labels, file[FURTHER_TABLE][()].astype(bool)], axis=1)
        for row, number in enumerate(file[NUMBER][()]):
            rows = np.flatnonzero(of_frame == number)
            if not len(rows):
                continue
            pixels = file[PIXELS][rows[0] : rows[-1] + 1]
            geometry = Geometry(
                shape=pixels.shape[1:],
                center_x=float(file[CENTER_X][row]),
                center_y=float(file[CENTER_Y][row]),
                masked=masked_in(file, row),
            )
            encoded = encode(pixels, geometry, fbt)
            if encoded is not None:
                yield encoded, labels[rows]
