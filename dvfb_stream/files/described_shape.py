"""How many images a descriptor's shape promises, and of which shape: not all that is written there is (n, H, W)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import index
from typing import Any

from dvfb_stream.files.checks import COLOURS, is_coloured


@dataclass(frozen=True, slots=True)
class DescribedShape:
    """What the shape of a data key says of its images."""

    frames: int = 1
    """Of one event."""
    rows_columns: tuple[int, int] | None = None
    """Of each; None: it does not say."""
    is_coloured: bool = False
    """Whether each is a picture in colours."""


def described_shape(shape: object) -> DescribedShape:
    """Return what the shape of a data key says; whatever is no shape says nothing.

    Parameters
    ----------
    shape
        [H, W], [n, H, W], [n, m, H, W]; [columns, rows, 0], areaDetector's ArraySize as old versions of ophyd wrote
        it; in colours [H, W, 3], [n, H, W, 3], and [n, 3, H, W] as ophyd-async writes it.
    """
    if not isinstance(shape, list | tuple) or len(shape) < 2:
        return DescribedShape()
    lengths = [_length(length) for length in shape]
    if len(lengths) == 3 and lengths[2] == 0:
        columns, rows, _ = lengths
        return DescribedShape(rows_columns=_image(rows, columns))
    if is_coloured(tuple(length or 0 for length in lengths)):
        return DescribedShape(_product(lengths[:-3]), is_coloured=True)
    if len(lengths) == 4 and lengths[1] == COLOURS[0]:
        return DescribedShape(_product(lengths[:1]), is_coloured=True)
    return DescribedShape(_product(lengths[:-2]), _image(*lengths[-2:]))


def coloured(what: str) -> str:
    """Return the reason why a coloured picture has no labels."""
    return f"{what} is a picture in colours: one frame, and pictures in colours are not annotated"


def _length(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else index(value)
    except TypeError:
        return None


def _product(lengths: list[int | None]) -> int:
    return max(1, math.prod(length for length in lengths if length is not None))


def _image(rows: int | None, columns: int | None) -> tuple[int, int] | None:
    return (rows, columns) if rows and columns and min(rows, columns) > 0 else None
