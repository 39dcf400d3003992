"""Frame, geometry and origin: what the detector gave, where the beam hit it, and where it is stored."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import GeometryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a frame is stored: the n-th frame of one data key of one stream of one Bluesky run."""

    run_uid: str
    """uid of the raw run's start document."""
    stream: str
    """Name of the event stream, for example ``primary``."""
    data_key: str
    """Name of the detector's image in the event descriptor."""
    index: int
    """Frame index within that data key, from 0."""
    event_uid: str = ""
    """uid of the raw event; empty where frames come without events, as in a fly scan."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Geometry:
    """Shape of a detector, where the direct beam hits it, and which of its pixels can be believed.

    Frozen and hashable by content: frames of equal geometry are batched together.

    Parameters
    ----------
    shape
        (rows, columns) of the frame.
    center_x, center_y
        Direct beam in pixels; pixel centres lie at integers, x to the right, y down. May lie off the image.
    mask
        Boolean array of `shape`, True where a pixel is valid; None: all are. It is copied and made read-only.

    Raises
    ------
    GeometryError
        When the shape is not two positive integers, the centre is not two finite numbers, or the mask has
        another shape or type or leaves nothing.
    """

    shape: tuple[int, int]
    center_x: float
    center_y: float
    mask: NDArray[np.bool_] | None = None
    digest: str = field(init=False)
    """SHA-256 of shape, centre and mask, hexadecimal."""

    def __post_init__(self) -> None:
        try:
            shape = tuple(index(length) for length in self.shape)
        except TypeError:  # no sequence, or of something other than integers
            shape = ()
        if len(shape) != 2 or min(shape) < 1:
            raise GeometryError(f"shape must be two positive integers (rows, columns), not {self.shape!r}")
        try:
            center_x, center_y = float(self.center_x), float(self.center_y)
        except (TypeError, ValueError, OverflowError) as error:
            raise GeometryError(
                f"the beam centre must be two numbers, not x={self.center_x!r}, y={self.center_y!r}"
            ) from error
        if not (math.isfinite(center_x) and math.isfinite(center_y)):
            raise GeometryError(f"the beam centre must be finite, not x={center_x}, y={center_y}")
        mask = None if self.mask is None else _frozen_mask(self.mask, shape)
        identity = hashlib.sha256(f"{shape}|{center_x!r}|{center_y!r}|".encode())
        identity.update(b"all valid" if mask is None else np.packbits(mask).tobytes())
        for name, value in (
            ("shape", shape),
            ("center_x", center_x),
            ("center_y", center_y),
            ("mask", mask),
            ("digest", identity.hexdigest()),
        ):
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Geometry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


def _frozen_mask(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise GeometryError(
            f"the mask must be boolean with True = valid, not {mask.dtype}; "
            "a file where 1 means masked becomes one by `mask == 0`"
        )
    if mask.shape != shape:
        raise GeometryError(f"the mask has shape {mask.shape}, but frames have shape {shape}")
    if not mask.any():
        raise GeometryError("the mask leaves no valid pixel; in this software True means valid")
    mask = mask.copy()
    mask.flags.writeable = False
    return mask


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One detector exposure.

    Parameters
    ----------
    pixels
        (rows, columns) counts, any integer or floating type. Not copied: who hands a frame over must not
        write to its pixels afterwards.
    geometry
        Its geometry. Whether the shapes agree is checked where the frame is annotated, so that a frame of a
        wrong shape costs its own row and nothing else.
    origin
        Where it is stored; None for a frame that came from nowhere in particular.
    """

    pixels: NDArray[Any]
    geometry: Geometry
    origin: Origin | None = None
