"""Arrays of a frame that are kept on request: how they are called, and as what they lie in documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation
from dvfb_stream.errors import SettingsError

DTYPE = "<f4"
"""Of all of them in documents."""


class FrameArray(StrEnum):
    """What an annotation may carry besides its row."""

    COEFFICIENTS = "coefficients"
    """Fourier-Bessel coefficients of the view, (n_radial, n_orders, 2) in documents: real and imaginary parts."""
    FEATURES = "features"
    """What the network's first fully connected layer says, (hidden,): frames that look alike to it are near."""


def named_arrays(names: Iterable[str]) -> tuple[FrameArray, ...]:
    """Return the arrays of these names, each once, in their order.

    Raises
    ------
    SettingsError
        When there is no such array, or `names` is a text.
    """
    if isinstance(names, str):
        raise SettingsError(f"arrays must be a list of names, such as [{names!r}], not the text {names!r}")
    names = list(names)
    known = [array.value for array in FrameArray]
    if unknown := [name for name in names if name not in known]:
        raise SettingsError(f"unknown array {unknown[0]!r}; there are {', '.join(known)}")
    return tuple(dict.fromkeys(FrameArray(name) for name in names))


def shapes_of(
    annotator: str, available: Mapping[str, tuple[int, ...]], names: Iterable[str]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of these names, as an annotator states them.

    Parameters
    ----------
    annotator
        What it is called in an error.
    available
        As `FrameAnnotator.arrays` states them.

    Raises
    ------
    SettingsError
        When there is no such array, or the annotator has it not.
    """
    asked = named_arrays(names)
    if missing := [name.value for name in asked if name not in available]:
        raise SettingsError(
            f"{annotator} hands out no {' and no '.join(missing)}; it has {', '.join(available) or 'no arrays'}"
        )
    return {name.value: tuple(available[name]) for name in asked}


def documented(annotation: Annotation, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an array of an annotation as its event has it; NaN where the annotation carries none.

    Raises
    ------
    ValueError
        When it has another shape.
    """
    carried: NDArray[Any] | None = getattr(annotation, FrameArray(name).value)
    if carried is None:
        return np.full(shape, np.nan, DTYPE)
    if np.iscomplexobj(carried):
        carried = np.stack([carried.real, carried.imag], axis=-1)
    if carried.shape != shape:
        raise ValueError(f"{name} has the shape {carried.shape}, not {shape}")
    return np.array(carried, DTYPE)
