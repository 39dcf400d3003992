"""Images that are no scattering, to measure whether an annotator notices what it has never seen."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.errors import MissingExtraError, SettingsError
from dvfb_stream.frames import Geometry

Counts = NDArray[np.int_] | NDArray[np.float64]
"""Before they are whole numbers of 32 bits."""


class Framed(Protocol):
    """Whatever has pixels and a geometry: a `Frame`, a `IndependentFrame`."""

    @property
    def pixels(self) -> NDArray[Any]:
        """(rows, columns) counts."""

    @property
    def geometry(self) -> Geometry:
        """Its geometry."""


PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel", "horse",
    "hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
"""Of skimage.data, all of them in its wheel."""
SMALLEST_CROP = 100
"""Pixels; smaller crops are little but blur."""
FULL = 65535
"""Counts at which a 16-bit detector saturates."""


def oddity(kind: str, source: Framed, *, rng: Generator) -> NDArray[np.int32]:
    """Return an image without scattering, of the shape of `source` and 0 where its mask says invalid.

    Parameters
    ----------
    kind
        One of `KINDS`.
    source
        A frame whose geometry is kept, so that only the content tells them apart.
    rng
        All randomness comes from it.

    Raises
    ------
    SettingsError
        When there is no such kind.
    MissingExtraError
        When ``photograph`` is asked for and scikit-image is not installed.
    """
    make = _MAKERS.get(kind)
    if make is None:
        raise SettingsError(f"there is no oddity {kind!r}; the kinds are {', '.join(KINDS)}")
    valid = source.geometry.mask
    if valid is None:
        valid = np.ones(source.geometry.shape, dtype=bool)
    return np.where(valid, make(source, valid, rng), 0).astype(np.int32)


def _noise(source: Framed, valid: NDArray[np.bool_], rng: Generator) -> Counts:
    """Draw counts of one mean, from a hundredth to a thousand: flat illumination, or none but cosmic rays."""
    return rng.poisson(10 ** rng.uniform(-2.0, 3.0), valid.shape)


def _photograph(source: Framed, valid: NDArray[np.bool_], rng: Generator) -> Counts:
    """Draw a crop of a photograph, its grey levels taken for a rate of photons."""
    try:
        from skimage import data, transform
    except ImportError:
        raise MissingExtraError("scikit-image", "evaluate") from None
    picture = np.asarray(getattr(data, str(rng.choice(PHOTOGRAPHS)))(), dtype=float)
    grey = picture[..., :3].mean(axis=-1) if picture.ndim == 3 else picture
    side = int(rng.integers(SMALLEST_CROP, min(grey.shape) + 1))
    top, left = (int(rng.integers(length - side + 1)) for length in grey.shape)
    crop = np.rot90(grey[top : top + side, left : left + side], int(rng.integers(4)))
    resize: Any = transform.resize
    crop = resize(crop, valid.shape, order=1, anti_aliasing=True)
    rate = np.asarray(crop, dtype=np.float64) * (10 ** rng.uniform(0.0, 3.5) / max(float(crop.max()), 1e-9))
    return rng.poisson(rate)


def _saturated(source: Framed, valid: NDArray[np.bool_], rng: Generator) -> Counts:
    """Overexpose the frame, as a shutter left open does, until most of it is at the largest count."""
    # What is dark is not black for that long.
    glow = source.pixels + 0.02 * max(float(source.pixels[valid].mean()), 1.0)
    longer = FULL / np.quantile(glow[valid], rng.uniform(0.02, 0.5))
    return np.asarray(np.minimum(longer * glow, FULL))


def _blank(source: Framed, valid: NDArray[np.bool_], rng: Generator) -> Counts:
    """Draw nothing: no count at all, one and the same count, or the dark current of a camera with its columns."""
    match rng.integers(3):
        case 0:
            return np.zeros(valid.shape)
        case 1:
            return np.full(valid.shape, rng.integers(1, 1000))
        case _:
            columns = rng.normal(0.0, 0.5, valid.shape[1])
            dark = rng.normal(rng.uniform(5.0, 100.0) + columns, rng.uniform(0.5, 4.0), valid.shape)
            return np.maximum(np.round(dark), 0.0)


def _shuffled(source: Framed, valid: NDArray[np.bool_], rng: Generator) -> Counts:
    """Put the frame's own counts at random places."""
    shuffled = np.zeros(valid.shape)
    shuffled[valid] = rng.permutation(source.pixels[valid])
    return shuffled


def _stripes(source: Framed, valid: NDArray[np.bool_], rng: Generator) -> Counts:
    """Draw a fault of the readout: bands of rows or columns that repeat, and next to nothing between them."""
    period, duty = int(rng.integers(2, 40)), rng.uniform(0.2, 0.8)
    struck = (np.arange(max(valid.shape)) % period) < max(1, round(duty * period))
    bands = np.broadcast_to(struck[: valid.shape[0], None], valid.shape)
    if rng.random() < 0.5:
        bands = np.broadcast_to(struck[None, : valid.shape[1]], valid.shape)
    level = 10 ** rng.uniform(0.5, 4.0)
    return np.where(bands, rng.poisson(level, valid.shape), rng.poisson(0.02 * level, valid.shape))


def _displaced(source: Framed, valid: NDArray[np.bool_], rng: Generator) -> Counts:
    """Put the frame's tiles at one another's places, another fault of the readout."""
    rows, columns = valid.shape
    tile = max(8, min(rows, columns) // int(rng.integers(5, 12)))
    down, across = rows // tile, columns // tile
    tiles = source.pixels[: down * tile, : across * tile].reshape(down, tile, across, tile)
    mixed = rng.permutation(tiles.transpose(0, 2, 1, 3).reshape(down * across, tile, tile))
    displaced = np.array(source.pixels)
    displaced[: down * tile, : across * tile] = (
        mixed.reshape(down, across, tile, tile).transpose(0, 2, 1, 3).reshape(down * tile, across * tile)
    )
    return displaced


_MAKERS = {
    "noise": _noise,
    "photograph": _photograph,
    "saturated": _saturated,
    "blank": _blank,
    "shuffled": _shuffled,
    "stripes": _stripes,
    "displaced": _displaced,
}

KINDS: tuple[str, ...] = tuple(_MAKERS)
"""Of oddities."""
