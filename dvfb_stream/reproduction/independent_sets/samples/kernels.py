"""The scattering models of SasView, by way of sasmodels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import MissingExtraError, SettingsError


def radial(model: str, q: NDArray[np.float64], **parameters: float) -> NDArray[np.float64]:
    """Return the intensity of a model averaged over all orientations, as `q` (1/Å), arbitrary units.

    Parameters
    ----------
    model
        sasmodels' name; ``form@structure`` multiplies a form factor by a structure factor.
    q
        Scattering vectors, 1/Å.
    parameters
        sasmodels' own, lengths in Å, angles in degrees; what is not named keeps its default.

    Raises
    ------
    MissingExtraError
        When sasmodels is not installed.
    SettingsError
        When it cannot compile its model.
    """
    return _evaluate(model, (np.ascontiguousarray(q),), parameters)


def planar(
    model: str, q: NDArray[np.float64], azimuth: NDArray[np.float64], **parameters: float
) -> NDArray[np.float64]:
    """Return the intensity of an oriented model, (azimuths, q), in arbitrary units.

    `azimuth` is in radians; model, `q`, parameters and errors are as in `radial`. The detector is flat in reciprocal
    space, as in all of sasmodels' oriented models, so the pattern is centrosymmetric.
    """
    at = (np.outer(np.cos(azimuth), q).ravel(), np.outer(np.sin(azimuth), q).ravel())
    return _evaluate(model, at, parameters).reshape(len(azimuth), len(q))


def _evaluate(
    model: str, at: tuple[NDArray[np.float64], ...], parameters: dict[str, float]
) -> NDArray[np.float64]:
    from_kernel, kernel = _call(model)
    intensity = from_kernel(kernel.make_kernel(list(at)), {"scale": 1.0, "background": 0.0, **parameters})
    # Some models divide 0 by 0 at isolated q.
    finite: NDArray[np.float64] = np.nan_to_num(intensity, nan=0.0, posinf=0.0, neginf=0.0)
    return finite.clip(min=0.0)


@cache
def _call(model: str) -> tuple[Any, Any]:
    """Return sasmodels' caller of kernels and a compiled model; compiling takes seconds, hence the cache."""
    try:
        from sasmodels import core, direct_model
    except ImportError:
        raise MissingExtraError("sasmodels", "evaluate") from None
    try:
        # Not OpenCL: the same numbers wherever a C compiler is.
        return direct_model.call_kernel, core.load_model(model, dtype="double", platform="dll")
    except (RuntimeError, OSError) as error:
        raise SettingsError(
            f"sasmodels cannot compile its model {model!r} ({error}); it needs a C compiler"
        ) from error
